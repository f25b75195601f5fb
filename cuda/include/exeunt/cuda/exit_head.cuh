// SPDX-License-Identifier: Apache-2.0
//
// exit_head: hidden state -> [translator] -> [norm] -> LM head -> statistics of the logits, which
// never leave the chip. Kernels in order: prepare_rows_kernel, [linear_kernel,
// prepare_rows_kernel,] exit_head_kernel, merge_stats_kernel.
#pragma once

#include "linear.cuh"
#include "stats.cuh"

namespace exn::cuda {

enum class Norm : int { kNone, kRms, kLayer };
enum class Rounding : int { kNone, kF16, kBF16 };

template <class T>
struct PrepareTask {
  const T* in;
  int64_t in_stride;
  float* out;  // zeros from `columns` on
  int64_t out_stride;
  int64_t rows;
  int64_t columns;
  Norm norm;
  float eps;
  const float* weight;  // [columns], optional
  const float* bias;    // [columns], optional
  Rounding rounding;
};

__device__ __forceinline__ float round_as(Rounding rounding, float x) {
  switch (rounding) {
    case Rounding::kF16:
      return __half2float(__float2half_rn(x));
    case Rounding::kBF16:
      return __bfloat162float(__float2bfloat16_rn(x));
    default:
      return x;
  }
}

// Normalises rows into f32 for the products that follow.
//
// Bytes: each row once (rows longer than a tile of 4096: again from the L1 cache), 4 per element
// written. One block per row.
template <class T>
__global__ __launch_bounds__(kTileThreads, 6) void prepare_rows_kernel(PrepareTask<T> task) {
  constexpr int kWarps = kTileThreads / kWarp;
  constexpr int kItems = kTileItems<T>;
  __shared__ float scratch[2 * kWarps];
  const T* row = task.in + static_cast<int64_t>(blockIdx.x) * task.in_stride;
  float* out = task.out + static_cast<int64_t>(blockIdx.x) * task.out_stride;
  const float count = static_cast<float>(task.columns);
  const bool one_tile = task.columns <= kTile<T>;
  float x[kItems];

  float mean = 0.0f;
  if (task.norm == Norm::kLayer) {
    for (int64_t begin = 0; begin < task.columns; begin += kTile<T>) {
      load_tile(row + begin, tile_count(begin, task.columns, kTile<T>), 0.0f, x);
#pragma unroll
      for (int i = 0; i < kItems; ++i) mean += x[i];
    }
    mean = block_reduce<Sum, kWarps>(mean, scratch) / count;
  }
  float scale = 1.0f;
  if (task.norm != Norm::kNone) {
    float squares = 0.0f;
    for (int64_t begin = 0; begin < task.columns; begin += kTile<T>) {
      load_tile(row + begin, tile_count(begin, task.columns, kTile<T>), mean, x);
#pragma unroll
      for (int i = 0; i < kItems; ++i) squares = fmaf(x[i] - mean, x[i] - mean, squares);
    }
    squares = block_reduce<Sum, kWarps>(squares, scratch + kWarps);
    scale = 1.0f / sqrtf(squares / count + task.eps);
  }
  for (int64_t begin = 0; begin < task.out_stride; begin += kTile<T>) {
    if (task.norm == Norm::kNone || !one_tile) {
      load_tile(row + begin, tile_count(begin, task.columns, kTile<T>), 0.0f, x);
    }
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const int64_t column = begin + tile_place<T>(i);
      if (column >= task.out_stride) continue;
      float y = (x[i] - mean) * scale;
      if (column < task.columns) {
        if (task.weight != nullptr) y *= task.weight[column];
        if (task.bias != nullptr) y += task.bias[column];
      }
      out[column] = column < task.columns ? round_as(task.rounding, y) : 0.0f;
    }
  }
}

struct HeadOutput {
  const float* bias;  // [V], optional
  StatsOptions options;
  StatsState* states;  // [R, tiles of 128 outputs]
  int64_t tiles;
};

// What a lane knows of the four outputs of a tile that it looks after: lane, lane + 32, ...
struct LaneOutputs {
  int32_t id[4];  // row of W; -1: none
  bool exists[4];
  float bias[4];
};

template <class W>
__device__ __forceinline__ LaneOutputs lane_outputs(const LinearInput<W>& input, const float* bias,
                                                    int64_t first) {
  LaneOutputs lane;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t output = first + threadIdx.x % kWarp + i * kWarp;
    lane.id[i] = static_cast<int32_t>(weight_row(input, output));
    lane.exists[i] = output < input.outputs;
    lane.bias[i] = lane.id[i] >= 0 && bias != nullptr ? bias[lane.id[i]] : 0.0f;
  }
  return lane;
}

// Statistics of one row's 128 products, by one warp.
template <class Normalizer>
__device__ __forceinline__ StatsState products_state(const float* products,
                                                     const LaneOutputs& outputs, int count,
                                                     const StatsOptions& options) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float z[4];
  TopTwo top;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    z[i] = products[lane + i * kWarp] + outputs.bias[i];
    // A list entry outside the vocabulary makes every row invalid.
    if (outputs.id[i] < 0) z[i] = outputs.exists[i] ? NAN : -INFINITY;
    top.add(z[i]);
  }
  top = warp_top_two(top);
  StatsState state;
  state.largest = top.first;
  state.second = top.second;
  state.argmax = INT_MAX;  // the smallest id, which need not be the first place
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (z[i] == state.largest && outputs.id[i] >= 0) {
      state.argmax = Min::apply(state.argmax, outputs.id[i]);
    }
  }
  accumulate<Normalizer>(z, options, count, [&](int i) { return lane + i * kWarp; }, state);
  warp_reduce_sums(state, options);
  return state;
}

// Logits of 128 vocabulary rows (or list entries) for ROWS rows, and their statistics.
//
// Bytes: those of W once for each block of up to 64 rows; x from the L2 cache; 32 per (row, 128
// logits) written. Grid: that of linear_kernel. A vocabulary of 32k gives 250 blocks, two or three
// of which run on an SM at once.
template <class W, int ROWS>
__global__ void EXN_LINEAR_BOUNDS(W, ROWS)
    exit_head_kernel(LinearInput<W> input, HeadOutput output) {
  using Shape = LinearShape<W, ROWS>;
  EXN_DYN_SMEM(shared);
  __shared__ const W* rows_of_w[kLinearOutputs];
  const int64_t first_row = linear_first_row(ROWS);
  const int64_t tile = linear_tile_index();
  if (tile >= output.tiles) return;
  const int64_t first_output = tile * kLinearOutputs;
  find_weight_rows<W, ROWS>(input, first_output, rows_of_w);

  float results[Shape::kOutputs][Shape::kRows];
  linear_tile<W, ROWS>(input, rows_of_w, first_row, shared, results);

  const float* const products = share_results<W, ROWS>(results, shared);

  const LaneOutputs outputs = lane_outputs(input, output.bias, first_output);
  const int count = tile_count(first_output, input.outputs, kLinearOutputs);
#pragma unroll 1
  for (int r = static_cast<int>(threadIdx.x) / kWarp; r < ROWS; r += Shape::kThreads / kWarp) {
    if (first_row + r >= input.rows) break;
    const float* row = products + r * kResultPitch;
    const StatsState state =
        output.options.stablemax
            ? products_state<StableMax<float>>(row, outputs, count, output.options)
            : products_state<FastSoftmax>(row, outputs, count, output.options);
    if (threadIdx.x % kWarp == 0)
      store_state(output.states + (first_row + r) * output.tiles + tile, state);
  }
}

}  // namespace exn::cuda
