// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/hired_budget.h>

#include "../args.h"

namespace exn {

struct HiredBudgetArgs {
  int32_t device = 0;
  Matrix attention;           // [images, patch_rows * patch_cols]
  int32_t* budget = nullptr;  // [images, 1 + grid_rows * grid_cols]
  uint8_t* marks = nullptr;   // [images, patches]
  uint8_t* valid = nullptr;   // [images]
  int64_t patch_rows = 1;
  int64_t patch_cols = 1;
  int64_t grid_rows = 0;
  int64_t grid_cols = 0;
  // What rate and alpha come to: they do not depend on the attention.
  int64_t full_budget = 0;  // B_full
  int64_t sub_budget = 0;   // B_sub
  int64_t mark_count = 0;   // int(Nv * (1 - alpha))
  int32_t score = 0;
  int32_t region = 0;
  int32_t remainder = 0;
};

}  // namespace exn
