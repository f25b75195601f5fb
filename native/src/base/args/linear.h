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
  Matrix adapter_down;   // [K,D]
  Matrix adapter_up;     // [K,N]
  Matrix adapter_scale;  // [R,K]
  bool int8_input = false;
};

}  // namespace exn
