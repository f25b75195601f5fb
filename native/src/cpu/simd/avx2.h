// SPDX-License-Identifier: Apache-2.0
// AVX2, FMA, F16C: 8 lanes.
#pragma once

#include <immintrin.h>

#include "scalar.h"

namespace exn::cpu::EXN_ISA {

constexpr int kLanes = 8;
#define EXN_HAS_FMA 1
constexpr int kRegisters = 16;
using f32v = __m256;
using maskv = __m256;

static EXN_SIMD f32v zero() { return _mm256_setzero_ps(); }
static EXN_SIMD f32v set1(float x) { return _mm256_set1_ps(x); }
static EXN_SIMD f32v add(f32v a, f32v b) { return _mm256_add_ps(a, b); }
static EXN_SIMD f32v sub(f32v a, f32v b) { return _mm256_sub_ps(a, b); }
static EXN_SIMD f32v mul(f32v a, f32v b) { return _mm256_mul_ps(a, b); }
static EXN_SIMD f32v div(f32v a, f32v b) { return _mm256_div_ps(a, b); }
static EXN_SIMD f32v max(f32v a, f32v b) { return _mm256_max_ps(a, b); }
static EXN_SIMD f32v min(f32v a, f32v b) { return _mm256_min_ps(a, b); }
static EXN_SIMD f32v fma(f32v a, f32v b, f32v c) { return _mm256_fmadd_ps(a, b, c); }
static EXN_SIMD f32v fms(f32v a, f32v b, f32v c) { return _mm256_fmsub_ps(a, b, c); }
static EXN_SIMD f32v abs(f32v a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static EXN_SIMD f32v copy_sign(f32v magnitude, f32v sign) {
  return _mm256_or_ps(magnitude, _mm256_and_ps(sign, _mm256_set1_ps(-0.0f)));
}

// Lanes 1, 0, 3, 2, ...
static EXN_SIMD f32v swap_pairs(f32v a) { return _mm256_permute_ps(a, 0xb1); }

static EXN_SIMD maskv less(f32v a, f32v b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static EXN_SIMD maskv equal(f32v a, f32v b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
static EXN_SIMD f32v select(maskv m, f32v a, f32v b) { return _mm256_blendv_ps(b, a, m); }
static EXN_SIMD uint32_t bits_of(maskv m) { return static_cast<uint32_t>(_mm256_movemask_ps(m)); }

static EXN_SIMD f32v widen(__m128i bf) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bf), 16));
}

static EXN_SIMD f32v load(const float* p) { return _mm256_loadu_ps(p); }
static EXN_SIMD f32v load(const bf16* p) {
  return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
static EXN_SIMD f32v load(const f16* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
static EXN_SIMD f32v load(const int8_t* p) {
  const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
}

static EXN_SIMD f32v load_n(const float* p, int n, float fill) {
  const __m256i wanted =
      _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  return select(_mm256_castsi256_ps(wanted), _mm256_maskload_ps(p, wanted), set1(fill));
}
template <class T>
static EXN_SIMD f32v load_n(const T* p, int n, float fill) {
  float lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = i < n ? to_float(p[i]) : fill;
  return load(lanes);
}

static EXN_SIMD __m128i narrow_bf16(f32v v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  rounded = _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(nan));
  const __m256i high = _mm256_srli_epi32(rounded, 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
}
static EXN_SIMD __m128i narrow_f16(f32v v) {
  return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static EXN_SIMD void store(float* p, f32v v) { _mm256_storeu_ps(p, v); }
static EXN_SIMD void store(bf16* p, f32v v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_bf16(v));
}
static EXN_SIMD void store(f16* p, f32v v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_f16(v));
}
template <class T>
static EXN_SIMD void store_n(T* p, f32v v, int n) {
  float lanes[kLanes];
  store(lanes, v);
  for (int i = 0; i < n; ++i) from_float(p + i, lanes[i]);
}

// Vectors that follow each other, for fewer operations than one after another. A NaN is rare.
static EXN_SIMD void store_two(bf16* p, f32v a, f32v b) {
  if (__builtin_expect(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_UNORD_Q)), 0) != 0) {
    store(p, a);
    store(p + kLanes, b);
    return;
  }
  const auto high = [](f32v v) EXN_FLAT {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    return _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
  };
  const __m256i halves = _mm256_packus_epi32(high(a), high(b));  // of a, b, a, b
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(halves, 0xd8));
}

// The integral power of two nearest to x * scale, kept as a float whose low bits are its biased
// exponent: adding 1.5 * 2^23 rounds, and 127 more is the bias. At the floor of exp, -127 ln 2, the
// exponent field is 0, and with it the factor.
constexpr float kExpFloor = -88.0296919f;
static EXN_SIMD f32v nearest_power(f32v x, f32v scale) {
  return fma(x, scale, set1(12582912.0f + 127.0f));
}
static EXN_SIMD f32v power_value(f32v power) { return sub(power, set1(12582912.0f + 127.0f)); }
static EXN_SIMD f32v times_power(f32v p, f32v power) {
  return mul(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(power), 23)));
}

