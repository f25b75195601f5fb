// SPDX-License-Identifier: Apache-2.0
// Conversions of one element, for tails and for sets without an instruction for them.
#pragma once

namespace exn::cpu::EXN_ISA {

static EXN_SIMD float bits_to_float(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

static EXN_SIMD uint32_t float_to_bits(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  return bits;
}

static EXN_SIMD float to_float(float x) { return x; }

static EXN_SIMD float to_float(bf16 x) {
  return bits_to_float(static_cast<uint32_t>(x.bits) << 16);
}

static EXN_SIMD float to_float(f16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
  const uint32_t rest = x.bits & 0x7fff;
  if (rest >= 0x7c00) return bits_to_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  // A half's bits moved up are a float 2^112 times too small; the product
  // also normalises subnormals.
  return bits_to_float(sign | float_to_bits(bits_to_float(rest << 13) * 0x1p112f));
}

static EXN_SIMD void from_float(float* out, float x) { *out = x; }

// Round to nearest even; NaN stays NaN.
static EXN_SIMD void from_float(bf16* out, float x) {
  const uint32_t bits = float_to_bits(x);
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  const uint32_t rounded = nan ? bits | 0x400000 : bits + 0x7fff + (bits >> 16 & 1);
  out->bits = static_cast<uint16_t>(rounded >> 16);
}

static EXN_SIMD void from_float(f16* out, float x) {
  const uint32_t bits = float_to_bits(x);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t mag = bits & 0x7fffffff;
  uint32_t half;
  if (mag > 0x7f800000) {
    half = 0x7e00;
  } else if (mag >= 0x477ff000) {
    half = 0x7c00;  // 65520 and above round to infinity
  } else if (mag >= 0x38800000) {
    half = (mag - 0x38000000 + 0xfff + (mag >> 13 & 1)) >> 13;
  } else {
    // Adding 1/2 puts the unit of a half's subnormals into the last place of the
    // float, which rounds there.
    half = float_to_bits(bits_to_float(mag) + 0.5f) - 0x3f000000;
  }
  out->bits = static_cast<uint16_t>(sign | half);
}

}  // namespace exn::cpu::EXN_ISA
