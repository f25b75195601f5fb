// SPDX-License-Identifier: Apache-2.0
//
// verify: how much of a draft the target keeps, the token after it, and the counters of the next
// round.
#pragma once

#include <climits>
#include <cstdint>

#include "elements.cuh"
#include "stats.cuh"
#include "storage.cuh"

namespace exn::cuda {

enum class RoundOutcome : int32_t { kOff, kGoesOn, kStopped, kFull, kInvalid };

struct VerifyTask {
  int64_t sequences;  // S
  int64_t most;       // K
  const int32_t* drafted;
  const int32_t* draft_length;
  uint8_t* active;
  const int32_t* argmax;  // greedy
  const int32_t* stop;
  int64_t stops;
  int32_t* accepted;
  int32_t* token;
  int32_t* out;
  int32_t* out_count;
  int32_t* last_row;
  int32_t* outcome;
  int32_t* length;
  int32_t* position;
  int64_t capacity;  // of length; the largest int32_t where it has no bound
  bool bounded;      // it has one
};

// ---- a round, by a warp for each sequence -------------------------------------------------------

constexpr int kVerifyThreads = 128;
constexpr int kVerifyWarps = kVerifyThreads / kWarp;
// Per SM, of kernels that take many registers: unless told, the compiler tries for more blocks on
// some architectures, and spills.
constexpr int kVerifyBlocks = 8;

// The tokens of a draft, or why there is none.
constexpr int64_t kDraftOff = -1, kDraftInvalid = -2;

// All lanes of a warp get n, the tokens of the draft of sequence s.
__device__ __forceinline__ int64_t drafted_by(const VerifyTask& task, int64_t s) {
  if (task.active != nullptr && task.active[s] == 0) return kDraftOff;
  const int64_t most = task.draft_length != nullptr ? task.draft_length[s] : task.most;
  if (most < 0 || most > task.most) return kDraftInvalid;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  int64_t n = most;
  for (int64_t begin = 0; begin < n; begin += kWarp) {
    const int64_t i = begin + lane;
    const unsigned ends = __ballot_sync(kFullWarp, i < n && task.drafted[s * task.most + i] < 0);
    if (ends != 0) n = begin + __ffs(static_cast<int>(ends)) - 1;
  }
  const bool fits =
      (task.length == nullptr || (task.length[s] >= 0 && task.length[s] + n < task.capacity)) &&
      (task.position == nullptr || (task.position[s] >= 0 && task.position[s] + n < INT32_MAX));
  return fits ? n : kDraftInvalid;
}

__device__ __forceinline__ bool stops_at(const VerifyTask& task, int32_t token) {
  bool stops = false;
  for (int64_t i = 0; i < task.stops; ++i) stops |= task.stop[i] == token;
  return stops;
}

// Writes what comes out of a round: the first `kept` tokens of the draft and `after`, which is
// below 0 if a row was invalid. By all lanes of a warp.
__device__ __forceinline__ void finish_round(const VerifyTask& task, int64_t s, int64_t n,
                                             int64_t kept, int32_t after) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int32_t* draft = task.drafted + s * task.most;
  const int64_t most = kept + (after >= 0 ? 1 : 0);
  int64_t count = most;
  int32_t newest = -1;
  bool stopped = false;
  for (int64_t begin = 0; begin <= task.most; begin += kWarp) {
    const int64_t i = begin + lane;
    int32_t token = -1;
    if (i < count) token = i < kept ? draft[i] : after;
    const unsigned stops = __ballot_sync(kFullWarp, i < count && stops_at(task, token));
    if (stops != 0) {
      count = begin + __ffs(static_cast<int>(stops));
      stopped = true;
    }
    if (count > begin && count <= begin + kWarp) {
      newest = __shfl_sync(kFullWarp, token, static_cast<int>(count - 1 - begin));
    }
    if (task.out != nullptr && i <= task.most) {
      task.out[s * (task.most + 1) + i] = i < count ? token : -1;
    }
  }
  const int32_t length = task.length != nullptr ? task.length[s] + static_cast<int32_t>(count) : 0;
  const int32_t position =
      task.position != nullptr ? task.position[s] + static_cast<int32_t>(count) : 0;
  __syncwarp();  // all lanes have read the counters
  if (lane != 0) return;
  if (count > 0) {
    task.token[s] = newest;
    if (task.length != nullptr) task.length[s] = length;
    if (task.position != nullptr) task.position[s] = position;
  }
  const bool full = task.bounded && length == task.capacity;
  const RoundOutcome outcome = n == kDraftOff ? RoundOutcome::kOff
                               : stopped      ? RoundOutcome::kStopped
                               : after < 0    ? RoundOutcome::kInvalid
                               : full         ? RoundOutcome::kFull
                                              : RoundOutcome::kGoesOn;
  task.accepted[s] = static_cast<int32_t>(count < kept ? count : kept);
  if (task.out_count != nullptr) task.out_count[s] = static_cast<int32_t>(count);
  if (task.last_row != nullptr) {
    task.last_row[s] = count > 0 ? static_cast<int32_t>(s * (task.most + 1) + count - 1) : -1;
  }
  if (task.outcome != nullptr) task.outcome[s] = static_cast<int32_t>(outcome);
  if (task.active != nullptr) task.active[s] = outcome == RoundOutcome::kGoesOn;
}

