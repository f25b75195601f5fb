// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/stop_rule.h>

#include "../args.h"

namespace exn {

struct StopRuleArgs {
  int32_t device = 0;
  int64_t rows = 0;
  const int32_t* token = nullptr;
  const int32_t* stop_ids = nullptr;
  int64_t stop_count = 0;
  const float* log_p = nullptr;
  Matrix logits;  // instead of log_p
  const float* lse = nullptr;
  const float* mean_log_p = nullptr;
  const float* confidence = nullptr;
  const int32_t* answer_ids = nullptr;  // instead of confidence
  int64_t answer_count = 0;
  const float* entropy = nullptr;
  int32_t* state = nullptr;
  uint8_t* finished = nullptr;
  int32_t* reason = nullptr;
  float* score = nullptr;
  int32_t* trials = nullptr;
  int32_t* active_list = nullptr;
  int32_t* active_count = nullptr;
  int32_t* winner = nullptr;
  int32_t vocabulary = 1;
  float log_vocabulary = 0;
  int32_t scope = 0;
  int32_t choice = 0;
  int32_t budget = INT32_MAX;  // also where there is none
  float temperature = 1;
  float confident_at = 0;
  float abstain_below = 0;
  float trials_low = 0;
  float trials_high = 1;
  int32_t most_trials = 1;
  int32_t first = 0;
};

}  // namespace exn
