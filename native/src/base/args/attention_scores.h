// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/attention_scores.h>

#include "../args.h"

namespace exn {

struct AttentionScoresArgs {
  int32_t device = 0;
  Heads query;
  KvCache keys;                       // v is null or not to be read
  const int32_t* sequence = nullptr;  // [prompts]; null: prompt s is sequence s
  const int32_t* visible = nullptr;   // [prompts * window]
  const int32_t* limit = nullptr;     // [prompts]
  float* scores = nullptr;            // [prompts, score_heads, columns]; null only with a selection
  Selection selection;                // rows: prompts * score_heads
  int64_t prompts = 0;
  int64_t window = 1;
  int64_t columns = 0;
  int64_t first = 0;
  int64_t score_heads = 1;
  float scale = 1;
  int32_t kind = 0;
  int32_t reduction = 0;
  int32_t pool = 0;
  int32_t pool_width = 1;  // 1 without pooling
  bool accumulate = false;
};

}  // namespace exn