// The greedy form. Bytes: about 12 per drafted token and 40 per sequence. One warp per sequence,
// lanes side by side over the draft: a round waits for memory a few times, however long it is.
static __global__ __launch_bounds__(kVerifyThreads) void verify_greedy_kernel(VerifyTask task) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t warp = int64_t{blockIdx.x} * kVerifyWarps + threadIdx.x / kWarp;
  for (int64_t s = warp; s < task.sequences; s += int64_t{gridDim.x} * kVerifyWarps) {
    const int64_t n = drafted_by(task, s);
    const int32_t* best = task.argmax + s * (task.most + 1);
    int64_t kept = n < 0 ? 0 : n;
    for (int64_t begin = 0; begin < kept; begin += kWarp) {
      const int64_t i = begin + lane;
      const unsigned differs =
          __ballot_sync(kFullWarp, i < kept && task.drafted[s * task.most + i] != best[i]);
      if (differs != 0) kept = begin + __ffs(static_cast<int>(differs)) - 1;
    }
    finish_round(task, s, n, kept, n < 0 ? -1 : best[kept]);
  }
}

// ---- sampled: rows ------------------------------------------------------------------------------

// A row's softmax, p_j = exp(z_j - level) / sum, and that of a tile of it.
struct RowSums {
  float level;
  float sum;  // NaN or 0: the row is invalid, or the tile has no share
};

template <class T>
struct VerifyRowsTask {
  VerifyTask round;
  const T* logits;
  int64_t per_draft;  // rows of a sequence: K or K + 1
  int64_t columns;
  int64_t stride;
  int64_t tiles;
  float inverse_temperature;
  RowSums* sums;  // [S * per_draft, tiles]
};

__device__ __forceinline__ float treated(float z, float inverse_temperature) {
  // Rounded as written: fused with the subtraction of the largest, that one's share would not be 1.
  return __fmul_rn(z, inverse_temperature);
}

