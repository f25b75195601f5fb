// SPDX-License-Identifier: Apache-2.0
//
// draft_rule: when each sequence stops drafting, and what verifications say about which drafter to use.
#pragma once

#include <cstdint>

#include "row_list.cuh"
#include "specdec.cuh"

namespace exn::cuda {

enum class DraftStop : int32_t { kFixed, kConfidence, kSpecDec, kDel };
enum class DraftForm : int32_t { kCode, kPaper };

struct DraftRuleTask {
  int64_t sequences;
  int64_t candidates;
  int64_t width;  // columns of final_token
  int64_t stop_count;
  const float* score;
  const int32_t* token;
  const int32_t* stop_tokens;
  int32_t* state;  // [sequences, 3]: bits of C, tokens of the draft, 1 once it has stopped
  int32_t* length;
  uint8_t* drafting;
  int32_t* active_list;
  int32_t* active_count;
  float* statistics;  // [sequences, candidates, 4]: matches, mismatches, sums of probabilities
  int32_t* plan;      // [sequences, 4]: candidate, its layers, d, updates
  const int32_t* shadow_token;
  const float* shadow_prob;
  const int32_t* final_token;
  const int32_t* columns;
  const int32_t* context;
  const int32_t* candidate;
  const uint8_t* mask;
  DraftStop rule;
  DraftForm form;
  int32_t first;
  int32_t min_steps;
  int32_t max_steps;
  int32_t model_layers;
  float threshold;
  float omega;
};

constexpr int kDraftRuleThreads = 256;
constexpr int kDraftRuleWarps = kDraftRuleThreads / kWarp;

// Word by word: what is only as aligned as its elements.
struct DraftPlan {
  int32_t candidate;
  int32_t length;
  int32_t updates;
};
__device__ __forceinline__ DraftPlan load_plan(const DraftRuleTask& task, int64_t s) {
  const int32_t* words = task.plan + 4 * s;
  return {words[0], words[2], words[3]};
}
__device__ __forceinline__ bool is_sound(const DraftRuleTask& task, const DraftPlan& plan) {
  return plan.candidate >= 0 && plan.candidate < task.candidates && plan.length >= 0 &&
         plan.updates >= 0;
}

__device__ __forceinline__ int32_t draft_layers(const DraftRuleTask& task, int64_t candidate) {
  return task.candidate != nullptr ? task.candidate[candidate]
                                   : static_cast<int32_t>(candidate + 1);
}

// ---- a step -------------------------------------------------------------------------------------

// Most tokens of the sequence's draft; -1 if its plan makes no sense.
__device__ __forceinline__ int32_t most_tokens(const DraftRuleTask& task, int64_t s) {
  if (task.rule != DraftStop::kDel) return task.max_steps;
  const DraftPlan plan = load_plan(task, s);
  if (!is_sound(task, plan)) return -1;
  if (plan.updates == 0) return 1;
  return task.form == DraftForm::kPaper && plan.length < task.max_steps ? plan.length
                                                                        : task.max_steps;
}

// DEL's threshold, of a sound plan. 0 / 0 is NaN, below which is nothing.
__device__ __forceinline__ float draft_tau(const DraftRuleTask& task, int64_t s) {
  const float* m = task.statistics + 4 * (s * task.candidates + task.plan[4 * s]);
  return __fmul_rn(__fadd_rn(__fdiv_rn(m[2], m[0]), __fdiv_rn(m[3], m[1])), 0.5f);
}

// What the rule makes of token `length` of the draft, bounds aside.
__device__ __forceinline__ bool rule_stops(const DraftRuleTask& task, int64_t s, int32_t length,
                                           float& accepted) {
  switch (task.rule) {
    case DraftStop::kFixed:
      return false;
    case DraftStop::kConfidence:
      return task.score[s] < task.threshold;
    case DraftStop::kSpecDec: {
      const float score = task.score[s];
      if (length > 1 && score == score) accepted = specdec_accepted(accepted, score, false);
      return specdec_stops(accepted, task.threshold);
    }
    default:
      return task.score[s] < draft_tau(task, s);
  }
}

__device__ __forceinline__ bool is_stop_token(const DraftRuleTask& task, int64_t s) {
  for (int64_t i = 0; i < task.stop_count; ++i) {
    if (task.token[s] == task.stop_tokens[i]) return true;
  }
  return false;
}

// One launch of one block, because the list of those that go on is ordered.
// Bytes: about 30 per sequence.
static __global__ __launch_bounds__(kDraftRuleThreads) void draft_step_kernel(DraftRuleTask task) {
  __shared__ int staying[kDraftRuleWarps];
  int64_t listed = 0;
  for (int64_t base = 0; base < task.sequences; base += kDraftRuleThreads) {
    const int64_t s = base + threadIdx.x;
    bool drafts = false;
    if (s < task.sequences) {
      int32_t* words = task.state + 3 * s;
      float accepted = task.first ? 1.0f : __int_as_float(words[0]);
      int32_t length = task.first ? 0 : words[1];
      int32_t stopped = task.first ? 0 : words[2];
      const int32_t most = most_tokens(task, s);
      if (most <= 0) stopped = 1;
      if (stopped == 0) {
        if (length < INT32_MAX) ++length;
        const bool stops = rule_stops(task, s, length, accepted) && length >= task.min_steps;
        stopped = stops || length >= most || is_stop_token(task, s);
      }
      words[0] = __float_as_int(accepted);
      words[1] = length;
      words[2] = stopped;
      drafts = stopped == 0;
      if (task.length != nullptr) task.length[s] = most < 0 ? -1 : length;
      if (task.drafting != nullptr) task.drafting[s] = drafts;
    }
    listed = append_rows(drafts, s, listed, staying, task.active_list);
  }
  end_rows(listed, task.sequences, task.active_list, task.active_count);
}

// ---- an update ----------------------------------------------------------------------------------

struct DraftShadows {
  const int32_t* token;  // [candidates, width], of one sequence
  const float* prob;
  const int32_t* final_token;
  int64_t width;

