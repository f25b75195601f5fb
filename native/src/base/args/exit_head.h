// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/exit_head.h>

#include "../args.h"

namespace exn {

struct ExitHeadArgs {
  int32_t device = 0;
  Matrix hidden;
  Matrix weight;
  const float* bias = nullptr;         // [V]
  const float* norm_weight = nullptr;  // [D]
  const float* norm_bias = nullptr;    // [D]
  Matrix translator;                   // [D,D]
  const float* translator_bias = nullptr;
  Vector shortlist;  // i32 [N]
  int32_t norm = 0;
  float norm_eps = 0;
  int32_t translate = 0;
  int32_t normalizer = 0;
  float temperature = 1;
  float softcap = 0;
  StatsOut out;
  const char* screen = nullptr;  // the image, whose header is sound where the CPU can read it
  int64_t screen_bytes = 0;
  uint8_t* certified = nullptr;
  float* p1_low = nullptr;
  float* p1_high = nullptr;
  int32_t* rows_read = nullptr;
  int64_t screen_budget = 0;
  int32_t screen_level = 0;
  float screen_factor = 0;  // 0: proven bounds
};

}  // namespace exn
