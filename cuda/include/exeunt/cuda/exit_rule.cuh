// SPDX-License-Identifier: Apache-2.0
//
// exit_rule: which rows leave after a layer; the rules' state goes on to the next layer.
#pragma once

#include <cstdint>

#include "row_list.cuh"
#include "specdec.cuh"

namespace exn::cuda {

enum class Rule : int32_t { kThreshold, kPatience, kQuantile, kJei, kSpecDec };
enum class Comparator : int32_t { kGreaterEqual, kGreater, kLessEqual };
enum class Decay : int32_t { kNone, kCalmCode, kCalmPaper };
enum class Scope : int32_t { kEach, kAll, kLast };

struct ExitRuleTask {
  int64_t rows;
  const float* score;
  const int32_t* label;
  const uint8_t* valid;
  const int32_t* step;
  int32_t* state;  // [rows, 4]: three words of the rule's own, then the flags
  uint8_t* exit_mask;
  int32_t* active_list;
  int32_t* active_count;
  int32_t* exit_layer;
  Rule rule;
  Comparator comparator;
  Decay decay;
  Scope scope;
  float threshold;
  float decay_tau;
  float decay_horizon;
  int32_t step_index;
  int32_t patience;
  int32_t min_steps;
  int32_t max_steps;
  int32_t layer;
  int32_t first;
  int32_t force;
};

constexpr int kHasLeft = 1;     // the row left in an earlier call
constexpr int kHasHistory = 2;  // the rule has seen this row before
constexpr int kWantsExit = 4;   // this call's verdict, between the two passes

// The products below must round as written, f32 operation by operation: a fused multiply-add would
// decide differently near a threshold.
__device__ __forceinline__ float decayed_threshold(const ExitRuleTask& task, int64_t row) {
  if (task.decay == Decay::kNone) return task.threshold;
  const float t = static_cast<float>(task.step != nullptr ? task.step[row] : task.step_index);
  const float falling = expf(__fdiv_rn(__fmul_rn(-task.decay_tau, t), task.decay_horizon));
  const float level = __fmul_rn(0.9f, task.threshold);
  if (task.decay == Decay::kCalmCode) {
    return __fadd_rn(level, __fmul_rn(__fmul_rn(0.1f, task.threshold), falling));
  }
  return fminf(fmaxf(__fadd_rn(level, __fmul_rn(0.1f, falling)), 0.0f), 1.0f);
}

__device__ __forceinline__ bool compare(Comparator comparator, float score, float threshold) {
  switch (comparator) {
    case Comparator::kGreaterEqual:
      return score >= threshold;
    case Comparator::kGreater:
      return score > threshold;
    default:
      return score <= threshold;
  }
}

// Word x: the label or score before, y: how many in a row agreed.
__device__ __forceinline__ bool patience_verdict(const ExitRuleTask& task, int64_t row,
                                                 int4& state) {
  const bool by_label = task.label != nullptr;
  const int now = by_label ? task.label[row] : __float_as_int(task.score[row]);
  bool agrees = false;
  if (state.w & kHasHistory) {
    agrees = by_label ? now == state.x
                      : fabsf(__int_as_float(now) - __int_as_float(state.x)) < task.threshold;
  }
  state.x = now;
  state.y = agrees ? state.y + 1 : 0;
  return task.patience > 0 && state.y >= task.patience;
}

// Word x: product of (1 - lambda) so far.
__device__ __forceinline__ bool quantile_verdict(const ExitRuleTask& task, float score,
                                                 int4& state) {
  const float before = state.w & kHasHistory ? __int_as_float(state.x) : 1.0f;
  const float stays = __fmul_rn(before, __fsub_rn(1.0f, score));
  state.x = __float_as_int(stays);
  return __fsub_rn(1.0f, stays) > task.threshold;
}

// Word x: sum of g so far, y: product of (1 - a) so far.
__device__ __forceinline__ bool jei_verdict(const ExitRuleTask& task, float score, int4& state) {
  const bool known = state.w & kHasHistory;
  const float sum = known ? __int_as_float(state.x) : 0.0f;
  const float stays = known ? __int_as_float(state.y) : 1.0f;
  const float p = fmaxf(fminf(score, __fsub_rn(1.0f, sum)), 0.0f);
  // Nothing is left to leave with once an earlier a was 1.
  const float a = stays > 0.0f ? fminf(fmaxf(__fdiv_rn(p, stays), 0.0f), 1.0f) : 1.0f;
  state.x = __float_as_int(__fadd_rn(sum, score));
  state.y = __float_as_int(__fmul_rn(stays, __fsub_rn(1.0f, a)));
  return a >= task.threshold;
}

// Word x: product of the acceptance probabilities, y: calls so far.
__device__ __forceinline__ bool specdec_verdict(const ExitRuleTask& task, float score,
                                                int4& state) {
  const bool known = state.w & kHasHistory;
  const float accepted = specdec_accepted(__int_as_float(state.x), score, !known);
  const int calls = (known ? state.y : 0) + 1;
  state.x = __float_as_int(accepted);
  state.y = calls;
  if (task.max_steps > 0 && calls >= task.max_steps) return true;
  return calls >= task.min_steps && specdec_stops(accepted, task.threshold);
}

__device__ __forceinline__ bool rule_verdict(const ExitRuleTask& task, int64_t row, float score,
                                             int4& state) {
  switch (task.rule) {
    case Rule::kThreshold:
      return compare(task.comparator, score, decayed_threshold(task, row));
    case Rule::kPatience:
      return patience_verdict(task, row, state);
    case Rule::kQuantile:
      return quantile_verdict(task, score, state);
    case Rule::kJei:
      return jei_verdict(task, score, state);
    default:
      return specdec_verdict(task, score, state);
  }
}

__device__ __forceinline__ bool is_valid(const ExitRuleTask& task, int64_t row) {
  return task.valid == nullptr || task.valid[row] != 0;
}

// Updates an active row's state and says whether its own verdict is to leave. An invalid row or a
// NaN score is no evidence: the state stays as it was.
__device__ __forceinline__ bool verdict(const ExitRuleTask& task, int64_t row, int4& state) {
  const float score = task.score != nullptr ? task.score[row] : 0.0f;
  if (!is_valid(task, row) || score != score) return false;
  const bool leaves = rule_verdict(task, row, score, state);
  state.w |= kHasHistory;
  return leaves;
}

// Word by word: the state is only as aligned as its elements.
__device__ __forceinline__ int4 load_words(const int32_t* state, int64_t row) {
  const int32_t* words = state + 4 * row;
  return make_int4(words[0], words[1], words[2], words[3]);
}
__device__ __forceinline__ void store_words(int32_t* state, int64_t row, const int4& value) {
  int32_t* words = state + 4 * row;
  words[0] = value.x;
  words[1] = value.y;
  words[2] = value.z;
  words[3] = value.w;
}

constexpr int kExitRuleThreads = 256;

// What the first pass tells the second of a thread's rows, for so many of them: bits in registers.
// Of later ones it is in the state.
constexpr int kKeptRounds = 32;

// Everything in one launch of one block, because the decision may be common to all rows and the
// list of those that stay is ordered. Two passes over the rows, each thread over the same rows in
// both.
//
// Bytes: about 40 per row, and for a row that leaves its flags once more, from the L1 cache. From
// row 8192 on those of each row.
static __global__ __launch_bounds__(kExitRuleThreads) void exit_rule_kernel(ExitRuleTask task) {
  constexpr int kWarps = kExitRuleThreads / kWarp;
  __shared__ int staying[kWarps];
  __shared__ int last_leaves;
  const int thread = static_cast<int>(threadIdx.x);

  // Pass 1: update the rule's state, note each active row's verdict.
  bool somebody_stays = false;
  unsigned had_left = 0, wants_exit = 0;
  if (thread == 0) last_leaves = 0;
  __syncthreads();
  for (int64_t row = thread; row < task.rows; row += kExitRuleThreads) {
    const int64_t round = row / kExitRuleThreads;
    const unsigned bit = round < kKeptRounds ? 1u << round : 0;
    int4 state = task.first ? make_int4(0, 0, 0, 0) : load_words(task.state, row);
    state.w &= ~kWantsExit;
    if (state.w & kHasLeft) {
      had_left |= bit;
    } else {
      const bool leaves = verdict(task, row, state);
      if (leaves) wants_exit |= bit;
      if (leaves && bit == 0) state.w |= kWantsExit;
      somebody_stays |= !leaves;
      if (row == task.rows - 1) last_leaves = leaves;
    }
    store_words(task.state, row, state);
  }
  const bool all_leave = !__syncthreads_or(somebody_stays);

  // Pass 2: which rows leave, and the ascending list of those that stay.
  int64_t listed = 0;
  for (int64_t base = 0; base < task.rows; base += kExitRuleThreads) {
    const int64_t row = base + thread;
    bool stays = false;
    if (row < task.rows) {
      int32_t& flags = task.state[4 * row + 3];
      const int64_t round = base / kExitRuleThreads;
      const unsigned bit = round < kKeptRounds ? 1u << round : 0;
      bool active = (had_left & bit) == 0;
      bool leaves = (wants_exit & bit) != 0;
      if (bit == 0) {
        const int32_t noted = flags;
        active = (noted & kHasLeft) == 0;
        leaves = (noted & kWantsExit) != 0;
        if (leaves) flags = noted & ~kWantsExit;
      }
      if (task.scope == Scope::kAll) leaves = all_leave;
      if (task.scope == Scope::kLast) leaves = last_leaves != 0;
      leaves = active && ((leaves && is_valid(task, row)) || task.force);
      stays = active && !leaves;
      if (leaves) flags |= kHasLeft;
      if (task.exit_mask != nullptr) task.exit_mask[row] = leaves;
      if (task.exit_layer != nullptr && (leaves || task.first))
        task.exit_layer[row] = leaves ? task.layer : -1;
    }
    listed = append_rows(stays, row, listed, staying, task.active_list);
  }
  end_rows(listed, task.rows, task.active_list, task.active_count);
}

}  // namespace exn::cuda