  // Neither match nor mismatch.
  __device__ __forceinline__ bool unknown(int64_t k, int64_t j) const {
    const float p = prob[k * width + j];
    return token[k * width + j] < 0 || final_token[j] < 0 || p != p;
  }
  __device__ __forceinline__ bool agrees(int64_t k, int64_t j) const {
    return token[k * width + j] == final_token[j];
  }
};

// The columns of a sequence that count: 0 if there are none, or if its plan or their number
// makes no sense.
__device__ __forceinline__ int64_t columns_of(const DraftRuleTask& task, int64_t s) {
  const int64_t columns = task.columns != nullptr ? task.columns[s] : task.width;
  const int64_t context = task.context != nullptr ? task.context[s] : 0;
  const bool sound = columns >= 0 && columns <= task.width && context >= 0 && context <= columns &&
                     is_sound(task, load_plan(task, s));
  return sound ? columns : 0;
}

// Up to the first column after the context where the drafter was wrong. Called by a warp.
__device__ __forceinline__ int64_t counted_columns(const DraftShadows& rows, int64_t drafter,
                                                   int64_t context, int64_t columns) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int64_t base = context; base < columns; base += kWarp) {
    const int64_t j = base + lane;
    const bool wrong = j < columns && (rows.unknown(drafter, j) || !rows.agrees(drafter, j));
    const unsigned votes = __ballot_sync(kFullWarp, wrong);
    if (votes != 0) return base + __ffs(static_cast<int>(votes));
  }
  return columns;
}

// Adds a candidate's columns and returns its alpha.
__device__ __forceinline__ float add_columns(const DraftShadows& rows, int64_t k, int64_t columns,
                                             float omega, float* m) {
  int64_t matches = 0, mismatches = 0;
  float match_sum = 0.0f, mismatch_sum = 0.0f;
  for (int64_t j = 0; j < columns; ++j) {
    if (rows.unknown(k, j)) continue;
    const float prob = rows.prob[k * rows.width + j];
    if (rows.agrees(k, j)) {
      ++matches;
      match_sum += prob;
    } else {
      ++mismatches;
      mismatch_sum += prob;
    }
  }
  const float m0 = __fadd_rn(__fmul_rn(omega, m[0]), static_cast<float>(matches));
  const float m1 = __fadd_rn(__fmul_rn(omega, m[1]), static_cast<float>(mismatches));
  m[0] = m0;
  m[1] = m1;
  m[2] = __fadd_rn(__fmul_rn(omega, m[2]), match_sum);
  m[3] = __fadd_rn(__fmul_rn(omega, m[3]), mismatch_sum);
  return __fdiv_rn(m0, __fadd_rn(m0, m1));
}

// A choice among candidates and lengths; the larger TPL wins, then the smaller candidate.
struct DraftChoice {
  float tpl;
  int32_t candidate;
  int32_t length;
};

