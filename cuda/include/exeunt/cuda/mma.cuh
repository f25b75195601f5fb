// SPDX-License-Identifier: Apache-2.0
//
// Products of small matrices by the tensor cores. The emulator has its own.
//
// What is added up in one instruction is cut, not rounded, after an order and with a number of bits
// that NVIDIA leaves open; simt/tensor_core.h of the emulator says what we expect at worst.
#pragma once

#include "portable.cuh"

#if defined(EXN_SIMT)

#include "simt/mma.h"

#endif

namespace exn::cuda {

// sums[m] += A[m] B for TILES matrices A [16, 16 * STEPS] of bf16 and one B [16 * STEPS, 8], step
// after step. Fragments as mma.m16n8k16 has them: of each step a lane l with g = l / 4 and t = l % 4
// has pairs of neighbouring k
//
//   a: rows g and g + 8 from column 2t on, then both from column 2t + 8 on
//   b: column g, from row 2t on and from row 2t + 8 on
//   sums: row g, columns 2t and 2t + 1, then row g + 8
template <int TILES, int STEPS>
__device__ __forceinline__ void mma_bf16(float (&sums)[TILES][4],
                                         const unsigned (&a)[TILES][STEPS][4],
                                         const unsigned (&b)[STEPS][2]) {
#if defined(EXN_SIMT)
  ::simt::mma_bf16(__FILE__, __LINE__, &sums[0][0], &a[0][0][0], &b[0][0], TILES, STEPS);
#else
#pragma unroll
  for (int step = 0; step < STEPS; ++step) {
#pragma unroll
    for (int m = 0; m < TILES; ++m) {
      asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                   "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                   : "+f"(sums[m][0]), "+f"(sums[m][1]), "+f"(sums[m][2]), "+f"(sums[m][3])
                   : "r"(a[m][step][0]), "r"(a[m][step][1]), "r"(a[m][step][2]), "r"(a[m][step][3]),
                     "r"(b[step][0]), "r"(b[step][1]));
    }
  }
#endif
}

// sums = A B + before for A [16, 16 * STEPS] and B [16 * STEPS, 8] of signed bytes, STEPS being 1 or
// 2. As above, a lane has of each step four neighbouring k in a word
//
//   a: rows g and g + 8 from column 4t on
//   b: column g, from row 4t on
template <int STEPS>
__device__ __forceinline__ void mma_s8(int (&sums)[4], const unsigned (&a)[STEPS][2],
                                       const unsigned (&b)[STEPS], const int (&before)[4]) {
  static_assert(STEPS == 1 || STEPS == 2, "one instruction");
#if defined(EXN_SIMT)
  for (int i = 0; i < 4; ++i) sums[i] = before[i];
  ::simt::mma_s8(__FILE__, __LINE__, sums, &a[0][0], b, STEPS);
#else
  if constexpr (STEPS == 2) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
                 : "=r"(sums[0]), "=r"(sums[1]), "=r"(sums[2]), "=r"(sums[3])
                 : "r"(a[0][0]), "r"(a[0][1]), "r"(a[1][0]), "r"(a[1][1]), "r"(b[0]), "r"(b[1]),
                   "r"(before[0]), "r"(before[1]), "r"(before[2]), "r"(before[3]));
  } else {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, "
                 "{%6}, {%7, %8, %9, %10};"
                 : "=r"(sums[0]), "=r"(sums[1]), "=r"(sums[2]), "=r"(sums[3])
                 : "r"(a[0][0]), "r"(a[0][1]), "r"(b[0]), "r"(before[0]), "r"(before[1]),
                   "r"(before[2]), "r"(before[3]));
  }
#endif
}

}  // namespace exn::cuda
