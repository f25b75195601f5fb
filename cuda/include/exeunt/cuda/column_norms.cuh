// SPDX-License-Identifier: Apache-2.0
//
// column_norms: sums of squares down the columns, and their roots.
//
// A warp reads 512 bytes of a row at once, a block of eight warps 64 rows in one turn, and the rows
// are cut into splits: by their number alone, so that the order of a sum depends on nothing else. A
// tile's splits meet in the workspace, and the block that comes last adds them up in order.
#pragma once

#include <cstdint>

#include "elements.cuh"
#include "reduce.cuh"
#include "tickets.cuh"

namespace exn::cuda {

constexpr int kColumnThreads = 256;
constexpr int kColumnWarps = kColumnThreads / kWarp;
constexpr int kColumnRows = 8;  // of a warp, on their way together
constexpr int kColumnTurn = kColumnWarps * kColumnRows;
constexpr int kMostColumnSplits = 64;

// Columns of a block.
template <class T>
constexpr int kColumnTile = kWarp * kVector<T>;

// Rows of a split: so many that what it leaves, 8 bytes for each column, is little beside them.
template <class T>
__host__ __device__ constexpr int64_t column_split_rows(int64_t rows) {
  const int64_t least = 256 / static_cast<int64_t>(sizeof(T));
  const int64_t turns = ((rows + kMostColumnSplits - 1) / kMostColumnSplits + kColumnTurn - 1) /
                        kColumnTurn * kColumnTurn;
  return turns > least ? turns : least;
}

template <class T>
struct ColumnNormsTask {
  const T* x;
  int64_t rows;
  int64_t columns;
  int64_t stride;
  const uint8_t* active;  // [rows], optional
  float* sums;
  float* norms;                 // optional
  float* parts;                 // [splits, columns], of more than one split
  unsigned long long* tickets;  // of each tile
  float root;                   // of the scale
  int accumulate;
};

// Adds the squares of a turn's rows, a thread's columns of which `count` exist.
template <class T>
__device__ __forceinline__ void add_turn(const ColumnNormsTask<T>& task, int64_t row, int64_t end,
                                         const T* at, int count, float (&total)[kVector<T>]) {
  constexpr int kV = kVector<T>;
  unsigned counts = 0;  // a bit for each row
#pragma unroll
  for (int i = 0; i < kColumnRows; ++i) {
    if (row + i < end && (task.active == nullptr || task.active[row + i] != 0)) counts |= 1u << i;
  }
  float turn[kV] = {};
  if (count == kV && task.stride % kV == 0 && is_vector_aligned(at)) {
    uint4 raw[kColumnRows];
#pragma unroll
    for (int i = 0; i < kColumnRows; ++i) {
      raw[i] = make_uint4(0, 0, 0, 0);
      if ((counts >> i & 1u) != 0) raw[i] = *reinterpret_cast<const uint4*>(at + i * task.stride);
    }
#pragma unroll
    for (int i = 0; i < kColumnRows; ++i) {
      float values[kV];
      unpack<T>(raw[i], values);
#pragma unroll
      for (int k = 0; k < kV; ++k) turn[k] = fmaf(values[k], values[k], turn[k]);
    }
  } else {
#pragma unroll 1
    for (int i = 0; i < kColumnRows; ++i) {
      if ((counts >> i & 1u) == 0) continue;
#pragma unroll
      for (int k = 0; k < kV; ++k) {
        const float value = k < count ? widen(at[i * task.stride + k]) : 0.0f;
        turn[k] = fmaf(value, value, turn[k]);
      }
    }
  }
#pragma unroll
  for (int k = 0; k < kV; ++k) total[k] += turn[k];
}

// Grid: tiles of columns, splits of rows. Bytes: x once, active for each tile; 8 for each column and
// split where there are several; 4 or 8 for each column, and 4 for its norm.
template <class T>
__global__ __launch_bounds__(kColumnThreads) void column_norms_kernel(ColumnNormsTask<T> task) {
  constexpr int kV = kVector<T>;
  constexpr int kTileColumns = kColumnTile<T>;
  __shared__ float scratch[kColumnWarps][kTileColumns];
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int place = static_cast<int>(threadIdx.x) % kWarp * kV;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTileColumns;
  const int64_t split_rows = column_split_rows<T>(task.rows);
  const int64_t begin = blockIdx.y * split_rows;
  const int64_t end = task.rows - begin < split_rows ? task.rows : begin + split_rows;
  const int count = tile_count(first + place, task.columns, kV);
  float total[kV] = {};
  if (count > 0) {
#pragma unroll 1
    for (int64_t row = begin + warp * kColumnRows; row < end; row += kColumnTurn)
      add_turn(task, row, end, task.x + row * task.stride + first + place, count, total);
  }
#pragma unroll
  for (int k = 0; k < kV; ++k) scratch[warp][place + k] = total[k];
  __syncthreads();
  const int splits = static_cast<int>(gridDim.y);
  const int column = static_cast<int>(threadIdx.x);
  const bool owns = column < kTileColumns && first + column < task.columns;
  float sum = 0;
  if (owns) {
#pragma unroll
    for (int i = 0; i < kColumnWarps; ++i) sum += scratch[i][column];
  }
  if (splits > 1) {
    if (owns) task.parts[blockIdx.y * task.columns + first + column] = sum;
    if (!is_last_block(task.tickets + blockIdx.x, splits)) return;
    sum = 0;
    if (owns) {
#pragma unroll 8
      for (int i = 0; i < splits; ++i) sum += task.parts[i * task.columns + first + column];
    }
  }
  if (!owns) return;
  if (task.accumulate) sum += task.sums[first + column];
  task.sums[first + column] = sum;
  if (task.norms != nullptr) task.norms[first + column] = task.root * sqrtf(sum);
}

}  // namespace exn::cuda
