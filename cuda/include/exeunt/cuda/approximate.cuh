// SPDX-License-Identifier: Apache-2.0
//
// Single instructions that the language has no name for. The emulator has its own.
#pragma once

#include "portable.cuh"

#if defined(EXN_SIMT)

#include "simt/approximate.h"

namespace exn::cuda {
using simt::exp2_approx;
using simt::max_or_nan;
using simt::store_vector;
}  // namespace exn::cuda

#else

namespace exn::cuda {

// 2^x within 2^-22 of itself, exactly for a whole x; 0 where it would be subnormal.
__device__ __forceinline__ float exp2_approx(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

// Unlike fmaxf, NaN if either is.
__device__ __forceinline__ float max_or_nan(float a, float b) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

// Writes 16 bytes of global memory at once: the compiler takes a store of a uint4 apart where it
// finds the words one by one.
__device__ __forceinline__ void store_vector(void* to, const uint4& v) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
               "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}

}  // namespace exn::cuda

#endif
