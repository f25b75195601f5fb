// SPDX-License-Identifier: Apache-2.0
//
// Products by tensor cores. See exeunt/cuda/mma.cuh, which has the layout of the fragments.
#pragma once

#include <cstdint>

namespace simt {

// What a lane hands over: `tiles` of 16 rows, `steps` of 16 columns.
struct MmaFragments {
  float* sums;
  const uint32_t* a;
  const uint32_t* b;
  int tiles;
  int steps;
};

// All 32 lanes of a warp come here.
inline void mma_bf16(const char* file, int line, float* sums, const uint32_t* a, const uint32_t* b,
                     int tiles, int steps) {
  const MmaFragments own = {sums, a, b, tiles, steps};
  warp_collective(WarpOp::kMma, 0xffffffffu, reinterpret_cast<uintptr_t>(&own), 0, 32, file, line);
}

}  // namespace simt
