// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/column_norms.h>

#include "../args.h"

namespace exn {

struct ColumnNormsArgs {
  int32_t device = 0;
  Matrix x;
  const uint8_t* active = nullptr;     // [rows]
  float* sums = nullptr;               // [columns]
  float* norms = nullptr;              // [columns]
  float root = 1;                      // of the scale
  exn_column_norms_params given = {};  // for numbers that kernels take as they are
};

}  // namespace exn
