// SPDX-License-Identifier: Apache-2.0
//
// row_stats: confidence statistics of rows of logits in one pass; probabilities are never written.
#pragma once

#include <type_traits>

#include "elements.cuh"
#include "pairs.cuh"
#include "stats.cuh"

namespace exn::cuda {

// Vectors of a row that a thread holds: 64 elements of 16 bits or 32 of f32, as they are stored.
constexpr int kStatsVectors = 8;
template <class T>
constexpr int kStatsTile = kTileThreads * kStatsVectors * kVector<T>;

template <class T>
struct RowStatsTask {
  const T* logits;
  int64_t rows;
  int64_t columns;
  int64_t stride;  // elements between rows
  int64_t tiles;   // per row: ceil(columns / kStatsTile<T>)
  StatsOptions options;
  StatsState* states;  // [rows, tiles]; unused when tiles is 1
  Draw* draws;         // likewise; null where no draw is asked for
  StatsTargets out;
};

// ---- words of packed elements -------------------------------------------------------------------

template <class T>
__device__ __forceinline__ uint4 filled(float x) {
  float elements[kVector<T>];
#pragma unroll
  for (float& element : elements) element = x;
  return pack<T>(elements);
}

// The largest and the smallest element of a thread's vectors.
template <class T>
__device__ __forceinline__ float largest_of(const uint4 (&vectors)[kStatsVectors]) {
  unsigned word = vectors[0].x;
#pragma unroll
  for (const uint4& v : vectors) {
    word = larger_pair(
        T(), larger_pair(T(), larger_pair(T(), larger_pair(T(), word, v.x), v.y), v.z), v.w);
  }
  float elements[4 / sizeof(T)];
  unpack_pair(T(), word, elements);
  unsigned largest = __float_as_uint(-INFINITY);
#pragma unroll
  for (const float x : elements) largest = larger_pair(float(), largest, __float_as_uint(x));
  return __uint_as_float(largest);
}

template <class T>
__device__ __forceinline__ float smallest_of(const uint4 (&vectors)[kStatsVectors]) {
  unsigned word = vectors[0].x;
#pragma unroll
  for (const uint4& v : vectors) {
    word = smaller_pair(
        T(), smaller_pair(T(), smaller_pair(T(), smaller_pair(T(), word, v.x), v.y), v.z), v.w);
  }
  float elements[4 / sizeof(T)];
  unpack_pair(T(), word, elements);
  float smallest = INFINITY;
#pragma unroll
  for (const float x : elements) smallest = fminf(smallest, x);
  return smallest;
}

// ---- sums ---------------------------------------------------------------------------------------

// What a thread adds up, before it goes to a state. `FULL`: also what few ask for.
template <bool FULL>
struct StatsSums {
  FourSums sum, weighted_log, sum2, weighted_log2;

