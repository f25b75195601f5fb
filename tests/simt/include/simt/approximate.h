// SPDX-License-Identifier: Apache-2.0
//
// Instructions that kernels name by their assembly. See exeunt/cuda/approximate.cuh.
#pragma once

#include <cmath>
#include <cstring>

namespace simt {

// ex2.approx.ftz.f32, nearly as far off as its documentation allows, in a direction that depends on
// x alone: equal arguments then have equal errors, as on a device, and sums must bear that.
inline float exp2_approx(float x) {
  if (x != x) return x;
  if (x < -126.0f) return 0.0f;
  const double power = std::exp2(static_cast<double>(x));
  if (x == std::trunc(x)) return static_cast<float>(power);
  unsigned bits;
  std::memcpy(&bits, &x, sizeof bits);
  const double error = (bits * 0x9E3779B1u) >> 31 != 0 ? 0x1.6p-23 : -0x1.6p-23;
  return static_cast<float>(power * (1 + error));
}

// max.NaN.f32
inline float max_or_nan(float a, float b) { return a != a || b != b ? a + b : std::fmax(a, b); }

// st.global.v4.b32
inline void store_vector(void* to, const uint4& v) { *static_cast<uint4*>(to) = v; }

}  // namespace simt
