// SPDX-License-Identifier: Apache-2.0
//
// row_stats: confidence statistics of rows of logits in one pass; probabilities are never written.
#pragma once

#include "elements.cuh"
#include "stats.cuh"

namespace exn::cuda {

template <class T>
struct RowStatsTask {
  const T* logits;
  int64_t rows;
  int64_t columns;
  int64_t stride;  // elements between rows
  int64_t tiles;   // per row: ceil(columns / kTile<T>)
  StatsOptions options;
  StatsState* states;  // [rows, tiles]; unused when tiles is 1
  StatsTargets out;
};

// Statistics of one tile of one row, into the workspace, or of the whole row if it fits into a
// tile.
//
// Bytes: every logit once, 32 per tile written. One block per (row, tile): a tile stays in
// registers between finding its maximum and adding up exponentials, so each logit costs one
// exponential and nothing is rescaled. Tiles depend on the row's length alone, hence a row's
// results have the same bits in every batch, and a single long row is spread over many SMs.
template <class T, class Normalizer, class AccurateNormalizer>
__global__ __launch_bounds__(kTileThreads, 4) void row_stats_tile_kernel(RowStatsTask<T> task) {
  constexpr int kWarps = kTileThreads / kWarp;
  __shared__ float first[kWarps], second[kWarps];
  __shared__ StatsState sums[kWarps];
  const int warp = threadIdx.x / kWarp;
  const bool leads_warp = threadIdx.x % kWarp == 0;

  for (int64_t item = blockIdx.x; item < task.rows * task.tiles; item += gridDim.x) {
    const int64_t row = item / task.tiles;
    const int64_t begin = item % task.tiles * kTile<T>;
    const int count = tile_count(begin, task.columns, kTile<T>);
    float values[kTileItems<T>];
    load_tile(task.logits + row * task.stride + begin, count, -INFINITY, values);

    TopTwo top;
#pragma unroll
    for (const float z : values) top.add(z);
    top = warp_top_two(top);
    if (leads_warp) {
      first[warp] = top.first;
      second[warp] = top.second;
    }
    __syncthreads();
    top = TopTwo();
#pragma unroll
    for (int i = 0; i < kWarps; ++i) top.merge(first[i], second[i]);

    StatsState state;
    state.largest = top.first;
    state.second = top.second;
    state.argmax = INT_MAX;
#pragma unroll
    for (int i = kTileItems<T> - 1; i >= 0; --i) {
      if (values[i] == state.largest) state.argmax = tile_place<T>(i);
    }
    const auto place = [](int i) { return tile_place<T>(i); };
    accumulate<Normalizer>(values, task.options, count, place, state);
    warp_reduce_sums(state, task.options);
    if (leads_warp) store_state(&sums[warp], state);
    __syncthreads();
    if (threadIdx.x == 0) {
#pragma unroll
      for (int i = 1; i < kWarps; ++i) {
        const StatsState other = load_state(&sums[i]);
        state.argmax = Min::apply(state.argmax, other.argmax);
        state.sum += other.sum;
        state.weighted_log += other.weighted_log;
        state.sum2 += other.sum2;
        state.weighted_log2 += other.weighted_log2;
        state.mean_log += other.mean_log;
      }
      if (state.argmax != INT_MAX) state.argmax += static_cast<int32_t>(begin);
      if (task.tiles == 1) {
        write_stats<AccurateNormalizer>(task.out, row, state, task.options);
      } else {
        store_state(task.states + item, state);
      }
    }
    // No barrier here: the next item writes `first` only after all threads have passed the second
    // barrier, which lies behind the last read of `first`, and `sums` only after the first one.
  }
}

}  // namespace exn::cuda
