// SPDX-License-Identifier: Apache-2.0
//
// stop_rule: which samples have ended, and which of them wins.
#pragma once

#include <cstdint>

#include "elements.cuh"
#include "reduce.cuh"

namespace exn::cuda {

enum class Stop : int32_t { kRunning, kToken, kConfident, kAbstained, kBudget, kCancelled };
enum class StopScope : int32_t { kEach, kFirst };
enum class Choice : int32_t { kFirst, kPerplexity, kCertainty };

template <class T>
struct StopRuleTask {
  int64_t rows;
  const int32_t* token;
  const int32_t* stop_ids;
  int64_t stop_count;
  const float* log_p;  // or logits and lse, or neither
  const T* logits;
  int64_t stride;
  const float* lse;
  const float* mean_log_p;
  const float* confidence;
  const int32_t* answer_ids;  // instead of confidence
  int64_t answer_count;
  const float* entropy;
  int32_t* state;  // [rows, 6]
  uint8_t* finished;
  int32_t* reason;
  float* score;
  int32_t* trials;
  int32_t* active_list;
  int32_t* active_count;
  int32_t* winner;
  int32_t vocabulary;
  float log_vocabulary;
  StopScope scope;
  Choice choice;
  int32_t budget;
  float temperature;
  float confident_at;
  float abstain_below;
  float trials_low;
  float trials_high;
  int32_t most_trials;
  int32_t first;
};

constexpr int kStopWords = 6;
constexpr int kStopReason = 0xff;
constexpr int kCompleteFirst = 0x100;
constexpr int kEndsNow = 0x200;  // between the two passes

struct StopState {
  int32_t status;
  int32_t tokens;
  float log_p;
  float log_p_rest;
  float certainty;
  float certainty_rest;
};

__device__ __forceinline__ StopState load_stop_state(const int32_t* state, int64_t row) {
  const int32_t* words = state + kStopWords * row;
  return {words[0],
          words[1],
          __int_as_float(words[2]),
          __int_as_float(words[3]),
          __int_as_float(words[4]),
          __int_as_float(words[5])};
}
__device__ __forceinline__ void store_stop_state(int32_t* state, int64_t row, const StopState& s) {
  int32_t* words = state + kStopWords * row;
  words[0] = s.status;
  words[1] = s.tokens;
  words[2] = __float_as_int(s.log_p);
  words[3] = __float_as_int(s.log_p_rest);
  words[4] = __float_as_int(s.certainty);
  words[5] = __float_as_int(s.certainty_rest);
}

__device__ __forceinline__ Stop stop_reason(const StopState& s) {
  return static_cast<Stop>(s.status & kStopReason);
}
__device__ __forceinline__ bool is_complete(const StopState& s) {
  return stop_reason(s) == Stop::kToken || stop_reason(s) == Stop::kConfident;
}

// Knuth's two-sum; an infinity or a NaN has no rest.
__device__ __forceinline__ void add_to_sum(float& sum, float& rest, float x) {
  const float s = __fadd_rn(sum, x);
  const float back = __fsub_rn(s, sum);
  const float lost = __fadd_rn(__fsub_rn(sum, __fsub_rn(s, back)), __fsub_rn(x, back));
  sum = s;
  if (fabsf(s) < INFINITY) rest = __fadd_rn(rest, lost);
}

// What the token of a row that runs is, if it drew one.
template <class T>
__device__ __forceinline__ bool draws(const StopRuleTask<T>& task, int64_t row) {
  const int32_t token = task.token[row];
  return token >= 0 && token < task.vocabulary;
}

template <class T>
__device__ __forceinline__ void count_token(const StopRuleTask<T>& task, int64_t row,
                                            StopState& s) {
  s.tokens = s.tokens < INT32_MAX ? s.tokens + 1 : INT32_MAX;
  if (task.log_p != nullptr) add_to_sum(s.log_p, s.log_p_rest, task.log_p[row]);
  if (task.logits != nullptr) {
    const float z = widen(task.logits[row * task.stride + task.token[row]]);
    add_to_sum(s.log_p, s.log_p_rest, __fsub_rn(__fdiv_rn(z, task.temperature), task.lse[row]));
  }
  if (task.mean_log_p != nullptr) {
    add_to_sum(s.certainty, s.certainty_rest,
               __fsub_rn(-task.mean_log_p[row], task.log_vocabulary));
  }
}

template <class T>
__device__ __forceinline__ bool is_stop_id(const StopRuleTask<T>& task, int32_t token) {
  bool found = false;
  for (int64_t i = 0; i < task.stop_count; ++i) found |= task.stop_ids[i] == token;
  return found;
}

// NaN where there is none.
template <class T>
__device__ __forceinline__ float confidence_of(const StopRuleTask<T>& task, int64_t row) {
  if (task.confidence != nullptr) return task.confidence[row];
  if (task.answer_ids == nullptr) return NAN;
  float sum = 0;
  for (int64_t i = 0; i < task.answer_count; ++i) {
    const int32_t id = task.answer_ids[i];
    if (id < 0 || id >= task.vocabulary) continue;
    const float z = widen(task.logits[row * task.stride + id]);
    sum = __fadd_rn(sum, expf(__fsub_rn(__fdiv_rn(z, task.temperature), task.lse[row])));
  }
  return sum;
}

template <class T>
__device__ __forceinline__ Stop stop_verdict(const StopRuleTask<T>& task, int64_t row,
                                             const StopState& s) {
  if (draws(task, row) && is_stop_id(task, task.token[row])) return Stop::kToken;
  const float c = confidence_of(task, row);
  if (task.confident_at > 0 && c >= task.confident_at) return Stop::kConfident;
  if (c < task.abstain_below) return Stop::kAbstained;
  return s.tokens >= task.budget ? Stop::kBudget : Stop::kRunning;
}

template <class T>
__device__ __forceinline__ float stop_score(const StopRuleTask<T>& task, const StopState& s) {
  if (s.tokens <= 0) return NAN;
  const float sum = task.choice == Choice::kCertainty ? __fadd_rn(s.certainty, s.certainty_rest)
                                                      : __fadd_rn(s.log_p, s.log_p_rest);
  return __fdiv_rn(sum, static_cast<float>(s.tokens));
}

template <class T>
__device__ __forceinline__ int32_t trials_of(const StopRuleTask<T>& task, float entropy) {
  const float share =
      __fdiv_rn(__fsub_rn(entropy, task.trials_low), __fsub_rn(task.trials_high, task.trials_low));
  if (!(share > 0)) return 1;  // also NaN
  const float more = __fmul_rn(static_cast<float>(task.most_trials - 1), fminf(share, 1.0f));
  return static_cast<int32_t>(__fadd_rn(1.0f, more));
}

template <class T>
__device__ __forceinline__ bool may_win(const StopRuleTask<T>& task, const StopState& s) {
  if (task.choice == Choice::kFirst) return is_complete(s) && (s.status & kCompleteFirst) != 0;
  return is_complete(s) || stop_reason(s) == Stop::kBudget;
}

// The larger the score, and then the lower the row, the larger is this; 0: no row. A NaN is
// below every number, and -0 is 0.
__device__ __forceinline__ unsigned long long rank_of(float score, int64_t row) {
  unsigned order = 1;
  if (score == score) {
    const unsigned bits = __float_as_uint(__fadd_rn(score, 0.0f));
    order = bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
  }
  return static_cast<unsigned long long>(order) << 32 | (0xffffffffu - static_cast<unsigned>(row));
}

struct Larger {
  __device__ __forceinline__ static unsigned long long apply(unsigned long long a,
                                                             unsigned long long b) {
    return a > b ? a : b;
  }
};

constexpr int kStopRuleThreads = 256;

// Pass 1: every row by itself, each thread over rows of its own. Whether one of them was complete
// before, and whether one completes.
template <class T>
__device__ __forceinline__ void judge_rows(const StopRuleTask<T>& task, bool& was_complete,
                                           bool& completes) {
  for (int64_t row = threadIdx.x; row < task.rows; row += kStopRuleThreads) {
    StopState s = {};
    if (task.first == 0) s = load_stop_state(task.state, row);
    if (stop_reason(s) != Stop::kRunning) {
      was_complete |= is_complete(s);
      continue;
    }
    if (draws(task, row)) count_token(task, row, s);
    s.status = static_cast<int32_t>(stop_verdict(task, row, s));
    completes |= is_complete(s);
    if (s.status != 0) s.status |= kEndsNow;
    store_stop_state(task.state, row, s);
  }
}

// What the others' ends mean to a row: its results, and `best` if it may win. Whether it goes on.
template <class T>
__device__ __forceinline__ bool settle_row(const StopRuleTask<T>& task, int64_t row, bool before,
                                           bool cancels, unsigned long long& best) {
  StopState s = load_stop_state(task.state, row);
  if ((s.status & kEndsNow) != 0) {
    s.status ^= kEndsNow;
    if (is_complete(s) && !before) s.status |= kCompleteFirst;
  }
  const bool runs = stop_reason(s) == Stop::kRunning && !cancels;
  if (cancels && stop_reason(s) == Stop::kRunning) {
    s.status = static_cast<int32_t>(Stop::kCancelled);
  }
  task.state[kStopWords * row] = s.status;
  const float score = stop_score(task, s);
  if (may_win(task, s)) {
    best = Larger::apply(best, rank_of(task.choice == Choice::kFirst ? 0.0f : score, row));
  }
  if (task.finished != nullptr) task.finished[row] = !runs;
  if (task.reason != nullptr) task.reason[row] = s.status & kStopReason;
  if (task.score != nullptr) task.score[row] = score;
  if (task.trials != nullptr) task.trials[row] = runs ? trials_of(task, task.entropy[row]) : 0;
  return runs;
}

// Everything in one launch of one block, because a decision may be common to all rows and the list
// of those that go on is ordered. Two passes over the rows, each thread over the same rows in both.
//
// Bytes: about 80 per row, and its state once more, from the L1 cache.
template <class T>
__global__ __launch_bounds__(kStopRuleThreads) void stop_rule_kernel(StopRuleTask<T> task) {
  constexpr int kWarps = kStopRuleThreads / kWarp;
  __shared__ int going_on[kWarps];
  __shared__ unsigned long long ranks[kWarps];
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarp;
  const int lane = thread % kWarp;

  bool was_complete = false, completes = false;
  judge_rows(task, was_complete, completes);
  const bool before = __syncthreads_or(was_complete);
  const bool now = __syncthreads_or(completes);
  const bool cancels = task.scope == StopScope::kFirst && (before || now);

  // Pass 2: what that means to the others, and the ascending list of those that go on.
  int64_t listed = 0;
  unsigned long long best = 0;
  for (int64_t base = 0; base < task.rows; base += kStopRuleThreads) {
    const int64_t row = base + thread;
    bool runs = false;
    if (row < task.rows) {
      runs = settle_row(task, row, before, cancels, best);
    }
    const unsigned votes = __ballot_sync(kFullWarp, runs);
    if (lane == 0) going_on[warp] = __popc(votes);
    __syncthreads();
    int64_t at = listed;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) {
      if (i < warp) at += going_on[i];
      listed += going_on[i];
    }
    if (runs && task.active_list != nullptr) {
      task.active_list[at + __popc(votes & ((1u << lane) - 1u))] = static_cast<int32_t>(row);
    }
    __syncthreads();  // the next round writes `going_on` again
  }
  if (task.active_list != nullptr) {
    for (int64_t i = listed + thread; i < task.rows; i += kStopRuleThreads)
      task.active_list[i] = -1;
  }
  best = block_reduce<Larger, kWarps>(best, ranks);
  if (thread != 0) return;
  if (task.active_count != nullptr) *task.active_count = static_cast<int32_t>(listed);
  if (task.winner != nullptr) {
    *task.winner = best == 0 ? -1 : static_cast<int32_t>(0xffffffffu - static_cast<unsigned>(best));
  }
}

}  // namespace exn::cuda
