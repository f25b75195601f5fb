// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/norm.h>

#include "../args.h"

namespace exn {

struct NormArgs {
  int32_t device = 0;
  Matrix input;
  Matrix out;
  const float* weight = nullptr;  // [D]
  const float* bias = nullptr;    // [D]
  int32_t norm = 0;
  float eps = 0;
};

}  // namespace exn