  __device__ __forceinline__ void add(int i, float weight, float log) {
    sum.add(i, weight);
    weighted_log.add_product(i, weight, log);
    if (!FULL) return;
    const float square = weight * weight;
    sum2.add(i, square);
    weighted_log2.add_product(i, square, log);
  }
  __device__ __forceinline__ void add_to(StatsState& state) const {
    state.sum += sum.total();
    state.weighted_log += weighted_log.total();
    if (!FULL) return;
    state.sum2 += sum2.total();
    state.weighted_log2 += weighted_log2.total();
  }
};

// Of two values of each lane, the sum with the partner's: of `a` in the lower lanes of a pair, of
// `b` in the upper ones.
__device__ __forceinline__ float add_halves(float a, float b, int offset) {
  const bool is_upper = (threadIdx.x & static_cast<unsigned>(offset)) != 0;
  return (is_upper ? b : a) + __shfl_xor_sync(kFullWarp, is_upper ? a : b, offset);
}

// Adds up the sums of a warp's lanes, for its first one. Four together: while they are added, a
// lane needs only half of them, then only one.
__device__ __forceinline__ void add_lanes(StatsState& state, const StatsOptions& options) {
  if (!options.want_pow2 && !options.want_mean) {
    state.sum = warp_reduce<Sum>(state.sum);
    state.weighted_log = warp_reduce<Sum>(state.weighted_log);
    return;
  }
  float sum = add_halves(add_halves(state.sum, state.sum2, 16),
                         add_halves(state.weighted_log, state.weighted_log2, 16), 8);
#pragma unroll
  for (int offset = 4; offset > 0; offset /= 2) sum += __shfl_xor_sync(kFullWarp, sum, offset);
  state.sum = sum;
  state.weighted_log = __shfl_sync(kFullWarp, sum, 8);
  state.sum2 = __shfl_sync(kFullWarp, sum, 16);
  state.weighted_log2 = __shfl_sync(kFullWarp, sum, 24);
  state.mean_log = warp_reduce<Sum>(state.mean_log);
}

// Elements that a chain of sums goes through before it is added to others.
constexpr int kChained = 32;

// Softmax of logits as they are. None is so far below `reference` that the distance, or that times
// a constant, is infinite.
//
// In as few instructions as it takes: weights are 2^kCentre times what they are, so that the
// argument of the power is near zero, and rounded the least, where the distance is rounded the
// most: together they cost a weight 6.5e-7 of itself, on top of the 2.4e-7 of the power. What log2
// e loses in f32 is made up for in the sums, to first order. The largest weight is exact.
template <bool FULL, class T>
__device__ __forceinline__ void accumulate_plain(const uint4 (&vectors)[kStatsVectors],
                                                 float reference, float inverse_count,
                                                 StatsState& state) {
  constexpr int kV = kVector<T>;
  constexpr float kCentre = 16.0f;
  constexpr float kShrink = 1.0f / 65536;
  constexpr float kLog2e = 1.44269502f;
  constexpr float kLost = 1.33497e-8f;  // 1 - kLog2e * ln 2
#pragma unroll
  for (int start = 0; start < kStatsVectors * kV; start += kChained) {
    StatsSums<FULL> sums;
    FourSums mean_log;
#pragma unroll
    for (int i = start; i < start + kChained; i += kV) {
      float z[kV];
      unpack<T>(vectors[i / kV], z);
#pragma unroll
      for (int k = 0; k < kV; ++k) {
        const float log = z[k] - reference;
        sums.add(k, exp2_approx(__fmaf_rn(log, kLog2e, kCentre)), log);
        if (FULL) mean_log.add_product(k, z[k], inverse_count);
      }
    }
    sums.add_to(state);
    if (FULL) state.mean_log += mean_log.total();
  }
  state.sum = kShrink * __fmaf_rn(kLost, state.weighted_log, state.sum);
  state.weighted_log *= kShrink;
  state.sum2 = kShrink * kShrink * __fmaf_rn(2.0f * kLost, state.weighted_log2, state.sum2);
  state.weighted_log2 *= kShrink * kShrink;
}

// ---- a tile -------------------------------------------------------------------------------------

// A slice of a row, by all threads of a block, which hold it as it is stored.
template <class T>
class StatsTile {
 public:
  // `lines` is shared memory for all vectors: thread t's i-th is at i * kTileThreads + t.
  __device__ __forceinline__ StatsTile(const T* tile, int count, uint4* lines)
      : count_(count), lines_(lines) {
    load(tile);
    largest_ = largest_of<T>(vectors_);
  }

  __device__ __forceinline__ float largest() const { return largest_; }

