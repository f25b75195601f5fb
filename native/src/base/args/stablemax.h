// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/stablemax.h>

#include "../args.h"

namespace exn {

struct StableMaxArgs {
  int32_t device = 0;
  Matrix logits;
  Matrix out;
  int32_t normalizer = 0;
  bool log = false;
};

struct CrossEntropyArgs {
  int32_t device = 0;
  Matrix logits;
  Vector labels;  // i32 or i64
  Vector loss;    // f64 or f32; may be null
  Matrix grad;    // may be null
  int64_t ignore_index = 0;
  int32_t normalizer = 0;
  int32_t reduction = 0;
};

}  // namespace exn
