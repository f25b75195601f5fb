// SPDX-License-Identifier: Apache-2.0
//
// stablemax: StableMax and softmax over rows, plain or logarithmic, and their cross-entropy with
// gradient.
//
// A row that one block holds in registers, up to kHeldTiles tiles, is read once. A longer one is
// read twice: once for the states of its tiles, which a second kernel merges, and once to write.
// The launcher hands over so few rows at a time that the second reading finds them in the L2 cache.
// Both ways give the same bits.
#pragma once

#include "elements.cuh"
#include "normalizer.cuh"
#include "reduce.cuh"

namespace exn::cuda {

// The largest logit of a tile of a row and the sum of weights relative to it. A NaN shows in `sum`.
template <class A>
struct PartialState {
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
__device__ __forceinline__ RowState<A> finish_row(const PartialState<A>& partial) {
  const bool valid = partial.sum == partial.sum && abs_of(partial.largest) < infinity<A>();
  const A sum = valid ? partial.sum : quiet_nan<A>();
  return {partial.largest, A(1) / sum, log_of(sum)};
}

// State of the tile that kTileThreads threads hold in registers; each of them gets it. All threads
// of the block come here.
template <class Normalizer, int ITEMS, class A>
__device__ __forceinline__ PartialState<A> tile_state(const A (&values)[ITEMS], A* scratch) {
  constexpr int kWarps = kTileThreads / kWarp;
  PartialState<A> state;
  state.largest = -infinity<A>();
#pragma unroll
  for (const A z : values) state.largest = max_of(state.largest, z);
  state.largest = block_reduce<Max, kWarps>(state.largest, scratch);
  const Normalizer normalizer(state.largest);
  // Four chains: beside a term of 1 each addition may be off by half a unit in its last place, and
  // where the terms are equal always in the same direction.
  A sums[4] = {A(0), A(0), A(0), A(0)};
#pragma unroll
  for (int i = 0; i < ITEMS; ++i) sums[i % 4] += normalizer.weight(values[i]);
  state.sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  state.sum = block_reduce<Sum, kWarps>(state.sum, scratch + kWarps);
  return state;
}

constexpr int kTileScratch = 2 * kTileThreads / kWarp;

// Merges the states of a row's tiles by one warp: each lane every 32nd, each of which is rescaled
// once, then the lanes in a fixed tree. Every lane gets the result.
template <class Normalizer, class A>
__device__ __forceinline__ PartialState<A> merge_tiles(const PartialState<A>* parts,
                                                       int64_t tiles) {
  A largest = -infinity<A>(), sum = A(0);
  for (int64_t tile = threadIdx.x % kWarp; tile < tiles; tile += kWarp) {
    largest = max_of(largest, parts[tile].largest);
  }
  largest = warp_reduce<Max>(largest);
  const Normalizer normalizer(largest);
  for (int64_t tile = threadIdx.x % kWarp; tile < tiles; tile += kWarp) {
    const PartialState<A> partial = parts[tile];
    sum +=
        partial.largest == largest ? partial.sum : normalizer.weight(partial.largest) * partial.sum;
  }
  return {largest, warp_reduce<Sum>(sum)};
}

// Logits as both ops read them.
template <class T>
struct LogitRows {
  const T* data;
  int64_t rows;
  int64_t columns;
  int64_t stride;  // elements between rows
  int64_t tiles;   // per row: ceil(columns / kTile<T>)
};

// ---- rows that one block holds ------------------------------------------------------------------

// Blocks are kTileThreads threads wide, and group y holds tile y of the row: 1024 threads with 32
// values each (f64: 512 with 16), which leaves as many registers for all else. Half of an SM's
// registers are then full of logits: enough loads on their way with one block per SM, and shorter
// rows leave resources for more blocks. Few rows leave SMs idle, but spare two launches.
template <class T>
constexpr int kHeldTiles = sizeof(T) == 8 ? 4 : 8;
template <class T>
constexpr int kMostHeldThreads = kHeldTiles<T> * kTileThreads;

template <class T>
struct HeldScratch {
  acc_t<T> tile[kHeldTiles<T>][kTileScratch];
  PartialState<acc_t<T>> parts[kHeldTiles<T>];
  RowState<acc_t<T>> state;
};

__device__ __forceinline__ bool is_first_thread() { return threadIdx.x == 0 && threadIdx.y == 0; }

// The tile of the row of which this thread holds a slice. Asked for again where it is written, it
// is computed again: kept in between it would take registers, of which none are left.
struct HeldTile {
  int64_t begin;
  int count;
};

template <class T>
__device__ __forceinline__ HeldTile held_tile(const LogitRows<T>& logits) {
  unsigned tile = threadIdx.y;
  asm volatile("" : "+r"(tile));  // unknown to the compiler
  const int64_t begin = static_cast<int64_t>(tile) * kTile<T>;
  return {begin, tile_count(begin, logits.columns, kTile<T>)};
}

// Reads the block's slice of a row.
template <class T, int ITEMS>
__device__ __forceinline__ void load_held(const LogitRows<T>& logits, int64_t row,
                                          acc_t<T> (&values)[ITEMS]) {
  const HeldTile tile = held_tile(logits);
  load_tile(logits.data + row * logits.stride + tile.begin, tile.count, -infinity<acc_t<T>>(),
            values);
}

// State of the row whose tiles the block holds; it stays in `scratch`.
template <class Normalizer, class T, int ITEMS, class A>
__device__ __forceinline__ const RowState<A>& held_state(const LogitRows<T>& logits,
                                                         const A (&values)[ITEMS],
                                                         HeldScratch<T>& scratch) {
  const PartialState<A> partial = tile_state<Normalizer>(values, scratch.tile[threadIdx.y]);
  if (logits.tiles == 1) {
    if (threadIdx.x == 0) scratch.state = finish_row(partial);
  } else {
    if (threadIdx.x == 0) scratch.parts[threadIdx.y] = partial;
    __syncthreads();
    if (threadIdx.y == 0 && threadIdx.x < kWarp) {
      const PartialState<A> whole = merge_tiles<Normalizer>(scratch.parts, logits.tiles);
      if (threadIdx.x == 0) scratch.state = finish_row(whole);
    }
  }
  __syncthreads();
  return scratch.state;
}

// ---- rows that are too long for that ------------------------------------------------------------

// States of the tiles.
//
// Bytes: every logit once. One block per (row, tile), as many as there are tiles, so that a single
// long row is spread over many SMs.
template <class T, class Normalizer>
__global__ __launch_bounds__(kTileThreads) void tile_states_kernel(LogitRows<T> logits,
                                                                   PartialState<acc_t<T>>* parts) {
  using A = acc_t<T>;
  __shared__ A scratch[kTileScratch];
  for (int64_t item = blockIdx.x; item < logits.rows * logits.tiles; item += gridDim.x) {
    const T* row = logits.data + item / logits.tiles * logits.stride;
    const int64_t begin = item % logits.tiles * kTile<T>;
    A values[kTileItems<T>];
    load_tile(row + begin, tile_count(begin, logits.columns, kTile<T>), -infinity<A>(), values);
    const PartialState<A> state = tile_state<Normalizer>(values, scratch);
    if (threadIdx.x == 0) parts[item] = state;
    __syncthreads();  // the next item writes `scratch` again
  }
}

constexpr int kMergePartsThreads = 128;

// Merges the states of each row's tiles.
//
// Bytes: 8 (f64: 16) per tile. A row has few tiles (32 for a vocabulary of 128k), so one warp per
// row.
template <class Normalizer, class A>
__global__ __launch_bounds__(kMergePartsThreads,
                             8) void merge_parts_kernel(const PartialState<A>* parts, int64_t tiles,
                                                        int64_t rows, RowState<A>* states) {
  constexpr int kWarps = kMergePartsThreads / kWarp;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  for (int64_t row = first; row < rows; row += static_cast<int64_t>(gridDim.x) * kWarps) {
    const PartialState<A> state = merge_tiles<Normalizer>(parts + row * tiles, tiles);
    if (threadIdx.x % kWarp == 0) states[row] = finish_row(state);
  }
}

// ---- probabilities ------------------------------------------------------------------------------

template <class T>
struct StableMaxTask {
  LogitRows<T> logits;
  T* out;
  int64_t out_stride;
  int log;                           // 1: log-probabilities
  const RowState<acc_t<T>>* states;  // [rows]; unused when blocks hold rows
};

// The outputs of a tile in place of its logits.
template <class Normalizer, class T, int ITEMS, class A>
__device__ __forceinline__ void make_outputs(const StableMaxTask<T>& task, const RowState<A>& state,
                                             A (&values)[ITEMS]) {
  const Normalizer normalizer(state.largest);
  if (task.log) {
#pragma unroll
    for (A& z : values) z = normalizer.relative_log_weight(z) - state.log_sum;
  } else {
#pragma unroll
    for (A& z : values) z = normalizer.weight(z) * state.inverse_sum;
  }
}

// Rows of up to kHeldTiles tiles.
//
// Bytes: every logit once, every output once. One block per row, of as many threads as its tiles
// take; `out` may be the logits, as each thread writes the elements that it has read.
template <class T, class Normalizer>
__global__ __launch_bounds__(kMostHeldThreads<T>,
                             1) void stablemax_held_kernel(StableMaxTask<T> task) {
  using A = acc_t<T>;
  __shared__ HeldScratch<T> scratch;
  const LogitRows<T>& logits = task.logits;
  const int64_t row = blockIdx.x;
  A values[kTileItems<T>];
  load_held(logits, row, values);
  const RowState<A>& state = held_state<Normalizer>(logits, values, scratch);
  make_outputs<Normalizer>(task, state, values);
  const HeldTile tile = held_tile(logits);
  store_tile(task.out + row * task.out_stride + tile.begin, tile.count, values);
}

// Writes one tile of a longer row.
//
// Bytes: every logit once, every output once, 12 (f64: 24) per block for the row's state. One block
// per (row, tile); `out` may be the logits here too.
template <class T, class Normalizer>
__global__ __launch_bounds__(kTileThreads, 6) void stablemax_kernel(StableMaxTask<T> task) {
  using A = acc_t<T>;
  __shared__ RowState<A> state;
  const LogitRows<T>& logits = task.logits;
  const int64_t row = blockIdx.x / logits.tiles;
  const int64_t begin = blockIdx.x % logits.tiles * kTile<T>;
  const int count = tile_count(begin, logits.columns, kTile<T>);
  A values[kTileItems<T>];
  load_tile(logits.data + row * logits.stride + begin, count, -infinity<A>(), values);
  if (threadIdx.x == 0) state = task.states[row];
  __syncthreads();
  make_outputs<Normalizer>(task, state, values);
  store_tile(task.out + row * task.out_stride + begin, count, values);
}

// ---- cross-entropy ------------------------------------------------------------------------------

// How many labels are not ignored.
template <class A>
struct LabelCount {
  A count;
  A inverse;
};

template <class T>
struct CrossEntropyTask {
  LogitRows<T> logits;
  const void* labels;  // i32 or i64
  int wide_labels;
  int64_t ignore_index;
  acc_t<T>* row_loss;  // [rows], null if neither loss nor its mean is asked for
  T* grad;             // null if not asked for
  int64_t grad_stride;
  const LabelCount<acc_t<T>>* count;  // null: no mean
  const RowState<acc_t<T>>* states;   // [rows]; unused when blocks hold rows
};

__device__ __forceinline__ int64_t label_of(const void* labels, int wide, int64_t row) {
  return wide ? static_cast<const int64_t*>(labels)[row] : static_cast<const int32_t*>(labels)[row];
}

// What all threads of a row need beside its logits; one of them reads it.
template <class A>
struct Target {
  int64_t label;
  A logit;  // the label's; NaN if it is not among the columns asked for
  A scale;  // of the gradient; NaN if the label names no column
  int ignored;
};

// Of a row, for its columns from `begin` on: elsewhere the gradient may be where the logit was.
template <class T>
__device__ __forceinline__ Target<acc_t<T>> target_of(const CrossEntropyTask<T>& task, int64_t row,
                                                      int64_t begin, int64_t count) {
  using A = acc_t<T>;
  Target<A> target;
  target.label = label_of(task.labels, task.wide_labels, row);
  target.logit = target.scale = quiet_nan<A>();
  if (target.label >= begin && target.label < begin + count) {
    target.logit = widen(task.logits.data[row * task.logits.stride + target.label]);
  }
  if (target.label >= 0 && target.label < task.logits.columns) {
    target.scale = task.count == nullptr ? A(1) : task.count->inverse;
  }
  target.ignored = target.label == task.ignore_index;
  return target;
}

// Loss of a row, -ln p_label; 0 if ignored, NaN for a label that names no column.
template <class Normalizer, class A>
__device__ __forceinline__ A row_loss(const Target<A>& target, const RowState<A>& state) {
  if (target.ignored) return A(0);
  return state.log_sum - Normalizer(state.largest).relative_log_weight(target.logit);
}

constexpr int kLossThreads = 128;

// Losses of rows that no block holds. One thread per row: a label, a logit and a state are read.
// Runs before the gradient, which may overwrite the logits.
template <class T, class Normalizer>
__global__ __launch_bounds__(kLossThreads) void row_loss_kernel(CrossEntropyTask<T> task) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kLossThreads;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kLossThreads + threadIdx.x;
       row < task.logits.rows; row += step) {
    const Target<acc_t<T>> target = target_of(task, row, 0, task.logits.columns);
    task.row_loss[row] = row_loss<Normalizer>(target, task.states[row]);
  }
}

