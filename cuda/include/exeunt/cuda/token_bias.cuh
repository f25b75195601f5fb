// SPDX-License-Identifier: Apache-2.0
//
// token_bias: a few logits of each row, changed where they lie. A thread for each row and id.
#pragma once

#include <cstdint>

#include "distinct.cuh"
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
// Times that a block goes through rows for its ids, where there are so many: it looks once which of
// them are listed before.
constexpr int kTokenBiasTurns = 4;

// Block x has a chunk of as many ids as it has threads, or all if those are fewer; its threads take
// as many rows at a time as then fit, and block y every gridDim.y-th time.
//
// Bytes: an element read and written per row and id; for each block its ids, and those before.
template <class T>
__global__ __launch_bounds__(kTokenBiasThreads) void token_bias_kernel(TokenBiasTask<T> task) {
  __shared__ FirstEntries<kTokenBiasThreads> table;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kTokenBiasThreads;
  const int64_t left = task.count - begin;
  const int count = left < kTokenBiasThreads ? static_cast<int>(left) : kTokenBiasThreads;
  find_first_entries<kTokenBiasThreads>(task.ids, begin, count, table);
  const int at_once = kTokenBiasThreads / count;
  const int entry = static_cast<int>(threadIdx.x) % count;
  const int first = static_cast<int>(threadIdx.x) / count;
  const int32_t id = task.ids[begin + entry];
  if (first == at_once || id < 0 || id >= task.columns || !table.is_first(id, entry)) return;
  const int64_t step = static_cast<int64_t>(gridDim.y) * at_once;
  for (int64_t row = static_cast<int64_t>(blockIdx.y) * at_once + first; row < task.rows;
       row += step) {
    if (task.mask != nullptr && task.mask[row] == 0) continue;
    T* const at = task.logits + row * task.stride + id;
    *at = narrow<T>(__fadd_rn(__fmul_rn(widen(*at), task.scale), task.add));
  }
}

}  // namespace exn::cuda
