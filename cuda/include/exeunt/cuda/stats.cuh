// SPDX-License-Identifier: Apache-2.0
//
// Statistics of a tile of a row of logits that can be merged with those of another tile.
#pragma once

#include <climits>
#include <cstdint>

#include "draw.cuh"
#include "normalizer.cuh"
#include "reduce.cuh"

namespace exn::cuda {

// How logits are treated before the statistics, and which of the costly ones are asked for.
struct StatsOptions {
  float softcap;              // 0: none
  float inverse_temperature;  // 1: leaves the logits alone
  float inverse_count;        // 1 / V
  int stablemax;
  int want_pow2;
  int want_mean;
};

// Where the statistics of rows go; null where not asked for.
struct StatsTargets {
  int32_t* argmax;
  float* max_logit;
  float* lse;
  float* p1;
  float* p2;
  float* margin;
  float* entropy;
  float* pow2_entropy;
  float* mean_log_p;
  uint8_t* valid;
  const int32_t* labels;  // with label_log_p
  float* label_log_p;
  int64_t vocabulary;  // that labels are of
  int32_t* draw;
  DrawInputs draw_inputs;
};

// e = weight relative to that of the largest logit, d = ln e, both of treated logits. A tile
// without any finite logit has largest = -inf and zero sums. A NaN in the row shows in `sum`, +inf
// in `largest`.
//
// `largest` and `second` are raw: a soft-cap or a temperature may round logits to the same value,
// and which of them is the largest must depend neither on that nor on the backend.
struct __align__(16) StatsState {
  float largest;
  float second;
  int32_t argmax;
  float sum;            // sum of e
  float weighted_log;   // sum of e d
  float sum2;           // sum of e^2
  float weighted_log2;  // sum of e^2 d
  float mean_log;       // sum of ln weight / V, which cannot overflow where the plain sum might
};

__device__ __forceinline__ float treat_logit(float z, const StatsOptions& options) {
  if (options.softcap > 0.0f && fabsf(z) < INFINITY) {
    z = __fmul_rn(options.softcap, tanhf(z / options.softcap));
  }
  // Rounded as written: fused with the subtraction of the largest, that one's e would not be 1.
  return __fmul_rn(z, options.inverse_temperature);
}

__device__ __forceinline__ bool treats_logits(const StatsOptions& options) {
  return options.softcap > 0.0f || options.inverse_temperature != 1.0f;
}

// Largest and second largest; equal values count twice.
struct TopTwo {
  float first = -INFINITY;
  float second = -INFINITY;

  __device__ __forceinline__ void add(float z) {
    second = fmaxf(second, fminf(first, z));
    first = fmaxf(first, z);
  }
  __device__ __forceinline__ void merge(float other_first, float other_second) {
    second = fmaxf(fmaxf(second, other_second), fminf(first, other_first));
    first = fmaxf(first, other_first);
  }
};

__device__ __forceinline__ TopTwo warp_top_two(TopTwo top) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const float first = __shfl_xor_sync(kFullWarp, top.first, offset);
    const float second = __shfl_xor_sync(kFullWarp, top.second, offset);
    top.merge(first, second);
  }
  return top;
}

// A thread's sum, in four chains: beside a term of 1 each addition may be off by 2^-24, and where
// the terms are equal always in the same direction.
struct FourSums {
  float acc[4] = {0.0f, 0.0f, 0.0f, 0.0f};

  __device__ __forceinline__ void add(int i, float x) { acc[i % 4] += x; }
  __device__ __forceinline__ void add_product(int i, float a, float b) {
    acc[i % 4] = __fmaf_rn(a, b, acc[i % 4]);
  }
  __device__ __forceinline__ float total() const { return (acc[0] + acc[1]) + (acc[2] + acc[3]); }
};

