// SPDX-License-Identifier: Apache-2.0
//
// Scaling by powers of two: exact, and it keeps sums of squares from overflowing or vanishing.
#pragma once

#include "reduce.cuh"

namespace exn::cuda {

// The power of two that brings `largest` (not negative) near 1, as far as a normal number whose
// inverse is normal too can.
__device__ __forceinline__ float power_of_two_scale(float largest) {
  const int exponent = static_cast<int>(__float_as_uint(largest) >> 23) - 127;
  const int limited = Min::apply(Max::apply(-exponent, -126), 126);
  return __uint_as_float(static_cast<unsigned>(limited + 127) << 23);
}
__device__ __forceinline__ double power_of_two_scale(double largest) {
  const int exponent = (__double2hiint(largest) >> 20) - 1023;
  const int limited = Min::apply(Max::apply(-exponent, -1022), 1022);
  return __hiloint2double((limited + 1023) << 20, 0);
}

}  // namespace exn::cuda