// Sums of the tiles of all rows that a draft reaches, over the grid of tiles and rows.
//
// Bytes: the logits once, also of rows that follow a rejection, which is not known yet.
template <class T>
__global__ __launch_bounds__(kTileThreads) void verify_rows_kernel(VerifyRowsTask<T> task) {
  __shared__ float tops[kTileThreads / kWarp];
  __shared__ float sums[kTileThreads / kWarp];
  const int64_t begin = int64_t{blockIdx.x} * kTile<T>;
  const int count = tile_count(begin, task.columns, kTile<T>);
  const int64_t rows = task.round.sequences * task.per_draft;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const int64_t s = row / task.per_draft, i = row % task.per_draft;
    const int64_t n = drafted_by(task.round, s);
    // The target's row after the draft counts as well.
    if (i >= n + (task.per_draft - task.round.most)) continue;
    float values[kTileItems<T>];
    load_tile(task.logits + row * task.stride + begin, count, -INFINITY, values);
    float largest = -INFINITY;
#pragma unroll
    for (float& z : values) {
      z = treated(z, task.inverse_temperature);
      largest = fmaxf(largest, z);
    }
    largest = block_reduce<Max, kTileThreads / kWarp>(largest, tops);
    const FastSoftmax softmax(largest);
    FourSums sum;
#pragma unroll
    for (int k = 0; k < kTileItems<T>; ++k) sum.add(k, softmax.weigh(values[k]).weight);
    const float total = block_reduce<Sum, kTileThreads / kWarp>(sum.total(), sums);
    if (threadIdx.x == 0) task.sums[row * task.tiles + blockIdx.x] = {largest, total};
    __syncthreads();  // the next row writes `tops` again
  }
}

// ---- sampled: drawing ---------------------------------------------------------------------------

// What a sequence draws from: row `kept` of the target, less what the draft has.
struct VerifyChoice {
  int64_t drafted;  // n
  int64_t kept;
  RowSums target;  // of row `kept`, as is the next
  RowSums draft;
  int32_t rejected;  // the token that was not kept; -1: all were
  int32_t draws;     // 0: a row was invalid, or the sequence is off
};

// Rows of logits, or of the draft's probabilities.
struct VerifyRows {
  const void* data;  // null: there are none
  Storage storage;
  int64_t stride;
  float inverse_temperature;
  int64_t tiles;
  const RowSums* sums;  // [rows, tiles]; null: probabilities
};

struct VerifyDrawTask {
  VerifyTask round;
  const float* uniform;  // [S,K+1]
  int64_t columns;
  VerifyRows target;      // [S * (K + 1), columns]
  VerifyRows draft;       // [S * K, columns]
  VerifyChoice* choices;  // [S]
  int64_t groups;         // of columns
  float* weights;         // [S, groups]
};

// The sums of a row from those of its tiles, by a warp.
__device__ __forceinline__ RowSums merged(const VerifyRows& rows, int64_t row) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const RowSums* parts = rows.sums + row * rows.tiles;
  float level = -INFINITY;
  for (int64_t t = lane; t < rows.tiles; t += kWarp) level = fmaxf(level, parts[t].level);
  level = warp_reduce<Max>(level);
  float sum = 0.0f;
  for (int64_t t = lane; t < rows.tiles; t += kWarp) {
    const RowSums tile = parts[t];
    // Beside nothing but -inf there may be a NaN.
    sum += tile.sum * (tile.level == -INFINITY ? 1.0f : expf(tile.level - level));
  }
  sum = warp_reduce<Sum>(sum);
  return {level, level == -INFINITY || level == INFINITY ? NAN : sum};
}

__device__ __forceinline__ bool is_uniform(float u) { return u >= 0.0f && u <= 1.0f; }
__device__ __forceinline__ bool is_probability(float q) { return q >= 0.0f && q < INFINITY; }

// The probability of a token in a row; NaN where the draft's is none.
__device__ __forceinline__ float probability(const VerifyRows& rows, int64_t row,
                                             const RowSums& sums, int64_t token) {
  const float z = load_as(rows.storage, rows.data, row * rows.stride + token);
  if (rows.sums == nullptr) return is_probability(z) ? z : NAN;
  return expf(treated(z, rows.inverse_temperature) - sums.level) / sums.sum;
}

