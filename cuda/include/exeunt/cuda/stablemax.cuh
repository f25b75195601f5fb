// SPDX-License-Identifier: Apache-2.0
//
// stablemax: StableMax and softmax over rows, plain or logarithmic, and their cross-entropy with
// gradient.
//
// A row that fits into one tile is read once. A longer one is read twice: once for the states of
// its tiles, which a second kernel merges, and once to write. The launcher hands over so few rows
// at a time that the second reading finds them in the L2 cache.
#pragma once

#include "elements.cuh"
#include "normalizer.cuh"
#include "reduce.cuh"

namespace exn::cuda {

// The largest logit of a part of a row and the sum of weights relative to it. A NaN shows in `sum`.
template <class A>
struct PartState {
  A largest;
  A sum;
};

// What a whole row's outputs need: p = weight / sum, ln p = relative ln weight - log_sum. NaN if
// invalid.
template <class A>
struct RowState {
  A largest;
  A inverse_sum;
  A log_sum;
};

template <class A>
__device__ __forceinline__ RowState<A> finish_row(const PartState<A>& part) {
  const bool valid = part.sum == part.sum && abs_of(part.largest) < infinity<A>();
  const A sum = valid ? part.sum : quiet_nan<A>();
  return {part.largest, A(1) / sum, log_of(sum)};
}

template <class Normalizer, class A>
__device__ __forceinline__ PartState<A> merge_parts(const PartState<A>& a, const PartState<A>& b) {
  const A largest = max_of(a.largest, b.largest);
  const Normalizer normalizer(largest);
  return {largest, normalizer.weight(a.largest) * a.sum + normalizer.weight(b.largest) * b.sum};
}

// State of the tile that the block holds in registers; every thread gets it.
template <class Normalizer, int ITEMS, class A>
__device__ __forceinline__ PartState<A> tile_state(const A (&values)[ITEMS], A* scratch) {
  constexpr int kWarps = kTileThreads / kWarp;
  PartState<A> state;
  state.largest = -infinity<A>();
#pragma unroll
  for (const A z : values) state.largest = max_of(state.largest, z);
  state.largest = block_reduce<Max, kWarps>(state.largest, scratch);
  const Normalizer normalizer(state.largest);
  state.sum = A(0);
#pragma unroll
  for (const A z : values) state.sum += normalizer.weight(z);
  state.sum = block_reduce<Sum, kWarps>(state.sum, scratch + kWarps);
  return state;
}

constexpr int kTileScratch = 2 * kTileThreads / kWarp;

// Logits as both ops read them.
template <class T>
struct LogitRows {
  const T* data;
  int64_t rows;
  int64_t columns;
  int64_t stride;  // elements between rows
  int64_t tiles;   // per row: ceil(columns / kTile<T>)
};

// States of the tiles of rows longer than one tile.
//
// Bytes: every logit once. One block per (row, tile), as many as there are tiles, so that a single
// long row is spread over many SMs.
template <class T, class Normalizer>
__global__ __launch_bounds__(kTileThreads) void tile_states_kernel(LogitRows<T> logits,
                                                                   PartState<acc_t<T>>* parts) {
  using A = acc_t<T>;
  __shared__ A scratch[kTileScratch];
  for (int64_t item = blockIdx.x; item < logits.rows * logits.tiles; item += gridDim.x) {
    const T* row = logits.data + item / logits.tiles * logits.stride;
    const int64_t begin = item % logits.tiles * kTile<T>;
    A values[kTileItems<T>];
    load_tile(row + begin, tile_count(begin, logits.columns, kTile<T>), -infinity<A>(), values);
    const PartState<A> state = tile_state<Normalizer>(values, scratch);
    if (threadIdx.x == 0) parts[item] = state;
    __syncthreads();  // the next item writes `scratch` again
  }
}

constexpr int kMergePartsThreads = 128;

// Merges the states of each row's tiles.
//
// Bytes: 8 (f64: 16) per tile. A row has few tiles (32 for a vocabulary of 128k), so one warp per
// row: each lane merges every 32nd part, then the lanes are merged in a fixed tree.
template <class Normalizer, class A>
__global__ __launch_bounds__(kMergePartsThreads, 8) void merge_parts_kernel(
    const PartState<A>* parts, int64_t tiles, int64_t rows, RowState<A>* states) {
  constexpr int kWarps = kMergePartsThreads / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  for (int64_t row = first; row < rows; row += static_cast<int64_t>(gridDim.x) * kWarps) {
    PartState<A> state = {-infinity<A>(), A(0)};
    for (int64_t tile = lane; tile < tiles; tile += kWarp) {
      state = merge_parts<Normalizer>(state, parts[row * tiles + tile]);
    }
#pragma unroll
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      PartState<A> other;
      other.largest = __shfl_down_sync(kFullWarp, state.largest, offset);
      other.sum = __shfl_down_sync(kFullWarp, state.sum, offset);
      state = merge_parts<Normalizer>(state, other);
    }
    if (lane == 0) states[row] = finish_row(state);
  }
}

