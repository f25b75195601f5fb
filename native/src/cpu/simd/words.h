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
#endif

}  // namespace exn::cpu::EXN_ISA