// dL/dz at a logit; `hit` is 1 at the label and 0 elsewhere.
template <class Normalizer, class A>
__device__ __forceinline__ A gradient_at(const Normalizer& normalizer, const RowState<A>& state,
                                         A z, A hit, A scale) {
  const A p = normalizer.weight(z) * state.inverse_sum;
  return Normalizer::slope(z) * (p - hit) * scale;
}

// Writes the gradient of a tile, `count` columns from `begin` on.
template <class T, class Normalizer, int ITEMS, class A>
__device__ __forceinline__ void write_gradient(const CrossEntropyTask<T>& task, int64_t row,
                                               int64_t begin, int count, const Target<A>& target,
                                               const RowState<A>& state, A (&values)[ITEMS]) {
  T* const grad = task.grad + row * task.grad_stride;
  const Normalizer normalizer(state.largest);
  if (target.ignored) {  // a choice in each place would cost registers
#pragma unroll
    for (A& z : values) z = A(0);
    store_tile(grad + begin, count, values);
    return;
  }
#pragma unroll
  for (A& z : values) z = gradient_at(normalizer, state, z, A(0), target.scale);
  store_tile(grad + begin, count, values);
  // The thread that has written the label's place does so again: a comparison in each of the places
  // above would cost more.
  const int64_t place = target.label - begin;
  if (place >= 0 && place < count && place / kVector<T> % kTileThreads == threadIdx.x) {
    grad[target.label] =
        narrow<T>(gradient_at(normalizer, state, target.logit, A(1), target.scale));
  }
}

