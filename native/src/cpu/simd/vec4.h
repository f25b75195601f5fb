// SPDX-License-Identifier: Apache-2.0
// 4 lanes through the compiler's vector extension: the SSE2 baseline of x86-64, and NEON.
#pragma once

#if defined(__aarch64__)
#include <arm_neon.h>
#else
#include <emmintrin.h>
#endif

#include "scalar.h"

namespace exn::cpu::EXN_ISA {

constexpr int kLanes = 4;
#if defined(__aarch64__)
#define EXN_HAS_FMA 1
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 16;
#endif
typedef float f32v __attribute__((vector_size(16)));
typedef int32_t maskv __attribute__((vector_size(16)));
typedef uint32_t u32v __attribute__((vector_size(16)));

static EXN_SIMD f32v set1(float x) { return f32v{x, x, x, x}; }
static EXN_SIMD f32v zero() { return set1(0.0f); }
static EXN_SIMD f32v add(f32v a, f32v b) { return a + b; }
static EXN_SIMD f32v sub(f32v a, f32v b) { return a - b; }
static EXN_SIMD f32v mul(f32v a, f32v b) { return a * b; }
static EXN_SIMD f32v div(f32v a, f32v b) { return a / b; }
// Spelt out: from a > b ? a : b the compiler may swap the operands, and with them what a NaN gives.
#if defined(__aarch64__)
static EXN_SIMD f32v max(f32v a, f32v b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static EXN_SIMD f32v min(f32v a, f32v b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
#else
static EXN_SIMD f32v max(f32v a, f32v b) { return _mm_max_ps(a, b); }
static EXN_SIMD f32v min(f32v a, f32v b) { return _mm_min_ps(a, b); }
#endif
static EXN_SIMD f32v fma(f32v a, f32v b, f32v c) {
#if defined(__aarch64__)
  return vfmaq_f32(c, a, b);
#else
  return a * b + c;
#endif
}
static EXN_SIMD f32v fms(f32v a, f32v b, f32v c) { return fma(a, b, -c); }
static EXN_SIMD u32v as_bits(f32v a) { return reinterpret_cast<u32v>(a); }
static EXN_SIMD f32v as_float(u32v a) { return reinterpret_cast<f32v>(a); }
static EXN_SIMD f32v abs(f32v a) { return as_float(as_bits(a) & 0x7fffffffu); }
static EXN_SIMD f32v copy_sign(f32v magnitude, f32v sign) {
  return as_float(as_bits(magnitude) | (as_bits(sign) & 0x80000000u));
}

// Lanes 1, 0, 3, 2.
static EXN_SIMD f32v swap_pairs(f32v a) { return f32v{a[1], a[0], a[3], a[2]}; }

static EXN_SIMD maskv less(f32v a, f32v b) { return a < b; }
static EXN_SIMD maskv equal(f32v a, f32v b) { return a == b; }
static EXN_SIMD f32v select(maskv m, f32v a, f32v b) { return m ? a : b; }
static EXN_SIMD uint32_t bits_of(maskv m) {
  return (m[0] ? 1u : 0u) | (m[1] ? 2u : 0u) | (m[2] ? 4u : 0u) | (m[3] ? 8u : 0u);
}

static EXN_SIMD f32v load(const float* p) {
  f32v v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
static EXN_SIMD f32v load(const bf16* p) {
  const u32v bits = {p[0].bits, p[1].bits, p[2].bits, p[3].bits};
  return as_float(bits << 16);
}
static EXN_SIMD f32v load(const f16* p) {
#if defined(__aarch64__)
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&p->bits)));
#else
  return f32v{to_float(p[0]), to_float(p[1]), to_float(p[2]), to_float(p[3])};
#endif
}
static EXN_SIMD f32v load(const int8_t* p) {
  uint32_t four;
  std::memcpy(&four, p, sizeof four);
#if defined(__aarch64__)
  const int16x8_t wide = vmovl_s8(vreinterpret_s8_u64(vcreate_u64(four)));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
#else
  const __m128i bytes = _mm_cvtsi32_si128(static_cast<int>(four));
  const __m128i pairs = _mm_unpacklo_epi8(bytes, bytes);
  return _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(pairs, pairs), 24));