  // Where in the warp's columns the tile's largest element is, if it is there, and the warp's
  // largest element but that one: only then, else it is not needed. `words` is shared memory of
  // the warp for what one thread holds.
  __device__ __forceinline__ void find_largest(float largest, uint4* words,
                                               StatsState& state) const {
    constexpr int kPerWord = 4 / static_cast<int>(sizeof(T));
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const bool is_mine = largest_ == largest && largest > -INFINITY;
    unsigned owners = __ballot_sync(kFullWarp, is_mine);
    if (owners == 0) return;
    const bool is_alone = (owners & (owners - 1)) == 0;
    float second = is_mine ? -INFINITY : largest_;
    for (; owners != 0; owners &= owners - 1) {
      const int owner = __ffs(static_cast<int>(owners)) - 1;
      if (lane == owner) {
#pragma unroll
        for (int i = 0; i < kStatsVectors; ++i) words[i] = vectors_[i];
      }
      __syncwarp();
      float mine[kPerWord];  // each lane looks at one word of the owner's
      unpack_pair(T(), reinterpret_cast<const unsigned*>(words)[lane], mine);
      int item = INT_MAX;
#pragma unroll
      for (int i = kPerWord - 1; i >= 0; --i) {
        if (mine[i] == largest) item = lane * kPerWord + i;
      }
      item = __reduce_min_sync(kFullWarp, item);
#pragma unroll
      for (int i = 0; i < kPerWord; ++i) {
        if (lane * kPerWord + i != item) second = fmaxf(second, mine[i]);
      }
      float found = mine[0];  // it may be -0 where others are +0
      if (item % kPerWord != 0) found = mine[kPerWord - 1];
      found = __shfl_sync(kFullWarp, found, item / kPerWord);
      const int place = tile_place<T>(item) + (owner - lane) * kVector<T>;
      if (place < state.argmax) {
        state.argmax = place;
        state.largest = found;
      }
      __syncwarp();
    }
    state.second = is_alone ? warp_reduce<Max>(second) : largest;
  }

  // The best score of the warp's share of the tile, which begins at `begin` in its row. All threads
  // of a block call it.
  __device__ __forceinline__ Draw draw(const RowDraw& row, const StatsOptions& options,
                                       int64_t begin) const {
    constexpr int kNoiseIds = 4 * kWarp;  // that have the same blocks of words
    static_assert(kStatsTile<T> % kNoiseIds == 0, "a tile begins with a block's first word");
    to_lines();
    __syncthreads();
    const T* const tile = reinterpret_cast<const T*>(lines_);
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    Draw best = no_draw();
#pragma unroll 1
    for (int first = warp * kNoiseIds; first < count_; first += kNoiseIds * kTileThreads / kWarp) {
      int place = first + static_cast<int>(threadIdx.x) % kWarp;
      NoiseWords words(row, static_cast<int32_t>(begin + place));
#pragma unroll 1
      for (; place < first + kNoiseIds; place += kWarp) {
        const float z = place < count_ ? widen(tile[place]) : -INFINITY;
        best.take(words.score(treat_logit(z, options), row), static_cast<int32_t>(begin + place));
      }
    }
    __syncthreads();
    return warp_best(best);
  }

  // Adds up the thread's elements relative to `largest`.
  template <class Normalizer>
  __device__ __forceinline__ void accumulate(float largest, const StatsOptions& options,
                                             StatsState& state) {
    if (std::is_same<Normalizer, FastSoftmax>::value && !treats_logits(options)) {
      const float reference = Softmax<float>(largest).reference;
      // Far enough below the reference for a weight of 0, also where that is rounded. Of the very
      // lowest logits T has none.
      const float lowest =
          widen(narrow<T>(reference + __fmaf_rn(fabsf(reference), -1.0f / 64, kLowestLog)));
      if (lowest > -INFINITY) return add_plain(reference, lowest, options, state);
    }
    add_treated(Normalizer(treat_logit(largest, options)), options, state);
  }

 private:
  // Places from `count_` on become -inf.
  __device__ __forceinline__ void load(const T* tile) {
    constexpr int kV = kVector<T>;
    const bool aligned = is_vector_aligned(tile) && count_ % kV == 0;
    if (aligned && count_ == kStatsTile<T>) {
#pragma unroll
      for (int i = 0; i < kStatsVectors; ++i) {
        vectors_[i] = *reinterpret_cast<const uint4*>(tile + tile_place<T>(i * kV));
      }
      return;
    }
    if (aligned) {
#pragma unroll
      for (int i = 0; i < kStatsVectors; ++i) {
        vectors_[i] = filled<T>(-INFINITY);
        const int place = tile_place<T>(i * kV);
        if (place < count_) vectors_[i] = *reinterpret_cast<const uint4*>(tile + place);
      }
      return;
    }
#pragma unroll 1
    for (int i = 0; i < kStatsVectors; ++i) {
      float x[kV];
#pragma unroll
      for (int k = 0; k < kV; ++k) {
        const int place = tile_place<T>(i * kV + k);
        x[k] = place < count_ ? widen(tile[place]) : -INFINITY;
      }
      line(i) = pack<T>(x);
    }
    from_lines();
  }