// A candidate's best length, the smallest of equals.
__device__ __forceinline__ DraftChoice best_length(const DraftRuleTask& task, float alpha,
                                                   int64_t k) {
  const float model = static_cast<float>(task.model_layers);
  const float layers = static_cast<float>(draft_layers(task, k));
  DraftChoice best = {__fdiv_rn(1.0f, model), static_cast<int32_t>(k), 0};
  float sum = 1.0f;
  for (int32_t d = 1; d < task.max_steps; ++d) {
    sum = __fadd_rn(1.0f, __fmul_rn(alpha, sum));
    const float tpl = __fdiv_rn(sum, __fadd_rn(model, __fmul_rn(static_cast<float>(d), layers)));
    if (best.tpl < tpl) {
      best.tpl = tpl;
      best.length = d;
    }
  }
  return best;
}

__device__ __forceinline__ DraftChoice better_of(const DraftChoice& a, const DraftChoice& b) {
  const bool second = b.tpl > a.tpl || (b.tpl == a.tpl && b.candidate < a.candidate);
  return second ? b : a;
}

// Every lane gets the best of all.
__device__ __forceinline__ DraftChoice warp_best(DraftChoice best) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    DraftChoice other;
    other.tpl = __shfl_xor_sync(kFullWarp, best.tpl, offset);
    other.candidate = __shfl_xor_sync(kFullWarp, best.candidate, offset);
    other.length = __shfl_xor_sync(kFullWarp, best.length, offset);
    best = better_of(best, other);
  }
  return best;
}

// A warp takes a sequence, a lane its candidates.
__device__ __forceinline__ void update_sequence(const DraftRuleTask& task, int64_t s,
                                                int64_t columns) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t first = s * task.candidates * task.width;
  const DraftShadows rows = {task.shadow_token + first, task.shadow_prob + first,
                             task.final_token + s * task.width, task.width};
  const DraftPlan plan = load_plan(task, s);
  const int64_t context = task.context != nullptr ? task.context[s] : 0;
  if (plan.length > 0) columns = counted_columns(rows, plan.candidate, context, columns);
  DraftChoice best = {-1.0f, INT32_MAX, 0};
  for (int64_t k = lane; k < task.candidates; k += kWarp) {
    float* m = task.statistics + 4 * (s * task.candidates + k);
    const float alpha = add_columns(rows, k, columns, task.omega, m);
    const int32_t layers = draft_layers(task, k);
    const bool known = alpha >= 0.0f && alpha <= 1.0f;  // not NaN
    if (known && layers >= 1 && layers < task.model_layers) {
      best = better_of(best, best_length(task, alpha, k));
    }
  }
  best = warp_best(best);
  __syncwarp();  // all lanes have read the plan that lane 0 changes
  if (lane != 0) return;
  int32_t* words = task.plan + 4 * s;
  if (best.candidate != INT32_MAX) {
    words[0] = best.candidate;
    words[1] = draft_layers(task, best.candidate);
    words[2] = best.length;
  }
  if (plan.updates < INT32_MAX) words[3] = plan.updates + 1;
}

// One launch of one block, because the list of those that draft is ordered. Bytes: 8 per shadow, 32
// per candidate of a sequence.
static __global__ __launch_bounds__(kDraftRuleThreads) void draft_update_kernel(
    DraftRuleTask task) {
  __shared__ int staying[kDraftRuleWarps];
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  for (int64_t s = warp; s < task.sequences; s += kDraftRuleWarps) {
    const int64_t columns = columns_of(task, s);
    if (columns > 0) update_sequence(task, s, columns);
  }
  __syncthreads();
  int64_t listed = 0;
  for (int64_t base = 0; base < task.sequences; base += kDraftRuleThreads) {
    const int64_t s = base + threadIdx.x;
    const bool drafts = s < task.sequences && columns_of(task, s) > 0 &&
                        (task.form == DraftForm::kCode || task.plan[4 * s + 2] > 0);
    if (s < task.sequences && task.drafting != nullptr) task.drafting[s] = drafts;
    listed = append_rows(drafts, s, listed, staying, task.active_list);
  }
  end_rows(listed, task.sequences, task.active_list, task.active_count);
}

// ---- a reset ------------------------------------------------------------------------------------

static __global__ __launch_bounds__(kDraftRuleThreads) void draft_reset_kernel(DraftRuleTask task) {
  const int64_t words = 4 * task.candidates;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kDraftRuleThreads;
  int64_t i = static_cast<int64_t>(blockIdx.x) * kDraftRuleThreads + threadIdx.x;
  for (; i < task.sequences * words; i += step) {
    const int64_t s = i / words;
    if (task.mask != nullptr && task.mask[s] == 0) continue;
    task.statistics[i] = 0.0f;
    if (i % words != 0) continue;
    int32_t* plan = task.plan + 4 * s;
    plan[0] = 0;
    plan[1] = draft_layers(task, 0);
    plan[2] = 1;
    plan[3] = 0;
  }
}

}  // namespace exn::cuda