#endif
}
template <class T>
static EXN_SIMD f32v load_n(const T* p, int n, float fill) {
  f32v v = set1(fill);
  for (int i = 0; i < n; ++i) v[i] = to_float(p[i]);
  return v;
}

static EXN_SIMD void store(float* p, f32v v) { std::memcpy(p, &v, sizeof v); }
template <class T>
static EXN_SIMD void store_n(T* p, f32v v, int n) {
  for (int i = 0; i < n; ++i) from_float(p + i, v[i]);
}
static EXN_SIMD void store(bf16* p, f32v v) { store_n(p, v, kLanes); }
static EXN_SIMD void store(f16* p, f32v v) { store_n(p, v, kLanes); }

// The integral power of two nearest to x * scale, kept as a float whose low bits are its biased
// exponent: adding 1.5 * 2^23 rounds, and 127 more is the bias. At the floor of exp, -127 ln 2, the
// exponent field is 0, and with it the factor.
constexpr float kExpFloor = -88.0296919f;
static EXN_SIMD f32v nearest_power(f32v x, f32v scale) {
  return fma(x, scale, set1(12582912.0f + 127.0f));
}
static EXN_SIMD f32v power_value(f32v power) { return sub(power, set1(12582912.0f + 127.0f)); }
static EXN_SIMD f32v times_power(f32v p, f32v power) {
  return mul(p, as_float(as_bits(power) << 23));
}

static EXN_SIMD f32v mantissa(f32v a) { return as_float((as_bits(a) & 0x7fffffu) | 0x3f000000u); }
static EXN_SIMD f32v exponent(f32v a) {
  return __builtin_convertvector(reinterpret_cast<maskv>(as_bits(a) >> 23) - 126, f32v);
}

static EXN_SIMD float reduce_add(f32v v) { return (v[0] + v[2]) + (v[1] + v[3]); }
constexpr int kReduceTree = 1;
static EXN_SIMD void reduce_add_tree(const f32v* v, float* out) { *out = reduce_add(*v); }
static EXN_SIMD float reduce_max(f32v v) {
  const float a = v[0] > v[2] ? v[0] : v[2];
  const float b = v[1] > v[3] ? v[1] : v[3];
  return a > b ? a : b;
}

// Even and odd elements of 8, widened.
static EXN_SIMD void load_pair(const bf16* p, f32v& even, f32v& odd) {
  u32v both;
  std::memcpy(&both, p, sizeof both);
  even = as_float(both << 16);
  odd = as_float(both & 0xffff0000u);
}

// Lanes of f64, half as many, for sums that need them.
typedef double f64v __attribute__((vector_size(16)));
static EXN_SIMD f64v set1(double x) { return f64v{x, x}; }
static EXN_SIMD f64v zero_f64() { return set1(0.0); }
static EXN_SIMD f64v low_f64(f32v v) {
  return f64v{static_cast<double>(v[0]), static_cast<double>(v[1])};
}
static EXN_SIMD f64v high_f64(f32v v) {
  return f64v{static_cast<double>(v[2]), static_cast<double>(v[3])};
}
static EXN_SIMD f32v narrow(f64v low, f64v high) {
  return f32v{static_cast<float>(low[0]), static_cast<float>(low[1]), static_cast<float>(high[0]),
              static_cast<float>(high[1])};
}
static EXN_SIMD f64v add(f64v a, f64v b) { return a + b; }
static EXN_SIMD f64v mul(f64v a, f64v b) { return a * b; }
static EXN_SIMD f64v fma(f64v a, f64v b, f64v c) {
#if defined(__aarch64__)
  return vfmaq_f64(c, a, b);
#else
  return a * b + c;
#endif
}
static EXN_SIMD f64v load(const double* p) {
  f64v v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
static EXN_SIMD void store(double* p, f64v v) { std::memcpy(p, &v, sizeof v); }

typedef uint64_t probe_v __attribute__((vector_size(16)));
static EXN_SIMD probe_v probe_zero() { return probe_v{0, 0}; }
static EXN_SIMD probe_v probe_add(probe_v a, probe_v b) { return a + b; }
static EXN_SIMD probe_v probe_add(probe_v a, const void* p) {
  probe_v v[4];
  std::memcpy(v, p, sizeof v);
  return a + v[0] + v[1] + v[2] + v[3];
}

}  // namespace exn::cpu::EXN_ISA