  __device__ __forceinline__ void add_plain(float reference, float lowest,
                                            const StatsOptions& options, StatsState& state) {
    const bool is_whole = count_ == kStatsTile<T>;
    float mean_log = 0.0f;
    if (!is_whole) mean_log = lift_padding(lowest, options);
    const bool is_low = smallest_of<T>(vectors_) < lowest;
    if (is_low) mean_log = raise_to(lowest, options);
    if (options.want_pow2 || options.want_mean) {
      accumulate_plain<true, T>(vectors_, reference, options.inverse_count, state);
    } else {
      accumulate_plain<false, T>(vectors_, reference, options.inverse_count, state);
    }
    if (is_low || !is_whole) state.mean_log = mean_log;
  }

  // Raises vectors that are padding to `lowest`; returns the sum of the logarithms of the others.
  __device__ __forceinline__ float lift_padding(float lowest, const StatsOptions& options) {
    constexpr int kV = kVector<T>;
    FourSums mean_log;
#pragma unroll
    for (int i = 0; i < kStatsVectors; ++i) {
      if (tile_place<T>(i * kV) >= count_) {
        vectors_[i] = filled<T>(lowest);
      } else {
        float z[kV];
        unpack<T>(vectors_[i], z);
#pragma unroll
        for (int k = 0; k < kV; ++k) mean_log.add_product(k, z[k], options.inverse_count);
      }
    }
    return mean_log.total();
  }

  // The thread's own places in the shared memory for all vectors. What is done there is spelled out
  // for one vector and not for all.
  __device__ __forceinline__ uint4& line(int i) const {
    return lines_[i * kTileThreads + threadIdx.x];
  }
  __device__ __forceinline__ void to_lines() const {
#pragma unroll
    for (int i = 0; i < kStatsVectors; ++i) line(i) = vectors_[i];
  }
  __device__ __forceinline__ void from_lines() {
#pragma unroll
    for (int i = 0; i < kStatsVectors; ++i) vectors_[i] = line(i);
  }

  // Raises elements to at least `lowest`; returns the sum of the logarithms of what they were.
  __device__ __forceinline__ float raise_to(float lowest, const StatsOptions& options) {
    constexpr int kV = kVector<T>;
    FourSums mean_log;
    to_lines();
#pragma unroll 1
    for (int i = 0; i < kStatsVectors; ++i) {
      float z[kV];
      unpack<T>(line(i), z);
#pragma unroll
      for (int k = 0; k < kV; ++k) {
        if (tile_place<T>(i * kV + k) < count_) {
          mean_log.add_product(k, z[k], options.inverse_count);
        }
        z[k] = max_or_nan(z[k], lowest);
      }
      line(i) = pack<T>(z);
    }
    from_lines();
    return mean_log.total();
  }

  // Of any normalizer, and of logits that are treated.
  template <class Normalizer>
  __device__ __forceinline__ void add_treated(const Normalizer& normalizer,
                                              const StatsOptions& options,
                                              StatsState& state) const {
    constexpr int kV = kVector<T>;
    to_lines();
    StatsSums<true> sums;
    FourSums mean_log;
#pragma unroll 1
    for (int i = 0; i < kStatsVectors; ++i) {
      if (i == kStatsVectors / 2) {
        sums.add_to(state);
        sums = StatsSums<true>();
      }
      float z[kV];
      unpack<T>(line(i), z);
#pragma unroll
      for (int k = 0; k < kV; ++k) {
        z[k] = treat_logit(z[k], options);
        const Weighed weighed = normalizer.weigh(z[k]);
        sums.add(k, weighed.weight, weighed.log);
        if (options.want_mean && tile_place<T>(i * kV + k) < count_) {
          mean_log.add_product(k, Normalizer::log_weight(z[k]), options.inverse_count);
        }
      }
    }
    sums.add_to(state);
    state.mean_log += mean_log.total();
  }

