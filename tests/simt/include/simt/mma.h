// SPDX-License-Identifier: Apache-2.0
//
// Products by tensor cores. See exeunt/cuda/mma.cuh, which has the layout of the fragments.
#pragma once

#include <cstdint>

namespace simt {

// What a lane hands over: `tiles` of 16 rows, `steps` of 16 columns.
struct MmaFragments {
  float* sums;      // of bf16, or
  int32_t* counts;  // of signed bytes
  const uint32_t* a;
  const uint32_t* b;
  int tiles;
  int steps;
};

// All 32 lanes of a warp come here.
inline void mma_bf16(const char* file, int line, float* sums, const uint32_t* a, const uint32_t* b,
                     int tiles, int steps) {
  const MmaFragments own = {sums, nullptr, a, b, tiles, steps};
  warp_collective(WarpOp::kMma, 0xffffffffu, reinterpret_cast<uintptr_t>(&own), 0, 32, file, line);
}

inline void mma_s8(const char* file, int line, int32_t* counts, const uint32_t* a,
                   const uint32_t* b, int steps) {
  const MmaFragments own = {nullptr, counts, a, b, 1, steps};
  warp_collective(WarpOp::kMma, 0xffffffffu, reinterpret_cast<uintptr_t>(&own), 0, 32, file, line);
}

}  // namespace simt
