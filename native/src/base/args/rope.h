// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/rope.h>

#include "../args.h"

namespace exn {

struct RopeTableArgs {
  int32_t device = 0;
  float* table = nullptr;  // [positions, pairs, 2]
  int64_t positions = 0;
  int64_t pairs = 0;
  double base = 1;     // NTK applied
  double divisor = 1;  // of the position
};

struct RopeArgs {
  int32_t device = 0;
  Heads input;
  Heads out;
  const int32_t* position = nullptr;
  RopeTable table;
  int32_t style = 0;
};

}  // namespace exn
