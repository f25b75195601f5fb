// SPDX-License-Identifier: Apache-2.0
//
// Rows that move as they are, whatever they hold: in words of 1 to 16 bytes, the widest that every
// address and row stride allows.
#pragma once

#include <cstdint>

#include "portable.cuh"

namespace exn::cuda {

constexpr int kMoveThreads = 128;
constexpr int kMoveWords = 4;  // of a thread, in flight together
constexpr int kMoveChunk = kMoveThreads * kMoveWords;

// Moves one row with all blocks of the grid that differ in y alone.
template <class Word>
__device__ __forceinline__ void move_row(Word* to, const Word* from, int64_t words) {
  const int64_t step = static_cast<int64_t>(gridDim.y) * kMoveChunk;
  for (int64_t base = static_cast<int64_t>(blockIdx.y) * kMoveChunk; base < words; base += step) {
    Word held[kMoveWords];
#pragma unroll
    for (int i = 0; i < kMoveWords; ++i) {
      const int64_t at = base + i * kMoveThreads + threadIdx.x;
      held[i] = at < words ? from[at] : Word();
    }
#pragma unroll
    for (int i = 0; i < kMoveWords; ++i) {
      const int64_t at = base + i * kMoveThreads + threadIdx.x;
      if (at < words) to[at] = held[i];
    }
  }
}

}  // namespace exn::cuda
