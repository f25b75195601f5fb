// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/elr.h>

#include "../args.h"

namespace exn {

struct ElrArgs {
  int32_t device = 0;
  Matrix logits;
  Vector labels;  // i32 or i64
  const int32_t* index = nullptr;
  Matrix targets;
  Vector loss;  // may be null
  Matrix grad;  // may be null
  int64_t ignore_index = 0;
  float beta = 0;
  float lambda = 0;
  int32_t reduction = 0;
};

}  // namespace exn
