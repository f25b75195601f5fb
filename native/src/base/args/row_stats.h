// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/row_stats.h>

#include "../args.h"

namespace exn {

struct RowStatsArgs {
  int32_t device = 0;
  Matrix logits;
  int32_t normalizer = 0;
  float temperature = 1;
  float softcap = 0;
  StatsOut out;
};

}  // namespace exn
