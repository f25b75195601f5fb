// SPDX-License-Identifier: Apache-2.0
// AVX-512 F, BW, DQ, VL, VBMI, VBMI2, GFNI, VNNI, and BF16 where the set has it: 16 lanes.
#pragma once

#if defined(EXN_EMULATE_AVX512)
#include <avx512_emulation.h>
#else
#include <immintrin.h>
#endif

#include "scalar.h"

namespace exn::cpu::EXN_ISA {

constexpr int kLanes = 16;
#define EXN_HAS_FMA 1
constexpr int kRegisters = 32;
using f32v = __m512;
using maskv = __mmask16;

static EXN_SIMD f32v zero() { return _mm512_setzero_ps(); }
static EXN_SIMD f32v set1(float x) { return _mm512_set1_ps(x); }
static EXN_SIMD f32v add(f32v a, f32v b) { return _mm512_add_ps(a, b); }
static EXN_SIMD f32v sub(f32v a, f32v b) { return _mm512_sub_ps(a, b); }
static EXN_SIMD f32v mul(f32v a, f32v b) { return _mm512_mul_ps(a, b); }
static EXN_SIMD f32v div(f32v a, f32v b) { return _mm512_div_ps(a, b); }
static EXN_SIMD f32v max(f32v a, f32v b) { return _mm512_max_ps(a, b); }
static EXN_SIMD f32v min(f32v a, f32v b) { return _mm512_min_ps(a, b); }
static EXN_SIMD f32v fma(f32v a, f32v b, f32v c) { return _mm512_fmadd_ps(a, b, c); }
static EXN_SIMD f32v fms(f32v a, f32v b, f32v c) { return _mm512_fmsub_ps(a, b, c); }
// fma(a, b, sum) in the register of the sum: left the choice, the compiler lets sums wander in long
// loops, and a move of 64 bytes takes as long as a multiplication.
#define EXN_HAS_ADD_PRODUCT 1
static EXN_SIMD f32v add_product(f32v a, f32v b, f32v sum) {
#if defined(EXN_EMULATE_AVX512)
  return fma(a, b, sum);
#else
  __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
#endif
}
static EXN_SIMD f32v abs(f32v a) { return _mm512_abs_ps(a); }
static EXN_SIMD f32v copy_sign(f32v magnitude, f32v sign) {
  return _mm512_or_ps(magnitude, _mm512_and_ps(sign, _mm512_set1_ps(-0.0f)));
}

// Lanes 1, 0, 3, 2, ...
static EXN_SIMD f32v swap_pairs(f32v a) { return _mm512_shuffle_ps(a, a, 0xb1); }

static EXN_SIMD maskv less(f32v a, f32v b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static EXN_SIMD maskv equal(f32v a, f32v b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
static EXN_SIMD f32v select(maskv m, f32v a, f32v b) { return _mm512_mask_blend_ps(m, b, a); }
static EXN_SIMD uint32_t bits_of(maskv m) { return m; }

static EXN_SIMD maskv first_lanes(int n) { return static_cast<maskv>((1u << n) - 1); }

static EXN_SIMD f32v widen(__m256i bf) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf), 16));
}

static EXN_SIMD f32v load(const float* p) { return _mm512_loadu_ps(p); }
static EXN_SIMD f32v load(const bf16* p) {
  return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static EXN_SIMD f32v load(const f16* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static EXN_SIMD f32v load(const int8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

static EXN_SIMD f32v load_n(const float* p, int n, float fill) {
  return _mm512_mask_loadu_ps(set1(fill), first_lanes(n), p);
}
static EXN_SIMD f32v load_n(const bf16* p, int n, float fill) {
  return select(first_lanes(n), widen(_mm256_maskz_loadu_epi16(first_lanes(n), p)), set1(fill));
}
static EXN_SIMD f32v load_n(const f16* p, int n, float fill) {
  return select(first_lanes(n), _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p)),
                set1(fill));
}

// By integers, which keep subnormals.
static EXN_SIMD __m256i narrow_bf16_bits(f32v v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const maskv nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}
#if defined(__AVX512BF16__) || defined(EXN_EMULATE_AVX512)
#define EXN_HAS_BF16_DOT 1
// VCVTNEPS2BF16 takes a third of the time, but treats subnormals as zero: those are looked for.
static EXN_SIMD __m256i narrow_bf16(f32v v) {
  constexpr int kSubnormal = 0x20;
  if (__builtin_expect(_mm512_fpclass_ps_mask(v, kSubnormal) != 0, 0)) return narrow_bf16_bits(v);
#if defined(EXN_EMULATE_AVX512)
  return _mm512_cvtneps_pbh(v);
#else
  return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v));