// ---- probabilities ------------------------------------------------------------------------------

template <class T>
struct StableMaxTask {
  LogitRows<T> logits;
  T* out;
  int64_t out_stride;
  int log;                           // 1: log-probabilities
  const RowState<acc_t<T>>* states;  // [rows]; unused when a row is one tile
};

// Writes one tile of one row.
//
// Bytes: every logit once, every output once. One block per (row, tile); `out` may be the logits,
// as each thread writes the elements that it has read.
template <class T, class Normalizer>
__global__ __launch_bounds__(kTileThreads, 6) void stablemax_kernel(StableMaxTask<T> task) {
  using A = acc_t<T>;
  __shared__ A scratch[kTileScratch];
  const LogitRows<T>& logits = task.logits;
  for (int64_t item = blockIdx.x; item < logits.rows * logits.tiles; item += gridDim.x) {
    const int64_t row = item / logits.tiles;
    const int64_t begin = item % logits.tiles * kTile<T>;
    const int count = tile_count(begin, logits.columns, kTile<T>);
    A values[kTileItems<T>];
    load_tile(logits.data + row * logits.stride + begin, count, -infinity<A>(), values);
    RowState<A> state;
    if (logits.tiles == 1) {
      state = finish_row(tile_state<Normalizer>(values, scratch));
    } else {
      state = task.states[row];
    }
    const Normalizer normalizer(state.largest);
    if (task.log) {
#pragma unroll
      for (A& z : values) z = normalizer.relative_log_weight(z) - state.log_sum;
    } else {
#pragma unroll
      for (A& z : values) z = normalizer.weight(z) * state.inverse_sum;
    }
    store_tile(task.out + row * task.out_stride + begin, count, values);
    __syncthreads();  // the next item writes `scratch` again
  }
}

// ---- cross-entropy ------------------------------------------------------------------------------

template <class T>
struct CrossEntropyTask {
  LogitRows<T> logits;
  const void* labels;  // i32 or i64
  int wide_labels;
  int64_t ignore_index;
  acc_t<T>* row_loss;  // [rows], null if neither loss nor its mean is asked for
  T* grad;             // null if not asked for
  int64_t grad_stride;
  const int64_t* count;              // labels that are not ignored; null: no mean
  const RowState<acc_t<T>>* states;  // [rows]; unused when a row is one tile
};

__device__ __forceinline__ int64_t label_of(const void* labels, int wide, int64_t row) {
  return wide ? static_cast<const int64_t*>(labels)[row] : static_cast<const int32_t*>(labels)[row];
}

// Loss of a row, -ln p_label; 0 if ignored, NaN for a label that names no column.
template <class Normalizer, class T, class A>
__device__ __forceinline__ A row_loss(const CrossEntropyTask<T>& task, int64_t row, int64_t label,
                                      const RowState<A>& state) {
  if (label == task.ignore_index) return A(0);
  if (label < 0 || label >= task.logits.columns) return quiet_nan<A>();
  const A z = widen(task.logits.data[row * task.logits.stride + label]);
  return state.log_sum - Normalizer(state.largest).relative_log_weight(z);
}

constexpr int kLossThreads = 128;

