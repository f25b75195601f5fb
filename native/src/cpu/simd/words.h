// SPDX-License-Identifier: Apache-2.0
// Vectors of words of 16 bits, with the operators that compilers give them, and sums of two products
// of words: for sets without VNNI.
#pragma once

#include "simd.h"

namespace exn::cpu::EXN_ISA {

#if defined(__AVX2__)
constexpr int kWordLanes = 16;
typedef int16_t i16v __attribute__((vector_size(32)));
typedef int32_t i32v __attribute__((vector_size(32)));
static EXN_SIMD i16v load_words(const int16_t* p) {
  return reinterpret_cast<i16v>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static EXN_SIMD i16v widen_bytes(const uint8_t* p) {
  return reinterpret_cast<i16v>(
      _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
static EXN_SIMD i16v widen_bytes(const int8_t* p) {
  return reinterpret_cast<i16v>(
      _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
static EXN_SIMD i32v dot_words(i16v a, i16v b) {
  return reinterpret_cast<i32v>(
      _mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}
static EXN_SIMD f32v to_floats(i32v a) { return _mm256_cvtepi32_ps(reinterpret_cast<__m256i>(a)); }
// Four floats twice.
static EXN_SIMD f32v load_fours(const float* p) {
  return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p));
}
// Of each half, lanes of 32 and of 64 bits of a and of b in turn, from its lower or upper half on.
static EXN_SIMD i32v zip_lower(i32v a, i32v b) {
  return reinterpret_cast<i32v>(
      _mm256_unpacklo_epi32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}
static EXN_SIMD i32v zip_upper(i32v a, i32v b) {
  return reinterpret_cast<i32v>(
      _mm256_unpackhi_epi32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}
static EXN_SIMD i32v zip_lower_pairs(i32v a, i32v b) {
  return reinterpret_cast<i32v>(
      _mm256_unpacklo_epi64(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}
static EXN_SIMD i32v zip_upper_pairs(i32v a, i32v b) {
  return reinterpret_cast<i32v>(
      _mm256_unpackhi_epi64(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}
#else
constexpr int kWordLanes = 8;
typedef int16_t i16v __attribute__((vector_size(16)));
typedef int32_t i32v __attribute__((vector_size(16)));
static EXN_SIMD i16v load_words(const int16_t* p) {
  i16v v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class Byte>
static EXN_SIMD i16v widen_bytes(const Byte* p) {
  typedef Byte bytes __attribute__((vector_size(8)));
  bytes v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, i16v);
}
static EXN_SIMD i32v dot_words(i16v a, i16v b) {
#if defined(__aarch64__)
  const int16x8_t x = reinterpret_cast<int16x8_t>(a), y = reinterpret_cast<int16x8_t>(b);
  const int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y));
  return reinterpret_cast<i32v>(vpaddq_s32(low, vmull_high_s16(x, y)));
#else
  return reinterpret_cast<i32v>(
      _mm_madd_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#endif
}
static EXN_SIMD f32v to_floats(i32v a) { return __builtin_convertvector(a, f32v); }
static EXN_SIMD f32v load_fours(const float* p) { return load(p); }
#if __has_builtin(__builtin_shufflevector)
#define EXN_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else  // GCC before 12
#define EXN_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, i32v{__VA_ARGS__})
#endif
static EXN_SIMD i32v zip_lower(i32v a, i32v b) { return EXN_SHUFFLE(a, b, 0, 4, 1, 5); }
static EXN_SIMD i32v zip_upper(i32v a, i32v b) { return EXN_SHUFFLE(a, b, 2, 6, 3, 7); }
static EXN_SIMD i32v zip_lower_pairs(i32v a, i32v b) { return EXN_SHUFFLE(a, b, 0, 1, 4, 5); }
static EXN_SIMD i32v zip_upper_pairs(i32v a, i32v b) { return EXN_SHUFFLE(a, b, 2, 3, 6, 7); }
#undef EXN_SHUFFLE
#endif

// In each four lanes, or the only ones: the sums of those of v[0], of v[1], of v[2] and of v[3].
static EXN_SIMD i32v add_fours(const i32v* v) {
  const i32v a = zip_lower(v[0], v[1]) + zip_upper(v[0], v[1]);
  const i32v b = zip_lower(v[2], v[3]) + zip_upper(v[2], v[3]);
  return zip_lower_pairs(a, b) + zip_upper_pairs(a, b);
}
// v[i] becomes the i-th pairs of words of each four, of all v.
static EXN_SIMD void exchange_pairs(i16v (&v)[4]) {
  i32v pairs[4];
  std::memcpy(pairs, v, sizeof pairs);
  const i32v a = zip_lower(pairs[0], pairs[1]), b = zip_lower(pairs[2], pairs[3]);
  const i32v c = zip_upper(pairs[0], pairs[1]), d = zip_upper(pairs[2], pairs[3]);
  v[0] = reinterpret_cast<i16v>(zip_lower_pairs(a, b));
  v[1] = reinterpret_cast<i16v>(zip_upper_pairs(a, b));
  v[2] = reinterpret_cast<i16v>(zip_lower_pairs(c, d));
  v[3] = reinterpret_cast<i16v>(zip_upper_pairs(c, d));
}

}  // namespace exn::cpu::EXN_ISA
