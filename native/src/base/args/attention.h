// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/attention.h>

#include "../args.h"

namespace exn {

struct AttentionArgs {
  int32_t device = 0;
  Heads query;
  KvCache cache;
  const int32_t* sequence = nullptr;
  const int32_t* visible = nullptr;
  Heads out;
  float* scores = nullptr;  // [R, H, score_slots]
  int64_t score_slots = 0;
  float scale = 1;
  float softcap = 0;
  bool batch_invariant = false;
};

}  // namespace exn
