// SPDX-License-Identifier: Apache-2.0
//
// Instructions on packed elements that kernels name by their assembly. See exeunt/cuda/pairs.cuh.
#pragma once

#include <cmath>
#include <cstring>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace simt {

inline float widen_bits(__half, unsigned short bits) {
  return __half2float(__half(__half_raw{bits}));
}
inline float widen_bits(__nv_bfloat16, unsigned short bits) {
  return __bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{bits}));
}

// Which of two numbers max and min take: a number wins against a NaN, and -0 is less than +0, which
// the host's fmaxf does not promise.
inline bool takes_right(bool larger, float x, float y) {
  const bool is_less = x < y || (x == y && std::signbit(x) && !std::signbit(y));
  return x != x || (y == y && is_less == larger);
}

// max.f16x2, max.bf16x2 and min.
template <class T>
unsigned chosen_pair(bool larger, unsigned a, unsigned b) {
  unsigned pair = 0;
  for (int shift = 0; shift < 32; shift += 16) {
    const auto left = static_cast<unsigned short>(a >> shift);
    const auto right = static_cast<unsigned short>(b >> shift);
    const bool is_right = takes_right(larger, widen_bits(T(), left), widen_bits(T(), right));
    pair |= static_cast<unsigned>(is_right ? right : left) << shift;
  }
  return pair;
}
// max.f32 and min.
template <>
inline unsigned chosen_pair<float>(bool larger, unsigned a, unsigned b) {
  float x, y;
  std::memcpy(&x, &a, sizeof x);
  std::memcpy(&y, &b, sizeof y);
  return takes_right(larger, x, y) ? b : a;
}
template <class T>
unsigned larger_pair(T, unsigned a, unsigned b) {
  return chosen_pair<T>(true, a, b);
}
template <class T>
unsigned smaller_pair(T, unsigned a, unsigned b) {
  return chosen_pair<T>(false, a, b);
}

}  // namespace simt