#endif
}
#else
static EXN_SIMD __m256i narrow_bf16(f32v v) { return narrow_bf16_bits(v); }
#endif
static EXN_SIMD __m256i narrow_f16(f32v v) {
  return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static EXN_SIMD void store(float* p, f32v v) { _mm512_storeu_ps(p, v); }
static EXN_SIMD void store(bf16* p, f32v v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16(v));
}
static EXN_SIMD void store(f16* p, f32v v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_f16(v));
}
static EXN_SIMD void store_n(float* p, f32v v, int n) {
  _mm512_mask_storeu_ps(p, first_lanes(n), v);
}
// Compressed in a register: into memory it takes many times as long on Zen 4.
#define EXN_HAS_STORE_SOME 1
static EXN_SIMD int store_some(float* p, f32v v, uint32_t bits) {
  store(p, _mm512_maskz_compress_ps(static_cast<maskv>(bits), v));
  return __builtin_popcount(bits);
}
// A store of 16 is enough for most.
#define EXN_HAS_STORE_NUMBERS 1
static EXN_SIMD int32_t* store_numbers(int32_t* p, int32_t first, uint64_t bits) {
  alignas(64) static constexpr uint8_t kCount[64] = {
      0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
      22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
      44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
  const __m512i listed = _mm512_maskz_compress_epi8(bits, _mm512_loadu_si512(kCount));
  const auto put = [&](int32_t* to, __m128i some) EXN_FLAT {
    const __m512i numbers = _mm512_add_epi32(_mm512_set1_epi32(first), _mm512_cvtepu8_epi32(some));
    _mm512_storeu_ps(to, _mm512_castsi512_ps(numbers));
  };
  const int n = __builtin_popcountll(bits);
  put(p, _mm512_castsi512_si128(listed));
  if (__builtin_expect(n > 16, 0)) {
    alignas(64) uint8_t some[64];
    _mm512_storeu_ps(some, _mm512_castsi512_ps(listed));
    for (int i = 16; i < n; i += 16)
      put(p + i, _mm_load_si128(reinterpret_cast<const __m128i*>(some + i)));
  }
  return p + n;
}
#define EXN_HAS_JOIN_BITS 1
static EXN_SIMD uint64_t join_bits(maskv a, maskv b, maskv c, maskv d) {
  return _mm512_kunpackd(_mm512_kunpackw(d, c), _mm512_kunpackw(b, a));
}
static EXN_SIMD void store_n(bf16* p, f32v v, int n) {
  _mm256_mask_storeu_epi16(p, first_lanes(n), narrow_bf16(v));
}
static EXN_SIMD void store_n(f16* p, f32v v, int n) {
  _mm256_mask_storeu_epi16(p, first_lanes(n), narrow_f16(v));
}

// Two registers hold 32 powers of two, and a permutation looks one up: exp then needs a polynomial
// of degree 2. `shifted` is kPowerShift plus a multiple q of 1/32, so its last five bits number the
// power 2^(q - floor q), and the bits above them, moved into the exponent, are 128 + floor q. An
// entry has that 128 and its own number taken off. 2^-127, at the floor, comes out as 0.
#define EXN_HAS_POWER_TABLE 1
constexpr float kExpFloor = -88.0296919f;
constexpr float kPowerShift = 393344.0f;  // 1.5 * 2^18 + 128
alignas(64) static constexpr uint32_t kPowers[32] = {
    0xff800000, 0xff7ecd87, 0xff7daac3, 0xff7c980f, 0xff7b95c2, 0xff7aa43a, 0xff79c3d3, 0xff78f4f0,
    0xff7837f0, 0xff778d3a, 0xff76f532, 0xff767043, 0xff75fed7, 0xff75a15b, 0xff75583f, 0xff7523f6,
    0xff7504f3, 0xff74fbaf, 0xff7508a4, 0xff752c4d, 0xff75672a, 0xff75b9be, 0xff76248c, 0xff76a81e,
    0xff7744fd, 0xff77fbb8, 0xff78ccdf, 0xff79b907, 0xff7ac0c7, 0xff7be4ba, 0xff7d257d, 0xff7e83b3};
// The bits of all. Joined `shifted`, with q >= -128 or NaN, tell whether one is NaN or q >= 128.
static EXN_SIMD f32v any_of(f32v a, f32v b, f32v c) {
  constexpr int kOr = 0xfe;
  return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(
      _mm512_castps_si512(a), _mm512_castps_si512(b), _mm512_castps_si512(c), kOr));
}
static EXN_SIMD bool any_beyond(f32v joined) {
  const __m512i beyond = _mm512_set1_epi32(~0x48c01fff);
  return _mm512_test_epi32_mask(_mm512_castps_si512(joined), beyond) != 0;
}
static EXN_SIMD f32v power_of_two(f32v shifted) {
  const __m512i bits = _mm512_castps_si512(shifted);
  const __m512 entry =
      _mm512_permutex2var_ps(_mm512_loadu_ps(kPowers), bits, _mm512_loadu_ps(kPowers + kLanes));
  return _mm512_castsi512_ps(
      _mm512_add_epi32(_mm512_castps_si512(entry), _mm512_slli_epi32(bits, 18)));
}

