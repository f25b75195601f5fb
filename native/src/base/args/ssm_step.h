// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/ssm_step.h>

#include "../args.h"

namespace exn {

struct SsmStepArgs {
  int32_t device = 0;
  Matrix x;
  float* state = nullptr;         // [states, columns of x, width]
  const float* weight = nullptr;  // [columns of x, width]
  const float* bias = nullptr;
  Matrix dt;
  Matrix b;
  Matrix c;
  const float* skip = nullptr;
  Matrix z;
  Matrix out;
  const int32_t* sequence = nullptr;
  const uint8_t* active = nullptr;
  int64_t states = 0;
  int64_t width = 0;
  int32_t stage = 0;
};

}  // namespace exn
