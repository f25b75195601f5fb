// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/hidden_stack.h>

#include "../args.h"

namespace exn {

struct HiddenStackArgs {
  int32_t device = 0;
  Matrix stack;
  int32_t* stack_tags = nullptr;
  int64_t tag_count = 0;  // M
  int32_t* count = nullptr;
  Matrix rows;
  int32_t* tags = nullptr;
  const uint8_t* mask = nullptr;
  int32_t* overflow = nullptr;
  int32_t action = 0;
};

}  // namespace exn