// 1 / a for 1 <= a <= kReciprocalMax, exactly 1 at 1, to within one unit in the last place. A
// division of 16 lanes takes as long as ten multiplications.
#define EXN_HAS_RECIPROCAL 1
constexpr float kReciprocalMax = 0x1p120f;
static EXN_SIMD f32v reciprocal(f32v a) {
  const f32v y = _mm512_rcp14_ps(a);  // its relative error is squared
  return _mm512_fmadd_ps(y, _mm512_fnmadd_ps(a, y, _mm512_set1_ps(1.0f)), y);
}

// The logarithm splits [1, 2) into 32 intervals in the same manner: kLogScale is 2 / c for
// a c within each, kLogOffset is ln c. In the first c is 1, so that the logarithm of what
// is near 1 keeps its digits.
alignas(64) static constexpr float kLogScale[32] = {
    2.0f,        1.91044772f, 1.8550725f,  1.80281687f, 1.75342464f, 1.70666671f, 1.66233766f,
    1.62025321f, 1.58024693f, 1.54216862f, 1.50588238f, 1.47126436f, 1.43820226f, 1.40659344f,
    1.37634408f, 1.34736848f, 1.31958759f, 1.29292929f, 1.26732671f, 1.24271846f, 1.21904767f,
    1.19626164f, 1.17431188f, 1.15315318f, 1.13274336f, 1.11304343f, 1.09401715f, 1.07563031f,
    1.0578512f,  1.04065037f, 1.02400005f, 1.00787401f};
alignas(64) static constexpr float kLogOffset[32] = {
    0.0f,         0.0458095595f, 0.0752234012f, 0.10379681f,  0.131576359f, 0.158605009f,
    0.184922338f, 0.210564747f,  0.235566065f,  0.259957552f, 0.283768147f, 0.307025045f,
    0.32975328f,  0.351976395f,  0.373716414f,  0.394993752f, 0.41582793f,  0.436236769f,
    0.456237435f, 0.475845903f,  0.495077223f,  0.513945758f, 0.532464862f, 0.55064708f,
    0.568504751f, 0.58604908f,   0.603290796f,  0.620240331f, 0.636907518f, 0.653301299f,
    0.669430614f, 0.685303986f};
// r and offset of a >= 1, finite: ln a = offset + ln(1 + r), -1/65 < r <= 1/32.
static EXN_SIMD void split_log(f32v a, f32v* r, f32v* offset) {
  const __m512i interval = _mm512_srli_epi32(_mm512_castps_si512(a), 18);
  const f32v scale = _mm512_permutex2var_ps(_mm512_loadu_ps(kLogScale), interval,
                                            _mm512_loadu_ps(kLogScale + kLanes));
  const f32v table = _mm512_permutex2var_ps(_mm512_loadu_ps(kLogOffset), interval,
                                            _mm512_loadu_ps(kLogOffset + kLanes));
  const f32v m = _mm512_getmant_ps(a, _MM_MANT_NORM_p5_1, _MM_MANT_SIGN_zero);
  *r = fms(m, scale, set1(1.0f));
  *offset = fma(_mm512_getexp_ps(a), set1(0.693147181f), table);
}