// Adds up this thread's `values`, which it treats in place, relative to `state.largest`, which the
// caller has set for the whole group of threads. `place(i)` is the place of value i in the tile;
// places from `count` on are padding, -inf.
template <class Normalizer, int ITEMS, class Place>
__device__ __forceinline__ void accumulate(float (&values)[ITEMS], const StatsOptions& options,
                                           int count, Place place, StatsState& state) {
  if (treats_logits(options)) {
#pragma unroll
    for (float& z : values) z = treat_logit(z, options);
  }
  const Normalizer normalizer(treat_logit(state.largest, options));
  FourSums sum, weighted_log;
#pragma unroll
  for (int i = 0; i < ITEMS; ++i) {
    const Weighed z = normalizer.weigh(values[i]);
    sum.add(i, z.weight);
    weighted_log.add_product(i, z.weight, z.log);
  }
  FourSums sum2, weighted_log2, mean_log;
  if (options.want_pow2) {
#pragma unroll
    for (int i = 0; i < ITEMS; ++i) {
      const Weighed z = normalizer.weigh(values[i]);
      const float square = z.weight * z.weight;
      sum2.add(i, square);
      weighted_log2.add_product(i, square, z.log);
    }
  }
  if (options.want_mean) {
#pragma unroll
    for (int i = 0; i < ITEMS; ++i) {
      if (place(i) < count) {
        mean_log.add_product(i, Normalizer::log_weight(values[i]), options.inverse_count);
      }
    }
  }
  state.sum = sum.total();
  state.weighted_log = weighted_log.total();
  state.sum2 = sum2.total();
  state.weighted_log2 = weighted_log2.total();
  state.mean_log = mean_log.total();
}

// Adds up the sums of a warp whose lanes share `largest`.
__device__ __forceinline__ void warp_reduce_sums(StatsState& state, const StatsOptions& options) {
  state.argmax = warp_reduce<Min>(state.argmax);
  state.sum = warp_reduce<Sum>(state.sum);
  state.weighted_log = warp_reduce<Sum>(state.weighted_log);
  if (options.want_pow2) {
    state.sum2 = warp_reduce<Sum>(state.sum2);
    state.weighted_log2 = warp_reduce<Sum>(state.weighted_log2);
  }
  if (options.want_mean) state.mean_log = warp_reduce<Sum>(state.mean_log);
}

// Takes the sums of a tile over to another reference, `largest`, that of the whole row.
template <class Normalizer>
__device__ __forceinline__ void rebase(StatsState& state, float largest,
                                       const Normalizer& normalizer, const StatsOptions& options) {
  if (state.largest == largest) return;
  const float level = treat_logit(state.largest, options);
  const float scale = normalizer.weight(level);
  const float shift = fmaxf(normalizer.relative_log_weight(level), kLowestLog);
  state.weighted_log = scale * (state.weighted_log + shift * state.sum);
  state.sum *= scale;
  state.weighted_log2 = scale * scale * (state.weighted_log2 + shift * state.sum2);
  state.sum2 *= scale * scale;
}

// Merges `b` into `a`; the sums of both have the same reference.
__device__ __forceinline__ void merge(StatsState& a, const StatsState& b) {
  if (b.largest > a.largest || (b.largest == a.largest && b.argmax < a.argmax)) a.argmax = b.argmax;
  a.second = fmaxf(fmaxf(a.second, b.second), fminf(a.largest, b.largest));
  a.largest = fmaxf(a.largest, b.largest);
  a.sum += b.sum;
  a.weighted_log += b.weighted_log;
  a.sum2 += b.sum2;
  a.weighted_log2 += b.weighted_log2;
  a.mean_log += b.mean_log;
}

