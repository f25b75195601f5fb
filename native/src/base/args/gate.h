// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/gate.h>

#include "../args.h"

namespace exn {

struct GateArgs {
  int32_t device = 0;
  Matrix features;
  Matrix hidden_weight;  // [D,D] or [repeats*D,D]
  const float* hidden_bias = nullptr;
  Matrix out_weight;  // [O,D]
  const float* out_bias = nullptr;
  float* prob = nullptr;
  int32_t kind = 0;
  int32_t repeats = 0;
};

}  // namespace exn