// Mantissa in [1/2, 1) and exponent of a positive finite a.
static EXN_SIMD f32v mantissa(f32v a) {
  return _mm512_getmant_ps(a, _MM_MANT_NORM_p5_1, _MM_MANT_SIGN_zero);
}
static EXN_SIMD f32v exponent(f32v a) { return add(_mm512_getexp_ps(a), set1(1.0f)); }

static EXN_SIMD float reduce_add(f32v v) {
  __m256 y = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
static EXN_SIMD float reduce_max(f32v v) {
  __m256 y = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

// Sums as reduce_add takes them, in steps. Quarters of the result, of 128 bits, hold four partial
// sums each of v[0], v[2], v[1], v[3]. Where it can, a level takes one operand by a blend: shuffles
// have half as many units.
static EXN_SIMD f32v fold_to_quads(const f32v (&v)[4]) {
  f32v a[2];
  for (int i = 0; i < 2; ++i) {
    const f32v x = v[2 * i], y = v[2 * i + 1];
    a[i] = add(_mm512_mask_blend_ps(0xff00, x, y), _mm512_shuffle_f32x4(x, y, 0x4e));
  }
  // 128-bit lanes 1 of x, 0 of y, 3 of x, 2 of y
  const __m512i crossed =
      _mm512_setr_epi32(4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27);
  return add(_mm512_mask_blend_ps(0xf0f0, a[0], a[1]), _mm512_permutex2var_ps(a[0], crossed, a[1]));
}

// The sums of the four quarters of each v, side by side: those of v[0] first in each quarter.
static EXN_SIMD f32v fold_quads(const f32v (&v)[4]) {
  f32v c[2];
  for (int i = 0; i < 2; ++i) {
    const f32v x = v[2 * i], y = v[2 * i + 1];
    c[i] = add(_mm512_mask_blend_ps(0xcccc, x, y), _mm512_shuffle_ps(x, y, 0x4e));
  }
  return add(_mm512_shuffle_ps(c[0], c[1], 0x88), _mm512_shuffle_ps(c[0], c[1], 0xdd));
}

// The sums of sixteen vectors in their order, which are four to a v, folded to quads.
static EXN_SIMD f32v fold_sixteen(const f32v (&v)[4]) {
  // The quarters hold the sums of vectors 0, 4, 8, 12; of 2, 6, ...; of 1, 5, ...; of 3, 7, ...
  const __m512i order = _mm512_setr_epi32(0, 8, 4, 12, 1, 9, 5, 13, 2, 10, 6, 14, 3, 11, 7, 15);
  return _mm512_permutexvar_ps(order, fold_quads(v));
}

// out[i] = reduce_add(v[i]), bit for bit, by a transposing tree: 46
// operations instead of 16 times 11.
constexpr int kReduceTree = 16;
static EXN_SIMD void reduce_add_tree(const f32v* v, float* out) {
  f32v b[4];
  for (int i = 0; i < 4; ++i) {
    const f32v* four = v + 4 * i;
    b[i] = fold_to_quads({four[0], four[1], four[2], four[3]});
  }
  store(out, fold_sixteen(b));
}

// v[i] becomes the i-th quarters, in the order 0, 2, 1, 3 of fold_to_quads, of all v.
static EXN_SIMD void transpose_quads(f32v (&v)[4]) {
  const f32v a = _mm512_shuffle_f32x4(v[0], v[1], 0x44);
  const f32v b = _mm512_shuffle_f32x4(v[2], v[3], 0x44);
  const f32v c = _mm512_shuffle_f32x4(v[0], v[1], 0xee);
  const f32v d = _mm512_shuffle_f32x4(v[2], v[3], 0xee);
  v[0] = _mm512_shuffle_f32x4(a, b, 0x88);
  v[2] = _mm512_shuffle_f32x4(a, b, 0xdd);
  v[1] = _mm512_shuffle_f32x4(c, d, 0x88);
  v[3] = _mm512_shuffle_f32x4(c, d, 0xdd);
}

// Lanes of f64, half as many, for sums that need them.
using f64v = __m512d;
static EXN_SIMD f64v zero_f64() { return _mm512_setzero_pd(); }
static EXN_SIMD f64v set1(double x) { return _mm512_set1_pd(x); }
static EXN_SIMD f64v low_f64(f32v v) { return _mm512_cvtps_pd(_mm512_castps512_ps256(v)); }
static EXN_SIMD f64v high_f64(f32v v) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)); }
static EXN_SIMD f32v narrow(f64v low, f64v high) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}
static EXN_SIMD f64v add(f64v a, f64v b) { return _mm512_add_pd(a, b); }
static EXN_SIMD f64v mul(f64v a, f64v b) { return _mm512_mul_pd(a, b); }
static EXN_SIMD f64v fma(f64v a, f64v b, f64v c) { return _mm512_fmadd_pd(a, b, c); }
static EXN_SIMD f64v load(const double* p) { return _mm512_loadu_pd(p); }
static EXN_SIMD void store(double* p, f64v v) { _mm512_storeu_pd(p, v); }

