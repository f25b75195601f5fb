// SPDX-License-Identifier: Apache-2.0
//
// The ascending list of rows that a block of threads makes, a round of a row per thread at a time.
#pragma once

#include <cstdint>

#include "reduce.cuh"

namespace exn::cuda {

// Appends those rows of a round for which `stays`; `list` may be null. All threads call it, get how
// many rows are listed by then, and may call it again at once; `staying` is shared memory.
template <int WARPS>
__device__ __forceinline__ int64_t append_rows(bool stays, int64_t row, int64_t listed,
                                               int (&staying)[WARPS], int32_t* list) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const unsigned votes = __ballot_sync(kFullWarp, stays);
  if (lane == 0) staying[warp] = __popc(votes);
  __syncthreads();
  int64_t before = listed;
#pragma unroll
  for (int i = 0; i < WARPS; ++i) {
    if (i < warp) before += staying[i];
    listed += staying[i];
  }
  if (stays && list != nullptr) {
    list[before + __popc(votes & ((1u << lane) - 1u))] = static_cast<int32_t>(row);
  }
  __syncthreads();  // the next round writes `staying` again
  return listed;
}

// Fills the list up with -1 and writes its count; both may be null.
__device__ __forceinline__ void end_rows(int64_t listed, int64_t rows, int32_t* list,
                                         int32_t* count) {
  if (list != nullptr) {
    for (int64_t i = listed + threadIdx.x; i < rows; i += blockDim.x) list[i] = -1;
  }
  if (threadIdx.x == 0 && count != nullptr) *count = static_cast<int32_t>(listed);
}

}  // namespace exn::cuda
