// SPDX-License-Identifier: Apache-2.0
//
// cosine: similarity of the rows of two matrices.
#pragma once

#include "elements.cuh"
#include "reduce.cuh"
#include "scale.cuh"

namespace exn::cuda {

template <class T>
struct CosineTask {
  const T* a;
  const T* b;
  int64_t rows;
  int64_t columns;
  int64_t a_stride;  // elements between rows
  int64_t b_stride;
  float* out;  // [rows]
};

// One block per row.
//
// Bytes: both rows once; rows longer than a tile (4096) are read a second time, from the L1 or L2
// cache: the first reading finds the largest magnitudes, by which the second scales.
template <class T>
__global__ __launch_bounds__(kTileThreads) void cosine_kernel(CosineTask<T> task) {
  constexpr int kWarps = kTileThreads / kWarp;
  constexpr int kItems = kTileItems<T>;
  __shared__ float scratch[5 * kWarps];
  for (int64_t row = blockIdx.x; row < task.rows; row += gridDim.x) {
    const T* row_a = task.a + row * task.a_stride;
    const T* row_b = task.b + row * task.b_stride;
    float a[kItems], b[kItems];
    float largest_a = 0.0f, largest_b = 0.0f;
    for (int64_t begin = 0; begin < task.columns; begin += kTile<T>) {
      const int count = tile_count(begin, task.columns, kTile<T>);
      load_tile(row_a + begin, count, 0.0f, a);
      load_tile(row_b + begin, count, 0.0f, b);
#pragma unroll
      for (int i = 0; i < kItems; ++i) {
        largest_a = fmaxf(largest_a, fabsf(a[i]));
        largest_b = fmaxf(largest_b, fabsf(b[i]));
      }
    }
    largest_a = block_reduce<Max, kWarps>(largest_a, scratch);
    largest_b = block_reduce<Max, kWarps>(largest_b, scratch + kWarps);
    const float scale_a = power_of_two_scale(largest_a);
    const float scale_b = power_of_two_scale(largest_b);

    float aa = 0.0f, bb = 0.0f, ab = 0.0f;
    for (int64_t begin = 0; begin < task.columns; begin += kTile<T>) {
      if (task.columns > kTile<T>) {
        const int count = tile_count(begin, task.columns, kTile<T>);
        load_tile(row_a + begin, count, 0.0f, a);
        load_tile(row_b + begin, count, 0.0f, b);
      }
#pragma unroll
      for (int i = 0; i < kItems; ++i) {
        const float x = a[i] * scale_a;
        const float y = b[i] * scale_b;
        aa += x * x;
        bb += y * y;
        ab += x * y;
      }
    }
    aa = block_reduce<Sum, kWarps>(aa, scratch + 2 * kWarps);
    bb = block_reduce<Sum, kWarps>(bb, scratch + 3 * kWarps);
    ab = block_reduce<Sum, kWarps>(ab, scratch + 4 * kWarps);
    if (threadIdx.x == 0) {
      float cosine = ab / (sqrtf(aa) * sqrtf(bb));
      if (aa == 0.0f || bb == 0.0f) cosine = ab;  // 0, or NaN if the other row is not finite
      // Written so that a NaN passes.
      task.out[row] = cosine > 1.0f ? 1.0f : cosine < -1.0f ? -1.0f : cosine;
    }
    __syncthreads();  // the next row writes `scratch` again
  }
}

}  // namespace exn::cuda
