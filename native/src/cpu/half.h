// SPDX-License-Identifier: Apache-2.0
// Elements of f16 in plain C++, for code that is compiled once for all instruction sets.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace exn::cpu {

inline float float_of_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, rest = half & 0x7fff;
  float f;
  if (rest >= 0x7c00) {
    const uint32_t bits = sign | 0x7f800000 | (rest & 0x3ff) << 13;
    std::memcpy(&f, &bits, sizeof f);
    return f;
  }
  const uint32_t bits = rest << 13;
  std::memcpy(&f, &bits, sizeof f);
  f *= 0x1p112f;
  return sign != 0 ? -f : f;
}

// To nearest; what is too large becomes the largest.
inline uint16_t half_of(float x) {
  const auto sign = static_cast<uint16_t>(std::signbit(x) ? 0x8000 : 0);
  const double size = std::min(std::fabs(static_cast<double>(x)), 65504.0);
  if (size < 0x1p-14) return static_cast<uint16_t>(sign | std::lrint(size * 0x1p24));
  int exponent;
  const double fraction = std::frexp(size, &exponent);  // in [1/2, 1)
  const auto bits = static_cast<long>(exponent + 14) * 1024 + std::lrint(fraction * 2048 - 1024);
  return static_cast<uint16_t>(sign | std::min(bits, 0x7bffL));
}

}  // namespace exn::cpu