// What row i of sequence s makes of the token that was drafted there: whether it is kept, and what
// is drawn from if it is not. By a warp.
__device__ __forceinline__ bool keeps(const VerifyDrawTask& task, int64_t s, int64_t n, int64_t i,
                                      VerifyChoice* choice) {
  const int64_t row = s * (task.round.most + 1) + i, draft_row = s * task.round.most + i;
  *choice = {n, i, merged(task.target, row), {0.0f, 1.0f}, -1, 1};
  bool sound = choice->target.sum > 0.0f;
  bool is_kept = false;
  if (i < n) {
    const int32_t token = task.round.drafted[draft_row];
    const bool known = token < task.columns;
    float q = 1.0f;
    if (task.draft.data != nullptr) {
      if (task.draft.sums != nullptr) choice->draft = merged(task.draft, draft_row);
      q = known ? probability(task.draft, draft_row, choice->draft, token) : 0.0f;
    }
    const float u = task.uniform[row];
    sound = sound && choice->draft.sum > 0.0f && is_uniform(u) && is_probability(q);
    const float p = known ? probability(task.target, row, choice->target, token) : 0.0f;
    is_kept = sound && __fmul_rn(u, q) < p;
    choice->rejected = token;
  }
  choice->draws = sound;
  return is_kept;
}

// How much of each draft is kept, and what the token after it is drawn from. A block for each
// sequence, whose warps take rows in turn: all are judged, as if none before had rejected.
//
// Bytes: 8 per tile of each row, and some words per row and sequence.
static __global__ __launch_bounds__(kVerifyThreads,
                                    kVerifyBlocks) void verify_choose_kernel(VerifyDrawTask task) {
  __shared__ int first[kVerifyWarps];
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int64_t s = blockIdx.x; s < task.round.sequences; s += gridDim.x) {
    const int64_t n = drafted_by(task.round, s);
    VerifyChoice mine = {n, 0, {0.0f, 0.0f}, {0.0f, 0.0f}, -1, 0};
    int rejects = n < 0 && warp == 0 ? 0 : INT_MAX;
    for (int64_t i = warp; i <= n && rejects == INT_MAX; i += kVerifyWarps) {
      if (!keeps(task, s, n, i, &mine)) rejects = static_cast<int>(i);
    }
    if (lane == 0) first[warp] = rejects;
    __syncthreads();
    int kept = first[0];
#pragma unroll
    for (int i = 1; i < kVerifyWarps; ++i) kept = min(kept, first[i]);
    if (lane == 0 && rejects == kept) task.choices[s] = mine;
    __syncthreads();  // the next round writes `first` again
  }
}

// The share of one token in what a sequence draws from; NaN if the draft's probability is none.
// `residual`: without what the draft has.
__device__ __forceinline__ float weight_of(const VerifyDrawTask& task, int64_t s,
                                           const VerifyChoice& choice, int64_t token,
                                           bool residual) {
  const float p =
      probability(task.target, s * (task.round.most + 1) + choice.kept, choice.target, token);
  if (!residual) return p;
  if (task.draft.data == nullptr) return token == choice.rejected ? 0.0f : p;
  const float q = probability(task.draft, s * task.round.most + choice.kept, choice.draft, token);
  return max_or_nan(p - q, 0.0f);
}

// Tokens whose shares are added up by one warp.
constexpr int64_t kGroupTokens = 1024;

__device__ __forceinline__ int64_t tokens_of_group(const VerifyDrawTask& task, int64_t group) {
  return min(kGroupTokens, task.columns - group * kGroupTokens);
}

// Sums of the shares of each group, over the grid of groups and sequences.
//
// Bytes: the chosen row of logits, and of the draft, each of which the L2 cache has at best.
static __global__ __launch_bounds__(kVerifyThreads,
                                    kVerifyBlocks) void verify_weigh_kernel(VerifyDrawTask task) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t group = int64_t{blockIdx.x} * kVerifyWarps + threadIdx.x / kWarp;
  if (group >= task.groups) return;
  const int64_t begin = group * kGroupTokens, count = tokens_of_group(task, group);
  for (int64_t s = blockIdx.y; s < task.round.sequences; s += gridDim.y) {
    const VerifyChoice choice = task.choices[s];
    if (choice.draws == 0) continue;
    FourSums sum;
#pragma unroll 4
    for (int k = 0; k < kGroupTokens / kWarp; ++k) {
      const int64_t i = k * kWarp + lane;
      if (i < count) sum.add(k, weight_of(task, s, choice, begin + i, choice.rejected >= 0));
    }
    const float total = warp_reduce<Sum>(sum.total());
    if (lane == 0) task.weights[s * task.groups + group] = total;
  }
}

