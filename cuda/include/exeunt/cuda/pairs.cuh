// SPDX-License-Identifier: Apache-2.0
//
// Words of two 16-bit elements, or of one of f32, compared as they are stored: the larger and the
// smaller, element by element. A NaN loses against a number, as in fmaxf. The emulator has its own
// of what is an instruction.
#pragma once

#include "portable.cuh"

#if defined(EXN_SIMT)

#include "simt/pairs.h"

namespace exn::cuda {
using simt::larger_pair;
using simt::smaller_pair;
}  // namespace exn::cuda

#else

namespace exn::cuda {

__device__ __forceinline__ unsigned larger_pair(__half, unsigned a, unsigned b) {
  unsigned larger;
  asm("max.f16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  return larger;
}
__device__ __forceinline__ unsigned larger_pair(__nv_bfloat16, unsigned a, unsigned b) {
  unsigned larger;
  asm("max.bf16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  return larger;
}
__device__ __forceinline__ unsigned smaller_pair(__half, unsigned a, unsigned b) {
  unsigned smaller;
  asm("min.f16x2 %0, %1, %2;" : "=r"(smaller) : "r"(a), "r"(b));
  return smaller;
}
__device__ __forceinline__ unsigned smaller_pair(__nv_bfloat16, unsigned a, unsigned b) {
  unsigned smaller;
  asm("min.bf16x2 %0, %1, %2;" : "=r"(smaller) : "r"(a), "r"(b));
  return smaller;
}

__device__ __forceinline__ unsigned larger_pair(float, unsigned a, unsigned b) {
  return __float_as_uint(fmaxf(__uint_as_float(a), __uint_as_float(b)));
}
__device__ __forceinline__ unsigned smaller_pair(float, unsigned a, unsigned b) {
  return __float_as_uint(fminf(__uint_as_float(a), __uint_as_float(b)));
}

}  // namespace exn::cuda

#endif
