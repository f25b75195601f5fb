// SPDX-License-Identifier: Apache-2.0
//
// Which words a kernel may move.
#pragma once

#include <initializer_list>

#include <exeunt/cuda/words.cuh>

#include "backend.h"
#include "dispatch.h"

namespace exn::cuda {

inline uint64_t address_of(const void* p) { return reinterpret_cast<uintptr_t>(p); }

// Bytes of the widest word, 1 to 16, that divides every address and every count of bytes.
inline int64_t widest_word(std::initializer_list<uint64_t> addresses_and_bytes) {
  uint64_t all = 16;
  for (const uint64_t value : addresses_and_bytes) all |= value;
  return static_cast<int64_t>(all & (~all + 1));
}

// Calls f(Type<Word>{}) for a word of `bytes` >= kLeast.
template <int kLeast, class F>
void dispatch_word(int64_t bytes, F&& f) {
  if (bytes == 16) return f(Type<uint4>{});
  if (bytes == 8) return f(Type<uint2>{});
  if constexpr (kLeast == 1) {
    if (bytes == 1) return f(Type<uint8_t>{});
  }
  if (bytes == 4) return f(Type<uint32_t>{});
  f(Type<uint16_t>{});
}

// Bytes of an entry or a head that a block owns in place. Narrower slices make more blocks, until
// sectors of memory would be torn apart.
constexpr int64_t kWidestSlice = 512;
constexpr int64_t kNarrowestSlice = 64;

// Rows by pieces of a row, for kernels on move_row.
inline dim3 move_grid(int64_t rows, int64_t words) {
  constexpr int64_t kMostPieces = 65535;
  const int64_t pieces = ceil_div(words, kMoveChunk);
  return dim3(grid_for(rows), static_cast<unsigned>(pieces < 1             ? 1
                                                    : pieces < kMostPieces ? pieces
                                                                           : kMostPieces));
}

}  // namespace exn::cuda
