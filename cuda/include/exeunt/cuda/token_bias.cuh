// SPDX-License-Identifier: Apache-2.0
//
// token_bias: a few logits of each row, changed where they lie. A thread for each row and id.
#pragma once

#include <cstdint>

#include "elements.cuh"

namespace exn::cuda {

template <class T>
struct TokenBiasTask {
  T* logits;
  int64_t stride;
  int64_t rows;
  int64_t columns;
  const int32_t* ids;
  int64_t count;
  const uint8_t* mask;  // [rows], optional
  float scale;
  float add;
};

constexpr int kTokenBiasThreads = 128;

// Whether the id exists, and stands nowhere before in the list.
template <class T>
__device__ __forceinline__ bool is_listed_first(const TokenBiasTask<T>& task, int64_t entry,
                                                int32_t id) {
  if (id < 0 || id >= task.columns) return false;
  for (int64_t i = 0; i < entry; ++i) {
    if (task.ids[i] == id) return false;
  }
  return true;
}

// Bytes: an element read and written per row and id, and the ids before.
template <class T>
__global__ __launch_bounds__(kTokenBiasThreads) void token_bias_kernel(TokenBiasTask<T> task) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kTokenBiasThreads;
  const int64_t all = task.rows * task.count;
  int64_t i = static_cast<int64_t>(blockIdx.x) * kTokenBiasThreads + threadIdx.x;
  for (; i < all; i += step) {
    const int64_t row = i / task.count, entry = i % task.count;
    if (task.mask != nullptr && task.mask[row] == 0) continue;
    const int32_t id = task.ids[entry];
    if (!is_listed_first(task, entry, id)) continue;
    T* const at = task.logits + row * task.stride + id;
    *at = narrow<T>(__fadd_rn(__fmul_rn(widen(*at), task.scale), task.add));
  }
}

}  // namespace exn::cuda