// Loss and gradient of rows of up to kHeldTiles tiles.
//
// Bytes: every logit once, every gradient element once, a label, its logit and a loss per row. One
// block per row, of as many threads as its tiles take; `grad` may be the logits.
template <class T, class Normalizer>
__global__ __launch_bounds__(kMostHeldThreads<T>,
                             1) void cross_entropy_held_kernel(CrossEntropyTask<T> task) {
  using A = acc_t<T>;
  __shared__ HeldScratch<T> scratch;
  __shared__ Target<A> target;
  const LogitRows<T>& logits = task.logits;
  const int64_t row = blockIdx.x;
  A values[kTileItems<T>];
  load_held(logits, row, values);
  if (is_first_thread()) target = target_of(task, row, 0, logits.columns);
  const RowState<A>& state = held_state<Normalizer>(logits, values, scratch);
  if (task.grad != nullptr) {
    const HeldTile tile = held_tile(logits);
    write_gradient<T, Normalizer>(task, row, tile.begin, tile.count, target, state, values);
  }
  if (is_first_thread() && task.row_loss != nullptr) {
    task.row_loss[row] = row_loss<Normalizer>(target, state);
  }
}

// One tile of the gradient of a longer row.
//
// Bytes: every logit once, every gradient element once, 24 (f64: 40) per block for the row's state,
// its label and the inverse count. One block per (row, tile); `grad` may be the logits.
template <class T, class Normalizer>
__global__ __launch_bounds__(kTileThreads, 6) void cross_entropy_kernel(CrossEntropyTask<T> task) {
  using A = acc_t<T>;
  __shared__ RowState<A> state;
  __shared__ Target<A> target;
  const LogitRows<T>& logits = task.logits;
  const int64_t row = blockIdx.x / logits.tiles;
  const int64_t begin = blockIdx.x % logits.tiles * kTile<T>;
  const int count = tile_count(begin, logits.columns, kTile<T>);
  A values[kTileItems<T>];
  load_tile(logits.data + row * logits.stride + begin, count, -infinity<A>(), values);
  if (threadIdx.x == 0) {
    state = task.states[row];
    target = target_of(task, row, begin, count);
  }
  __syncthreads();
  write_gradient<T, Normalizer>(task, row, begin, count, target, state, values);
}

