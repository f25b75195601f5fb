// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/layer_schedule.h>

#include "../args.h"

namespace exn {

struct LayerScheduleArgs {
  int32_t device = 0;
  int64_t positions = 0;
  int64_t model_layers = 0;
  int32_t* layers = nullptr;
  int32_t* count = nullptr;
  uint8_t* exit_test = nullptr;
  float* threshold = nullptr;
  const int32_t* order = nullptr;
  int64_t order_count = 0;
  int32_t kind = 0;
  int32_t prompt = 0;
  int32_t horizon = 1;
  int32_t most = 0;
  int32_t least = 0;
  int32_t warm_up = 0;
  int32_t first_exit = 0;
  int32_t min_exit = 0;
  int32_t interval = 1;
  int32_t decay = 0;
  float start_threshold = 0;
  float tau = 0;
};

}  // namespace exn
