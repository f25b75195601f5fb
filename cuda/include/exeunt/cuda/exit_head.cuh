// SPDX-License-Identifier: Apache-2.0
//
// exit_head: hidden state -> [translator] -> [norm] -> LM head -> statistics of the logits, which never leave the
// chip. Kernels in order: prepare_rows_kernel, [linear_kernel, prepare_rows_kernel,] exit_head_kernel,
// merge_stats_kernel.
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
// Bytes: each row once (rows longer than a tile of 4096: again from the L1 cache), 4 per element written. One block per row.
template <class T>
__global__ __launch_bounds__(kTileThreads) void prepare_rows_kernel(PrepareTask<T> task) {
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
    if (task.norm == Norm::kNone || !one_tile) load_tile(row + begin, tile_count(begin, task.columns, kTile<T>), 0.0f, x);
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

// Statistics of one row's 128 logits, by one warp, four logits per lane.
template <class Normalizer>
__device__ __forceinline__ StatsState logits_state(const float (&z)[4], const int32_t* ids, int count,
                                                   const StatsOptions& options) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  TopTwo top;
#pragma unroll
  for (const float value : z) top.add(value);
  top = warp_top_two(top);
  StatsState state;
  state.largest = top.first;
  state.second = top.second;
  // Padding has no index below `count`; ids are looked up for the largest only, and the smallest id wins.
  accumulate<Normalizer>(z, options, count, [&](int i) { return lane + i * kWarp; }, state);
  int32_t argmax = INT_MAX;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (z[i] == state.largest) argmax = Min::apply(argmax, ids[lane + i * kWarp]);
  }
  state.argmax = argmax;
  warp_reduce_sums(state, options);
  return state;
}

// Logits of 128 vocabulary rows (or list entries) for ROWS rows, and their statistics.
//
// Bytes: those of W once for each block of up to 64 rows; x from the L2 cache; 32 per (row, 128 logits) written. Grid: row
// blocks times vocabulary tiles, row blocks fastest, so that W comes from memory once even for more than 64 rows
// as long as the tile stays cached. A vocabulary of 32k gives 250 blocks, two or three of which run on an SM at once.
template <class W, int ROWS>
__global__ __launch_bounds__((LinearShape<W, ROWS>::kThreads), (LinearShape<W, ROWS>::kBlocksPerSm)) void exit_head_kernel(
    LinearInput<W> input, HeadOutput output) {
  using Shape = LinearShape<W, ROWS>;
  constexpr int kPitch = kLinearOutputs + 1;
  EXN_DYN_SMEM(shared);
  __shared__ int64_t rows_of_w[kLinearOutputs];
  __shared__ int32_t ids[kLinearOutputs];
  const int64_t row_blocks = (input.rows + ROWS - 1) / ROWS;
  const int64_t first_row = blockIdx.x % row_blocks * ROWS;
  const int64_t tile = blockIdx.x / row_blocks;
  const int64_t first_output = tile * kLinearOutputs;
  find_weight_rows<W, ROWS>(input, first_output, rows_of_w);

  float results[Shape::kOutputs][Shape::kRows];
  linear_tile<W, ROWS>(input, rows_of_w, first_row, shared, results);

  float* const logits = reinterpret_cast<float*>(shared);  // [ROWS][kPitch]
#pragma unroll
  for (int o = 0; o < Shape::kOutputs; ++o) {
    const int column = static_cast<int>(threadIdx.x) % Shape::kColumns + o * Shape::kColumns;
    const int64_t id = rows_of_w[column];
    const bool exists = first_output + column < input.outputs;
    const float bias = id >= 0 && output.bias != nullptr ? output.bias[id] : 0.0f;
#pragma unroll
    for (int r = 0; r < Shape::kRows; ++r) {
      // A list entry outside the vocabulary makes every row invalid.
      float z = exists ? NAN : -INFINITY;
      if (id >= 0) z = treat_logit(results[o][r] + bias, output.options);
      logits[(threadIdx.x / Shape::kColumns * Shape::kRows + r) * kPitch + column] = z;
    }
    if (threadIdx.x / Shape::kColumns == 0) ids[column] = static_cast<int32_t>(id);
  }
  __syncthreads();

  const int64_t left = input.outputs - first_output;
  const int count = left < kLinearOutputs ? static_cast<int>(left) : kLinearOutputs;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int r = static_cast<int>(threadIdx.x) / kWarp; r < ROWS; r += Shape::kThreads / kWarp) {
    if (first_row + r >= input.rows) break;
    float z[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) z[i] = logits[r * kPitch + lane + i * kWarp];
    const StatsState state = output.options.stablemax
                                 ? logits_state<StableMax<float>>(z, ids, count, output.options)
                                 : logits_state<FastSoftmax>(z, ids, count, output.options);
    if (lane == 0) store_state(output.states + (first_row + r) * output.tiles + tile, state);
  }
}

}  // namespace exn::cuda
