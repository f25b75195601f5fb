// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/ffn_skip_rule.h>

#include "../args.h"

namespace exn {

struct FfnSkipRuleArgs {
  int32_t device = 0;
  int64_t rows = 0;
  const float* cosine = nullptr;
  const int32_t* token = nullptr;
  int32_t* state = nullptr;
  uint8_t* skip = nullptr;
  int32_t layer = 0;
  int32_t cold_start = 0;
  int32_t cold_end = 0;
  int32_t warm_up = 0;
  int32_t token_index = 0;
  int32_t budget = -1;
  float threshold = 0;
};

}  // namespace exn
