// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/linear.h>

#include "../args.h"

namespace exn {

struct LinearArgs {
  int32_t device = 0;
  Matrix input;
  Matrix weight;
  const float* bias = nullptr;  // [N]
  Matrix residual;
  Matrix out;
};

}  // namespace exn
