// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/token_bias.h>

#include "../args.h"

namespace exn {

struct TokenBiasArgs {
  int32_t device = 0;
  Matrix logits;
  const int32_t* ids = nullptr;
  int64_t count = 0;
  const uint8_t* mask = nullptr;
  float scale = 1;
  float add = 0;
};

}  // namespace exn