__device__ __forceinline__ StatsState empty_state() {
  return {-INFINITY, -INFINITY, INT_MAX, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
}

// A state is two 128-bit words in memory.
__device__ __forceinline__ void store_state(StatsState* target, const StatsState& state) {
  auto* words = reinterpret_cast<uint4*>(target);
  words[0] = make_uint4(__float_as_uint(state.largest), __float_as_uint(state.second),
                        static_cast<unsigned>(state.argmax), __float_as_uint(state.sum));
  words[1] = make_uint4(__float_as_uint(state.weighted_log), __float_as_uint(state.sum2),
                        __float_as_uint(state.weighted_log2), __float_as_uint(state.mean_log));
}

__device__ __forceinline__ StatsState load_state(const StatsState* source) {
  const auto* words = reinterpret_cast<const uint4*>(source);
  const uint4 a = words[0];
  const uint4 b = words[1];
  return {__uint_as_float(a.x), __uint_as_float(a.y), static_cast<int32_t>(a.z),
          __uint_as_float(a.w), __uint_as_float(b.x), __uint_as_float(b.y),
          __uint_as_float(b.z), __uint_as_float(b.w)};
}

template <class V>
__device__ __forceinline__ void put(V* target, int64_t row, V value) {
  if (target != nullptr) target[row] = value;
}

// The label of a row; negative if it has none that is in the vocabulary.
__device__ __forceinline__ int32_t label_of(const StatsTargets& out, int64_t row) {
  const int32_t label = out.labels[row];
  return label < out.vocabulary ? label : -1;
}

// Writes the statistics of a complete row, and returns p1. `Normalizer` is an accurate one. `label`
// is the raw logit of the row's label, NaN if it has none.
template <class Normalizer>
__device__ __forceinline__ float write_stats(const StatsTargets& out, int64_t row,
                                             const StatsState& state, const StatsOptions& options,
                                             float label = NAN, const Draw& draw = no_draw()) {
  const bool valid =
      state.sum == state.sum && state.largest > -INFINITY && state.largest < INFINITY;
  if (!valid) {
    put(out.argmax, row, -1);
    put(out.max_logit, row, NAN);
    put(out.lse, row, NAN);
    put(out.p1, row, NAN);
    put(out.p2, row, NAN);
    put(out.margin, row, NAN);
    put(out.entropy, row, NAN);
    put(out.pow2_entropy, row, NAN);
    put(out.mean_log_p, row, NAN);
    put(out.valid, row, uint8_t(0));
    put(out.label_log_p, row, NAN);
    put(out.draw, row, -1);
    return NAN;
  }
  const float largest = treat_logit(state.largest, options);
  const Normalizer normalizer(largest);
  // The largest logit alone adds 1, which StableMax's quotient may miss by its rounding.
  const float sum = fmaxf(state.sum, 1.0f);
  const float log_sum = logf(sum);
  const float lse = Normalizer::log_weight(largest) + log_sum;
  const float p1 = 1.0f / sum;
  // tanh may round a smaller logit to a larger one.
  const float second = fminf(normalizer.weight(treat_logit(state.second, options)), 1.0f);
  put(out.argmax, row, state.argmax);
  put(out.max_logit, row, largest);
  put(out.lse, row, lse);
  put(out.p1, row, p1);
  put(out.p2, row, second / sum);
  put(out.margin, row, (1.0f - second) / sum);
  // An entropy is not negative, whatever its last rounding did.
  put(out.entropy, row, fmaxf(log_sum - state.weighted_log / sum, 0.0f));
  put(out.pow2_entropy, row,
      fmaxf(logf(state.sum2) - 2.0f * state.weighted_log2 / state.sum2, 0.0f));
  put(out.mean_log_p, row, state.mean_log - lse);
  put(out.valid, row, uint8_t(1));
  if (out.label_log_p != nullptr) {
    out.label_log_p[row] = normalizer.relative_log_weight(treat_logit(label, options)) - log_sum;
  }
  if (out.draw != nullptr) out.draw[row] = drawn(out.draw_inputs, row, draw, state.argmax);
  return p1;
}

// ---- rows whose tiles lie in the workspace ------------------------------------------------------

constexpr int kMergeThreads = 128;

__device__ __forceinline__ StatsState warp_merge(StatsState state) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    StatsState other;
    other.largest = __shfl_down_sync(kFullWarp, state.largest, offset);
    other.second = __shfl_down_sync(kFullWarp, state.second, offset);
    other.argmax = __shfl_down_sync(kFullWarp, state.argmax, offset);
    other.sum = __shfl_down_sync(kFullWarp, state.sum, offset);
    other.weighted_log = __shfl_down_sync(kFullWarp, state.weighted_log, offset);
    other.sum2 = __shfl_down_sync(kFullWarp, state.sum2, offset);
    other.weighted_log2 = __shfl_down_sync(kFullWarp, state.weighted_log2, offset);
    other.mean_log = __shfl_down_sync(kFullWarp, state.mean_log, offset);
    merge(state, other);
  }
  return state;
}

// Scratch memory of merge_row().
struct MergeShared {
  StatsState warps[kMergeThreads / kWarp];
  float tops[kMergeThreads / kWarp];
};

