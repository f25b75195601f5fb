// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/draft_rule.h>

#include "../args.h"

namespace exn {

struct DraftRuleArgs {
  int32_t device = 0;
  int64_t sequences = 0;   // S
  int64_t candidates = 0;  // K
  int64_t width = 0;       // N
  int64_t stop_count = 0;
  const float* score = nullptr;          // [S]
  const int32_t* token = nullptr;        // [S]
  const int32_t* stop_tokens = nullptr;  // [stop_count]
  int32_t* state = nullptr;              // [S, EXN_DRAFT_STATE_WORDS]
  int32_t* length = nullptr;             // [S]
  uint8_t* drafting = nullptr;           // [S]
  int32_t* active_list = nullptr;        // [S]
  int32_t* active_count = nullptr;
  float* statistics = nullptr;            // [S,K,4]
  int32_t* plan = nullptr;                // [S, EXN_DRAFT_PLAN_WORDS]
  const int32_t* shadow_token = nullptr;  // [S,K,N]
  const float* shadow_prob = nullptr;     // [S,K,N]
  const int32_t* final_token = nullptr;   // [S,N]
  const int32_t* columns = nullptr;       // [S]
  const int32_t* context = nullptr;       // [S]
  const int32_t* candidate = nullptr;     // [K]
  const uint8_t* mask = nullptr;          // [S]
  int32_t action = 0;
  int32_t rule = 0;
  int32_t form = 0;
  int32_t first = 0;
  int32_t min_steps = 0;
  int32_t max_steps = 0;
  int32_t model_layers = 0;
  float threshold = 0;
  float omega = 0;
};

}  // namespace exn