// Losses of rows longer than one tile. One thread per row: a label, a logit and a state are read.
// Runs before the gradient, which may overwrite the logits.
template <class T, class Normalizer>
__global__ __launch_bounds__(kLossThreads) void row_loss_kernel(CrossEntropyTask<T> task) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kLossThreads;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kLossThreads + threadIdx.x;
       row < task.logits.rows; row += step) {
    const int64_t label = label_of(task.labels, task.wide_labels, row);
    task.row_loss[row] = row_loss<Normalizer>(task, row, label, task.states[row]);
  }
}

// One tile of the gradient of one row; for rows of one tile the loss as well.
//
// Bytes: every logit once, every gradient element once. One block per (row, tile); `grad` may be
// the logits.
template <class T, class Normalizer>
__global__ __launch_bounds__(kTileThreads, 6) void cross_entropy_kernel(CrossEntropyTask<T> task) {
  using A = acc_t<T>;
  __shared__ A scratch[kTileScratch];
  const LogitRows<T>& logits = task.logits;
  for (int64_t item = blockIdx.x; item < logits.rows * logits.tiles; item += gridDim.x) {
    const int64_t row = item / logits.tiles;
    const int64_t begin = item % logits.tiles * kTile<T>;
    const int64_t label = label_of(task.labels, task.wide_labels, row);
    const int count = tile_count(begin, logits.columns, kTile<T>);
    A values[kTileItems<T>];
    load_tile(logits.data + row * logits.stride + begin, count, -infinity<A>(), values);
    RowState<A> state;
    if (logits.tiles == 1) {
      state = finish_row(tile_state<Normalizer>(values, scratch));
      if (threadIdx.x == 0 && task.row_loss != nullptr) {
        task.row_loss[row] = row_loss<Normalizer>(task, row, label, state);
      }
    } else {
      state = task.states[row];
    }
    // The label's logit is read, and `scratch` may be written again by the next item.
    __syncthreads();
    if (task.grad == nullptr) continue;

    const Normalizer normalizer(state.largest);
    const bool ignored = label == task.ignore_index;
    const bool unknown = label < 0 || label >= logits.columns;
    A scale = task.count == nullptr ? A(1) : A(1) / static_cast<A>(*task.count);
    if (unknown) scale = quiet_nan<A>();
    const bool here = label >= begin && label < begin + count;
    const int label_place = here ? static_cast<int>(label - begin) : -1;
#pragma unroll
    for (int i = 0; i < kTileItems<T>; ++i) {
      const A hit = tile_place<T>(i) == label_place ? A(1) : A(0);
      const A p = normalizer.weight(values[i]) * state.inverse_sum;
      const A g = Normalizer::slope(values[i]) * (p - hit) * scale;
      values[i] = ignored ? A(0) : g;
    }
    store_tile(task.grad + row * task.grad_stride + begin, count, values);
  }
}

constexpr int kCountThreads = 256;

// Counts the labels that are not ignored. One block: 4 or 8 bytes per row.
static __global__ __launch_bounds__(kCountThreads) void count_labels_kernel(const void* labels,
                                                                            int wide, int64_t rows,
                                                                            int64_t ignore_index,
                                                                            int64_t* count) {
  __shared__ long long scratch[kCountThreads / kWarp];
  long long mine = 0;
  for (int64_t row = threadIdx.x; row < rows; row += kCountThreads) {
    mine += label_of(labels, wide, row) != ignore_index;
  }
  mine = block_reduce<Sum, kCountThreads / kWarp>(mine, scratch);
  if (threadIdx.x == 0) *count = mine;
}

// Mean of the row losses over the labels that count; NaN if there is none. One block, fixed order.
template <class A>
__global__ __launch_bounds__(kCountThreads) void mean_loss_kernel(const A* row_loss, int64_t rows,
                                                                  const int64_t* count, A* mean) {
  __shared__ A scratch[kCountThreads / kWarp];
  A mine = A(0);
  for (int64_t row = threadIdx.x; row < rows; row += kCountThreads) mine += row_loss[row];
  mine = block_reduce<Sum, kCountThreads / kWarp>(mine, scratch);
  if (threadIdx.x == 0) *mean = mine / static_cast<A>(*count);
}

}  // namespace exn::cuda