static EXN_SIMD f32v mantissa(f32v a) {
  const __m256i bits = _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(0x7fffff));
  return _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_set1_epi32(0x3f000000)));
}
static EXN_SIMD f32v exponent(f32v a) {
  const __m256i biased = _mm256_srli_epi32(_mm256_castps_si256(a), 23);
  return _mm256_cvtepi32_ps(_mm256_sub_epi32(biased, _mm256_set1_epi32(126)));
}

static EXN_SIMD float reduce_add(f32v v) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
// out[i] = reduce_add(v[i]), bit for bit, by a transposing tree. What crosses the 128-bit halves
// takes the place of a multiplication: three such operations instead of four times one, and blends,
// which take none.
constexpr int kReduceTree = 4;
static EXN_SIMD void reduce_add_tree(const f32v* v, float* out) {
  // Halves of a in the lower 128 bits, of b in the upper.
  const auto halves = [](f32v a, f32v b) EXN_FLAT {
    return _mm256_add_ps(_mm256_blend_ps(a, b, 0xf0), _mm256_permute2f128_ps(a, b, 0x21));
  };
  const f32v a = halves(v[0], v[1]), b = halves(v[2], v[3]);
  const f32v c = _mm256_add_ps(_mm256_blend_ps(a, b, 0xcc), _mm256_shuffle_ps(a, b, 0x4e));
  // Quarters of 0, 2 in the lower 128 bits, of 1, 3 in the upper.
  const __m128 even = _mm256_castps256_ps128(c), odd = _mm256_extractf128_ps(c, 1);
  const __m128 first = _mm_shuffle_ps(even, odd, 0x88), second = _mm_shuffle_ps(even, odd, 0xdd);
  const __m128 sums = _mm_add_ps(first, second);
  _mm_storeu_ps(out, _mm_shuffle_ps(sums, sums, 0xd8));
}
static EXN_SIMD float reduce_max(f32v v) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

// Even and odd elements of 16, widened.
static EXN_SIMD void load_pair(const bf16* p, f32v& even, f32v& odd) {
  const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  even = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
  odd = _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(-0x10000)));
}

// The odd ones alone. The mask is read from memory for each `step`: in a loop the compiler would
// keep it, and a sum would have to leave its register.
#define EXN_HAS_ODD_LOADS
static EXN_SIMD __m256i odd_mask(int64_t step) {
  static constexpr int32_t kLow = -0x10000;
  alignas(32) static constexpr int32_t kMask[8] = {kLow, kLow, kLow, kLow, kLow, kLow, kLow, kLow};
  const int32_t* mask = kMask;
  asm("" : "+r"(mask) : "r"(step));
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(mask));
}
static EXN_SIMD f32v load_odd(const bf16* p, __m256i mask) {
  const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm256_castsi256_ps(_mm256_and_si256(both, mask));
}

// Lanes of f64, half as many, for sums that need them.
using f64v = __m256d;
static EXN_SIMD f64v zero_f64() { return _mm256_setzero_pd(); }
static EXN_SIMD f64v set1(double x) { return _mm256_set1_pd(x); }
static EXN_SIMD f64v low_f64(f32v v) { return _mm256_cvtps_pd(_mm256_castps256_ps128(v)); }
static EXN_SIMD f64v high_f64(f32v v) { return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)); }
static EXN_SIMD f32v narrow(f64v low, f64v high) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)), _mm256_cvtpd_ps(high),
                              1);
}
static EXN_SIMD f64v add(f64v a, f64v b) { return _mm256_add_pd(a, b); }
static EXN_SIMD f64v mul(f64v a, f64v b) { return _mm256_mul_pd(a, b); }
static EXN_SIMD f64v fma(f64v a, f64v b, f64v c) { return _mm256_fmadd_pd(a, b, c); }
static EXN_SIMD f64v load(const double* p) { return _mm256_loadu_pd(p); }
static EXN_SIMD void store(double* p, f64v v) { _mm256_storeu_pd(p, v); }

using probe_v = __m256i;
static EXN_SIMD probe_v probe_zero() { return _mm256_setzero_si256(); }
static EXN_SIMD probe_v probe_add(probe_v a, probe_v b) { return _mm256_add_epi64(a, b); }
static EXN_SIMD probe_v probe_add(probe_v a, const void* p) {
  const __m256i* q = static_cast<const __m256i*>(p);
  return _mm256_add_epi64(_mm256_add_epi64(a, _mm256_loadu_si256(q)), _mm256_loadu_si256(q + 1));
}

}  // namespace exn::cpu::EXN_ISA
