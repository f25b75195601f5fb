// SPDX-License-Identifier: Apache-2.0
//
// linear's adapter: the products of the input with its lower half. linear.cuh adds the upper one.
#pragma once

#include "reduce.cuh"
#include "storage.cuh"

namespace exn::cuda {

struct AdapterTask {
  const void* input;  // [R,D]
  int64_t input_stride;
  Storage input_storage;
  const void* down;  // [rank, D]
  int64_t down_stride;
  Storage down_storage;
  const float* scale;  // [R, rank], optional
  int64_t scale_stride;
  float* t;  // [R, rank]
  int64_t rank;
  int64_t depth;
};

constexpr int kAdapterThreads = 256;

// t[r,k] = scale[r,k] * <row r of the input, row k of down>, 0 where the scale is.
//
// Bytes: down from the L2 cache for each row, the input for each component. Grid: x counts rows, y
// components, of which blocks take every gridDim.y-th.
static __global__ __launch_bounds__(kAdapterThreads) void adapter_kernel(AdapterTask task) {
  constexpr int kWarps = kAdapterThreads / kWarp;
  __shared__ float sums[kWarps];
  const int64_t row = blockIdx.x;
  for (int64_t k = blockIdx.y; k < task.rank; k += gridDim.y) {
    const float scale = task.scale != nullptr ? task.scale[row * task.scale_stride + k] : 1.0f;
    float sum = 0.0f;
    if (scale != 0) {
      for (int64_t i = threadIdx.x; i < task.depth; i += kAdapterThreads) {
        sum = fmaf(load_as(task.input_storage, task.input, row * task.input_stride + i),
                   load_as(task.down_storage, task.down, k * task.down_stride + i), sum);
      }
    }
    sum = block_reduce<Sum, kWarps>(sum, sums);
    if (threadIdx.x == 0) task.t[row * task.rank + k] = scale != 0 ? scale * sum : 0.0f;
    __syncthreads();  // the next component writes `sums` again
  }
}

}  // namespace exn::cuda
