// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/ffn.h>

#include "../args.h"

namespace exn {

struct FfnArgs {
  int32_t device = 0;
  Matrix hidden;
  Matrix out;
  const float* norm_weight = nullptr;
  const float* norm_bias = nullptr;
  Matrix gate_weight;
  const float* gate_bias = nullptr;
  Matrix up_weight;
  const float* up_bias = nullptr;
  Matrix down_weight;
  const float* down_bias = nullptr;
  const uint8_t* skip = nullptr;
  float* cosine = nullptr;
  float* branch_cosine = nullptr;
  int32_t norm = 0;
  float norm_eps = 0;
  int32_t activation = 0;
  bool int8_input = false;
};

}  // namespace exn
