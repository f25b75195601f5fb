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

// Sums of products of a = a' 2^i and b = b' 2^j, where the powers of two bring the largest
// magnitudes near 1.
struct CosineSums {
  float largest_a;
  float largest_b;
  float aa;
  float bb;
  float ab;
};

// Moves the sums to the scales of larger magnitudes: exact, but for what vanishes beside them.
__device__ __forceinline__ void rescale(CosineSums& sums, float largest_a, float largest_b) {
  const float a = power_of_two_scale(largest_a) * (1.0f / power_of_two_scale(sums.largest_a));
  const float b = power_of_two_scale(largest_b) * (1.0f / power_of_two_scale(sums.largest_b));
  sums = {largest_a, largest_b, sums.aa * (a * a), sums.bb * (b * b), sums.ab * (a * b)};
}

// One block per row.
//
// Bytes: both rows once. Each thread scales by the largest magnitudes that it has met so far, and
// all by the row's in the end.
template <class T>
__global__ __launch_bounds__(kTileThreads) void cosine_kernel(CosineTask<T> task) {
  constexpr int kWarps = kTileThreads / kWarp;
  constexpr int kItems = kTileItems<T>;
  __shared__ float scratch[5 * kWarps];
  for (int64_t row = blockIdx.x; row < task.rows; row += gridDim.x) {
    const T* row_a = task.a + row * task.a_stride;
    const T* row_b = task.b + row * task.b_stride;
    CosineSums sums = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    for (int64_t begin = 0; begin < task.columns; begin += kTile<T>) {
      const int count = tile_count(begin, task.columns, kTile<T>);
      float a[kItems], b[kItems];
      load_tile(row_a + begin, count, 0.0f, a);
      load_tile(row_b + begin, count, 0.0f, b);
      float largest_a = sums.largest_a, largest_b = sums.largest_b;
#pragma unroll
      for (int i = 0; i < kItems; ++i) {
        largest_a = fmaxf(largest_a, fabsf(a[i]));
        largest_b = fmaxf(largest_b, fabsf(b[i]));
      }
      rescale(sums, largest_a, largest_b);
      const float scale_a = power_of_two_scale(largest_a);
      const float scale_b = power_of_two_scale(largest_b);
#pragma unroll
      for (int i = 0; i < kItems; ++i) {
        const float x = a[i] * scale_a;
        const float y = b[i] * scale_b;
        sums.aa += x * x;
        sums.bb += y * y;
        sums.ab += x * y;
      }
    }
    const float largest_a = block_reduce<Max, kWarps>(sums.largest_a, scratch);
    const float largest_b = block_reduce<Max, kWarps>(sums.largest_b, scratch + kWarps);
    rescale(sums, largest_a, largest_b);
    const float aa = block_reduce<Sum, kWarps>(sums.aa, scratch + 2 * kWarps);
    const float bb = block_reduce<Sum, kWarps>(sums.bb, scratch + 3 * kWarps);
    const float ab = block_reduce<Sum, kWarps>(sums.ab, scratch + 4 * kWarps);
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
