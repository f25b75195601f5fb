// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/exit_rule.h>

#include "../args.h"

namespace exn {

struct ExitRuleArgs {
  int32_t device = 0;
  int64_t rows = 0;
  const float* score = nullptr;
  const int32_t* label = nullptr;
  const uint8_t* valid = nullptr;
  const int32_t* step = nullptr;
  int32_t* state = nullptr;
  uint8_t* exit_mask = nullptr;
  int32_t* active_list = nullptr;
  int32_t* active_count = nullptr;
  int32_t* exit_layer = nullptr;
  int32_t rule = 0;
  int32_t comparator = 0;
  int32_t decay = 0;
  int32_t scope = 0;
  float threshold = 0;
  float decay_tau = 0;
  float decay_horizon = 1;
  int32_t step_index = 0;
  int32_t patience = 0;
  int32_t min_steps = 0;
  int32_t max_steps = 0;
  int32_t layer = 0;
  int32_t first = 0;
  int32_t force = 0;
};

}  // namespace exn