constexpr int kCountThreads = 256;

// Counts the labels that are not ignored, with all threads of a block: 4 or 8 bytes per row.
template <class A>
__device__ __forceinline__ void count_labels(const void* labels, int wide, int64_t rows,
                                             int64_t ignore_index, LabelCount<A>* count) {
  __shared__ long long scratch[kCountThreads / kWarp];
  long long mine = 0;
  for (int64_t row = threadIdx.x; row < rows; row += kCountThreads) {
    mine += label_of(labels, wide, row) != ignore_index;
  }
  mine = block_reduce<Sum, kCountThreads / kWarp>(mine, scratch);
  const A all = static_cast<A>(mine);
  if (threadIdx.x == 0) *count = {all, A(1) / all};
}

// The same by one block.
template <class A>
__global__ __launch_bounds__(kCountThreads) void count_labels_kernel(const void* labels, int wide,
                                                                     int64_t rows,
                                                                     int64_t ignore_index,
                                                                     LabelCount<A>* count) {
  count_labels(labels, wide, rows, ignore_index, count);
}

// Mean of the row losses over the labels that count; NaN if there is none. One block, fixed order.
template <class A>
__global__ __launch_bounds__(kCountThreads) void mean_loss_kernel(const A* row_loss, int64_t rows,
                                                                  const LabelCount<A>* count,
                                                                  A* mean) {
  __shared__ A scratch[kCountThreads / kWarp];
  A mine = A(0);
  for (int64_t row = threadIdx.x; row < rows; row += kCountThreads) mine += row_loss[row];
  mine = block_reduce<Sum, kCountThreads / kWarp>(mine, scratch);
  if (threadIdx.x == 0) *mean = mine / count->count;
}

}  // namespace exn::cuda