// The first of `count` weights with which the sum is more than `*target`, which becomes what is
// left of it before that one. Where rounding has lost it, the last that is not 0, and then of its
// parts: `*target` becomes infinite. By a warp.
template <class F>
__device__ __forceinline__ int64_t pick(int64_t count, float* target, F&& weight) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float before = 0.0f;
  int64_t last = 0;
  for (int64_t begin = 0; begin < count; begin += kWarp) {
    const float mine = begin + lane < count ? weight(begin + lane) : 0.0f;
    float sum = mine;
#pragma unroll
    for (int offset = 1; offset < kWarp; offset *= 2) {
      const float other = __shfl_up_sync(kFullWarp, sum, offset);
      if (lane >= offset) sum += other;
    }
    const unsigned over = __ballot_sync(kFullWarp, mine > 0.0f && before + sum > *target);
    if (over != 0) {
      const int found = __ffs(static_cast<int>(over)) - 1;
      *target = fmaxf(*target - (before + __shfl_sync(kFullWarp, sum - mine, found)), 0.0f);
      return begin + found;
    }
    const unsigned some = __ballot_sync(kFullWarp, mine > 0.0f);
    if (some != 0) last = begin + kWarp - 1 - __clz(static_cast<int>(some));
    before += __shfl_sync(kFullWarp, sum, kWarp - 1);
  }
  *target = INFINITY;
  return last;
}

// Sum of `count` weights, by a warp.
template <class F>
__device__ __forceinline__ float total_of(int64_t count, F&& weight) {
  float sum = 0.0f;
  for (int64_t i = static_cast<int>(threadIdx.x) % kWarp; i < count; i += kWarp) sum += weight(i);
  return warp_reduce<Sum>(sum);
}

// The token that sequence s draws; -1: it cannot. By a warp.
__device__ __forceinline__ int32_t drawn(const VerifyDrawTask& task, int64_t s,
                                         const VerifyChoice& choice) {
  const float u = task.uniform[s * (task.round.most + 1) + task.round.most];
  if (choice.draws == 0 || !is_uniform(u)) return -1;
  bool residual = choice.rejected >= 0;
  const auto noted = [&](int64_t group) { return task.weights[s * task.groups + group]; };
  const auto weight = [&](int64_t token) { return weight_of(task, s, choice, token, residual); };
  const float total = total_of(task.groups, noted);
  if (total != total) return -1;
  float target = u * total;
  int64_t group;
  if (total > 0.0f) {
    group = pick(task.groups, &target, noted);
  } else {  // rounding has left nothing of the residual
    residual = false;
    const auto anew = [&](int64_t each) {
      float sum = 0.0f;
      for (int64_t i = 0; i < tokens_of_group(task, each); ++i)
        sum += weight(each * kGroupTokens + i);
      return sum;
    };
    target = u * total_of(task.groups, anew);
    group = pick(task.groups, &target, anew);
  }
  const int64_t begin = group * kGroupTokens;
  return static_cast<int32_t>(begin + pick(tokens_of_group(task, group), &target,
                                           [&](int64_t i) { return weight(begin + i); }));
}

// Draws the token after what is kept, and writes what comes out: a warp for each sequence.
//
// Bytes: 4 per group and those of one group of tokens, then as verify_greedy_kernel.
static __global__ __launch_bounds__(kVerifyThreads,
                                    kVerifyBlocks) void verify_draw_kernel(VerifyDrawTask task) {
  const int64_t warp = int64_t{blockIdx.x} * kVerifyWarps + threadIdx.x / kWarp;
  for (int64_t s = warp; s < task.round.sequences; s += int64_t{gridDim.x} * kVerifyWarps) {
    const VerifyChoice choice = task.choices[s];
    finish_round(task.round, s, choice.drafted, choice.kept, drawn(task, s, choice));
  }
}

}  // namespace exn::cuda