// 32 bf16.
constexpr int kDotLanes = 32;
using bf16v = __m512i;
static EXN_SIMD bf16v load_pairs(const bf16* p) { return _mm512_loadu_si512(p); }
static EXN_SIMD bf16v load_pairs_n(const bf16* p, int n) {
  return _mm512_maskz_loadu_epi16(static_cast<__mmask32>((uint64_t{1} << n) - 1), p);
}
// v, which is loaded before whatever goes through here later: a core reads ahead in the order of
// loads, and the compiler would change it.
static EXN_SIMD bf16v in_turn(bf16v v) {
#if !defined(EXN_EMULATE_AVX512)
  __asm__ volatile("" : "+v"(v));
#endif
  return v;
}
// v, which is computed before whatever goes through here later.
static EXN_SIMD f32v in_turn(f32v v) {
#if !defined(EXN_EMULATE_AVX512)
  __asm__ volatile("" : "+v"(v));
#endif
  return v;
}
// Eight elements in all four quarters.
static EXN_SIMD bf16v load_quarter(const bf16* p) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
// v[i] becomes the i-th quarters of v[0], v[2], v[1], v[3], the order of fold_to_quads.
static EXN_SIMD void transpose_quarters(bf16v (&v)[4]) {
  constexpr int kOrder[4] = {0, 2, 1, 3};
  f32v quads[4];
  for (int i = 0; i < 4; ++i) quads[i] = _mm512_castsi512_ps(v[kOrder[i]]);
  transpose_quads(quads);
  for (int i = 0; i < 4; ++i) v[i] = _mm512_castps_si512(quads[kOrder[i]]);
}
#if defined(EXN_HAS_BF16_DOT)
// Products of 32 pairs of bf16 added to 16 lanes of f32 (VDPBF16PS: subnormals count as zero).
static EXN_SIMD f32v dot_pairs(bf16v a, bf16v b, f32v c) {
#if defined(EXN_EMULATE_AVX512)
  return _mm512_dpbf16_ps(c, a, b);
#else
  return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
#endif
}
#endif

// Even and odd elements of 32, widened.
static EXN_SIMD void widen_pair(bf16v both, f32v& even, f32v& odd) {
  even = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
  odd = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(-0x10000)));
}
static EXN_SIMD void load_pair(const bf16* p, f32v& even, f32v& odd) {
  bf16v both = load_pairs(p);
#if !defined(EXN_EMULATE_AVX512)
  __asm__("" : "+v"(both));  // or it is loaded twice, as an operand of either operation
#endif
  widen_pair(both, even, odd);
}
static EXN_SIMD void load_pair_n(const bf16* p, int n, f32v& even, f32v& odd) {
  widen_pair(load_pairs_n(p, n), even, odd);
}

// Sums of four products of bytes: bytes.h.
#define EXN_HAS_BYTE_DOT 1

// Adds up the 64-bit words of a cache line, for the read probe.
using probe_v = __m512i;
static EXN_SIMD probe_v probe_zero() { return _mm512_setzero_si512(); }
static EXN_SIMD probe_v probe_add(probe_v a, const void* p) {
  return _mm512_add_epi64(a, _mm512_loadu_si512(p));
}
static EXN_SIMD probe_v probe_add(probe_v a, probe_v b) { return _mm512_add_epi64(a, b); }

}  // namespace exn::cpu::EXN_ISA