  const int count_;
  uint4* const lines_;
  uint4 vectors_[kStatsVectors];
  float largest_;
};

// Raw logits of labels where all logits are in memory.
template <class T>
struct LogitLabels {
  const T* logits;
  int64_t stride;

  __device__ __forceinline__ float of(const StatsTargets& out, int64_t row) const {
    const int32_t label = out.labels != nullptr ? label_of(out, row) : -1;
    return label >= 0 ? widen(logits[row * stride + label]) : NAN;
  }

  __device__ __forceinline__ float find(const StatsTargets& out, int64_t row, int64_t /*place*/,
                                        int64_t /*tiles*/, MergeShared& /*shared*/) const {
    return threadIdx.x == 0 ? of(out, row) : NAN;
  }
};

// Statistics of one tile of a row, into the workspace, or of the whole row if it fits into a tile.
//
// Bytes: every logit once, 32 per tile written, 40 with draws. One block per tile and row, 64 KiB on their way on
// an SM: a tile stays in registers between finding its maximum and adding up exponentials, so each
// logit costs one exponential and nothing is rescaled. Tiles depend on the row's length alone,
// hence a row's results have the same bits in every batch, and a single long row is spread over
// many SMs.
template <class T, class Normalizer, class AccurateNormalizer>
__global__ __launch_bounds__(kTileThreads, 4) void row_stats_tile_kernel(RowStatsTask<T> task) {
  constexpr int kWarps = kTileThreads / kWarp;
  __shared__ uint4 lines[kStatsVectors * kTileThreads];
  __shared__ uint4 words[kWarps][kStatsVectors];
  __shared__ float tops[kWarps];
  __shared__ StatsState states[kWarps];
  __shared__ Draw draws[kWarps];
  const int64_t begin = int64_t{blockIdx.x} * kStatsTile<T>;
  const int count = tile_count(begin, task.columns, kStatsTile<T>);

  for (int64_t row = blockIdx.y; row < task.rows; row += gridDim.y) {
    StatsTile<T> tile(task.logits + row * task.stride + begin, count, lines);
    StatsState state = empty_state();
    state.largest = warp_reduce<Max>(tile.largest());
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const bool leads_warp = threadIdx.x % kWarp == 0;
    if (leads_warp) tops[warp] = state.largest;
    __syncthreads();
    float largest = tops[0];
#pragma unroll
    for (int i = 1; i < kWarps; ++i) largest = fmaxf(largest, tops[i]);

    tile.find_largest(largest, words[warp], state);
    if (task.out.draw != nullptr) {
      const RowDraw of_row = row_draw(task.out.draw_inputs, row);
      const Draw draw = of_row.inverse == 0.0f ? no_draw() : tile.draw(of_row, task.options, begin);
      if (leads_warp) draws[warp] = draw;
    }
    tile.template accumulate<Normalizer>(largest, task.options, state);
    add_lanes(state, task.options);
    if (leads_warp) store_state(&states[warp], state);
    __syncthreads();
    if (threadIdx.x == 0) {
#pragma unroll
      for (int i = 1; i < kWarps; ++i) {
        const StatsState other = load_state(&states[i]);
        const float first = other.argmax < state.argmax ? other.largest : state.largest;
        merge(state, other);
        if (first == state.largest) state.largest = first;
      }
      if (state.argmax != INT_MAX) state.argmax += static_cast<int32_t>(begin);
      Draw draw = no_draw();
      for (int i = 0; i < kWarps && task.out.draw != nullptr; ++i)
        draw.take(draws[i].score, draws[i].id);
      if (task.tiles == 1) {
        const LogitLabels<T> labels = {task.logits, task.stride};
        write_stats<AccurateNormalizer>(task.out, row, state, task.options,
                                        labels.of(task.out, row), draw);
      } else {
        store_state(task.states + row * task.tiles + blockIdx.x, state);
        if (task.draws != nullptr) task.draws[row * task.tiles + blockIdx.x] = draw;
      }
    }
    // No barrier here: the next row writes `tops` only after all threads have passed the second
    // barrier, which follows the last read of `tops`, and `states` and `draws` only after the first
    // one.
  }
}

}  // namespace exn::cuda
