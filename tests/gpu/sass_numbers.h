// SPDX-License-Identifier: Apache-2.0
// What operations of the machine code make of 32-bit words.
#pragma once

#include "sass_warp.h"
#include "tensor.h"

namespace exn::gpu {

using test::bf16_from_float;
using test::f16_from_float;
using test::float_from_bf16;
using test::float_from_f16;

// The nearest f32 in a direction: up, down, to zero, or simply the nearest.
inline float rounded(const SassInstruction& in, double v) {
  const auto f = static_cast<float>(v);
  if (!std::isfinite(f)) return f;
  const auto back = static_cast<double>(f);
  const bool down = in.has(Mod::kRM) || (in.has(Mod::kRZ) && v > 0);
  const bool up = in.has(Mod::kRP) || (in.has(Mod::kRZ) && v < 0);
  if (down && back > v) return std::nextafter(f, -INFINITY);
  if (up && back < v) return std::nextafter(f, INFINITY);
  return f;
}

inline uint32_t finished(const SassInstruction& in, double v) {
  float f = rounded(in, v);
  if (in.has(Mod::kSAT)) f = f > 0 ? std::min(f, 1.0f) : 0.0f;
  if (in.has(Mod::kFTZ) && std::fpclassify(f) == FP_SUBNORMAL) f = std::copysign(0.0f, f);
  return bits_of(f);
}

inline double wide(uint32_t bits) { return static_cast<double>(float_of(bits)); }

inline int outcome(double a, double b) {
  return a < b ? kLess : a > b ? kGreater : a == b ? kEqual : kUnordered;
}

inline uint32_t min_max(const SassInstruction& in, uint32_t a, uint32_t b, bool least) {
  const bool less = in.is_unsigned ? a < b : static_cast<int32_t>(a) < static_cast<int32_t>(b);
  return less == least ? a : b;
}

inline uint32_t float_min_max(const SassInstruction& in, uint32_t a, uint32_t b, bool least) {
  const float x = float_of(a), y = float_of(b);
  if (std::isnan(x) || std::isnan(y)) {
    if (in.has(Mod::kNAN)) return 0x7fffffffu;
    return std::isnan(x) ? b : a;
  }
  if (x == y) return (std::signbit(x) == least) ? a : b;
  return (x < y) == least ? a : b;
}

// What a table of eight bits makes of each three bits.
inline Lanes logic(const Lanes& a, const Lanes& b, const Lanes& c, int table) {
  Lanes out = {};
  for (int i = 0; i < 8; ++i) {
    if ((table >> i & 1) == 0) continue;
    const uint32_t not_a = i & 4 ? 0 : kAll, not_b = i & 2 ? 0 : kAll, not_c = i & 1 ? 0 : kAll;
    for (int lane = 0; lane < kLanes; ++lane)
      out[lane] |= (a[lane] ^ not_a) & (b[lane] ^ not_b) & (c[lane] ^ not_c);
  }
  return out;
}

inline uint32_t function_of(const SassInstruction& in, uint32_t bits) {
  const double x = wide(bits);
  double y = 0;
  if (in.has(Mod::kEX2)) {
    y = std::exp2(x);
  } else if (in.has(Mod::kLG2)) {
    y = std::log2(x);
  } else if (in.has(Mod::kRCP)) {
    y = 1 / x;
  } else if (in.has(Mod::kRSQ)) {
    y = 1 / std::sqrt(x);
  } else if (in.has(Mod::kSQRT)) {
    y = std::sqrt(x);
  } else if (in.has(Mod::kTANH)) {
    y = std::tanh(x);
  } else {
    throw std::runtime_error("unknown function: " + in.text);
  }
  return bits_of(static_cast<float>(y));
}

inline uint32_t permuted(uint32_t a, uint32_t selector, uint32_t c) {
  const uint64_t bytes = static_cast<uint64_t>(c) << 32 | a;
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t pick = selector >> (4 * i) & 0xf;
    auto byte = static_cast<uint32_t>(bytes >> (8 * (pick & 7)) & 0xff);
    if (pick & 8) byte = byte & 0x80 ? 0xff : 0;
    out |= byte << (8 * i);
  }
  return out;
}

inline uint32_t shifted(const SassInstruction& in, uint32_t low, uint32_t by, uint32_t high) {
  const bool is_wide = in.has(Mod::kU64) || in.has(Mod::kS64);
  const bool is_signed = in.has(Mod::kS32) || in.has(Mod::kS64);
  by = in.has(Mod::kW) ? by & (is_wide ? 63 : 31) : std::min(by, is_wide ? 63u : 32u);
  const uint64_t both = static_cast<uint64_t>(high) << 32 | low;
  if (in.has(Mod::kL)) {
    const uint64_t moved = both << by;
    return static_cast<uint32_t>(in.has(Mod::kHI) ? moved >> 32 : moved);
  }
  if (in.has(Mod::kHI)) {
    if (is_signed) return static_cast<uint32_t>(static_cast<int32_t>(high) >> std::min(by, 31u));
    return by > 31 ? 0 : high >> by;
  }
  return static_cast<uint32_t>(is_signed ? static_cast<uint64_t>(static_cast<int64_t>(both) >> by)
                                         : both >> by);
}

inline uint32_t packed_half(const SassInstruction& in, uint32_t bits) {
  const float v = float_of(bits);
  return in.has(Mod::kBF16) ? bf16_from_float(v) : f16_from_float(v);
}

inline uint64_t integer_of(const SassInstruction& in, uint32_t bits) {
  double v = wide(bits);
  v = in.has(Mod::kFLOOR)   ? std::floor(v)
      : in.has(Mod::kCEIL)  ? std::ceil(v)
      : in.has(Mod::kTRUNC) ? std::trunc(v)
                            : std::nearbyint(v);
  if (std::isnan(v)) return 0;
  const auto clamp = [&](double least, double most) { return std::min(std::max(v, least), most); };
  if (in.has(Mod::kU64))
    return v >= 0x1p64 ? ~uint64_t{0} : static_cast<uint64_t>(std::max(v, 0.0));
  if (in.has(Mod::kS64)) return static_cast<uint64_t>(static_cast<int64_t>(clamp(-0x1p63, 0x1p62)));
  if (in.has(Mod::kU32)) return static_cast<uint32_t>(clamp(0, 4294967295.0));
  return static_cast<uint32_t>(static_cast<int32_t>(clamp(-2147483648.0, 2147483647.0)));
}

inline uint32_t float_from_integer(const SassInstruction& in, uint64_t v) {
  const auto word = static_cast<uint32_t>(v);
  double d = static_cast<int32_t>(word);
  if (in.has(Mod::kU64)) {
    // A double that is not below it, so that rounding up stays right.
    d = static_cast<double>(v);
  } else if (in.has(Mod::kS64)) {
    d = static_cast<double>(static_cast<int64_t>(v));
  } else if (in.has(Mod::kU32)) {
    d = word;
  } else if (in.has(Mod::kS16)) {
    d = static_cast<int16_t>(word);
  } else if (in.has(Mod::kU16)) {
    d = word & 0xffff;
  } else if (in.has(Mod::kS8)) {
    d = static_cast<int8_t>(word);
  } else if (in.has(Mod::kU8)) {
    d = word & 0xff;
  }
  return bits_of(rounded(in, d));
}

}  // namespace exn::gpu
