// SPDX-License-Identifier: Apache-2.0
//
// ffn_skip_rule: which rows skip the next feed-forward block.
#pragma once

#include <cstdint>

#include "portable.cuh"

namespace exn::cuda {

struct FfnSkipRuleTask {
  int64_t rows;
  const float* cosine;   // [rows], of `layer`
  const int32_t* token;  // [rows], optional
  int32_t* state;        // [rows, 2]: 1 while the row skips, blocks skipped of this token
  uint8_t* skip;         // [rows], of layer + 1
  int32_t layer;
  int32_t cold_start;
  int32_t cold_end;
  int32_t warm_up;
  int32_t token_index;
  int32_t budget;
  float threshold;
};

constexpr int kFfnSkipRuleThreads = 128;

__device__ __forceinline__ bool is_cold(const FfnSkipRuleTask& task, int32_t layer) {
  return layer >= task.cold_start && layer < task.cold_end;
}

// Bytes: about 21 per row.
static __global__ __launch_bounds__(kFfnSkipRuleThreads) void ffn_skip_rule_kernel(
    FfnSkipRuleTask task) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kFfnSkipRuleThreads;
  int64_t row = static_cast<int64_t>(blockIdx.x) * kFfnSkipRuleThreads + threadIdx.x;
  // There are not more layers; a count from a state that was never forgotten stays in range.
  const int32_t budget = task.budget < 0 ? INT32_MAX : task.budget;
  for (; row < task.rows; row += step) {
    const bool forgets = task.layer < 0;
    const bool measures = !forgets && is_cold(task, task.layer) && task.threshold < 1;
    int32_t skips = forgets ? 0 : task.state[2 * row];
    int32_t skipped = forgets ? 0 : task.state[2 * row + 1];
    // A NaN, of a block that was skipped, is no evidence.
    if (measures && task.cosine[row] >= task.threshold) skips = 1;
    const int32_t token = task.token != nullptr ? task.token[row] : task.token_index;
    const bool affordable = skipped < budget;
    const bool skip =
        skips == 1 && is_cold(task, task.layer + 1) && token >= task.warm_up && affordable;
    task.skip[row] = skip;
    task.state[2 * row] = skips;
    task.state[2 * row + 1] = skipped + skip;
  }
}

}  // namespace exn::cuda