// Merges the `tiles` states of a row; thread 0 gets the result. Thread t merges tiles t and t +
// 128, then t + 256 and t + 384, ..., then the threads are merged in a fixed tree. The caller lets
// a barrier pass before it uses the same scratch memory again.
template <class Normalizer>
__device__ __forceinline__ StatsState merge_row(const StatsState* of_row, int64_t tiles,
                                                const StatsOptions& options, MergeShared& shared) {
  float largest = -INFINITY;
  for (int64_t tile = threadIdx.x; tile < tiles; tile += kMergeThreads) {
    largest = fmaxf(largest, of_row[tile].largest);
  }
  largest = block_reduce<Max, kMergeThreads / kWarp>(largest, shared.tops);
  const Normalizer normalizer(treat_logit(largest, options));

  StatsState state = empty_state();
  for (int64_t tile = threadIdx.x; tile < tiles; tile += 2 * kMergeThreads) {
    StatsState one = load_state(of_row + tile);
    rebase(one, largest, normalizer, options);
    if (tile + kMergeThreads < tiles) {
      StatsState other = load_state(of_row + tile + kMergeThreads);
      rebase(other, largest, normalizer, options);
      merge(one, other);
    }
    merge(state, one);
  }
  state = warp_merge(state);
  if (threadIdx.x % kWarp == 0) store_state(&shared.warps[threadIdx.x / kWarp], state);
  __syncthreads();
  if (threadIdx.x == 0) {
#pragma unroll
    for (int warp = 1; warp < kMergeThreads / kWarp; ++warp) {
      merge(state, load_state(&shared.warps[warp]));
    }
  }
  return state;
}

// Raw logits of labels, of which each tile of a row has one: -inf where the label is not in it.
struct TileLabels {
  const float* of_tiles;  // [rows, tiles]; null: not asked for

  // That of a row, which is `place` in the outputs, for thread 0; NaN if it has none. Called by all
  // threads of a merge.
  __device__ __forceinline__ float find(const StatsTargets& out, int64_t row, int64_t place,
                                        int64_t tiles, MergeShared& shared) const {
    if (of_tiles == nullptr) return NAN;
    float label = -INFINITY;
    for (int64_t tile = threadIdx.x; tile < tiles; tile += kMergeThreads) {
      label = fmaxf(label, of_tiles[row * tiles + tile]);
    }
    label = block_reduce<Max, kMergeThreads / kWarp>(label, shared.tops);
    return threadIdx.x == 0 && label_of(out, place) >= 0 ? label : NAN;
  }
};

// The best of a row's tiles, for all threads of a merge.
__device__ __forceinline__ Draw best_draw(const Draw* of_row, int64_t tiles,
                                          Draw (&warps)[kMergeThreads / kWarp]) {
  Draw best = no_draw();
  for (int64_t tile = threadIdx.x; tile < tiles; tile += kMergeThreads) {
    const Draw draw = of_row[tile];
    best.take(draw.score, draw.id);
  }
  best = warp_best(best);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = best;
  __syncthreads();
  best = warps[0];
#pragma unroll
  for (int i = 1; i < kMergeThreads / kWarp; ++i) best.take(warps[i].score, warps[i].id);
  return best;
}

// The tiles of rows that follow each other, the first of which is `first` in the outputs.
struct TileStates {
  const StatsState* states;  // [rows, tiles]
  const Draw* draws;         // likewise; null: not asked for
  int64_t tiles;
  int64_t rows;
  int64_t first;
};

// Merges the states of each row and writes its statistics.
//
// Bytes: 32 per tile, 4 more with labels of tiles and 8 with draws; the largest logits of all are
// looked at beforehand, so that each tile is rescaled once. One block per row.
template <class Normalizer, class Labels>
__global__ __launch_bounds__(kMergeThreads) void merge_stats_kernel(TileStates all, Labels labels,
                                                                    StatsOptions options,
                                                                    StatsTargets out) {
  __shared__ MergeShared shared;
  __shared__ Draw draws[kMergeThreads / kWarp];
  for (int64_t row = blockIdx.x; row < all.rows; row += gridDim.x) {
    Draw draw = no_draw();
    if (all.draws != nullptr) draw = best_draw(all.draws + row * all.tiles, all.tiles, draws);
    const StatsState state =
        merge_row<Normalizer>(all.states + row * all.tiles, all.tiles, options, shared);
    const float label = labels.find(out, row, all.first + row, all.tiles, shared);
    if (threadIdx.x == 0) {
      write_stats<Normalizer>(out, all.first + row, state, options, label, draw);
    }
    __syncthreads();  // the next row writes `shared` again
  }
}

}  // namespace exn::cuda
