// SPDX-License-Identifier: Apache-2.0
// Columns of words of rows that lie anywhere, one row to a lane:
//
//   load_columns(rows, at, v)   v[i] = the i-th of four words of 32 bits that lie `at` bytes from
//                               each of kLanes addresses, where the set has it
//   widen_words(T*, w, low, high)
//                               the lower and the upper elements of words of two
#pragma once

#include "simd.h"

namespace exn::cpu::EXN_ISA {

#if defined(__AVX512VNNI__) || defined(EXN_EMULATE_AVX512)
#define EXN_HAS_LOAD_COLUMNS 1
// Quarters of rows are put together as they are loaded, which takes no shuffles.
static EXN_SIMD void load_columns(const char* const (&rows)[kLanes], int64_t at, f32v (&v)[4]) {
  __m512i some[4];
  for (int i = 0; i < 4; ++i) {
    const auto quarter = [&](int row) EXN_FLAT {
      const auto* from = reinterpret_cast<const __m128i*>(rows[i + row] + at);
      return _mm512_castsi512_ps(_mm512_broadcast_i32x4(_mm_loadu_si128(from)));
    };
    f32v all = quarter(0);
    all = _mm512_mask_blend_ps(0x00f0, all, quarter(4));
    all = _mm512_mask_blend_ps(0x0f00, all, quarter(8));
    all = _mm512_mask_blend_ps(0xf000, all, quarter(12));
    some[i] = _mm512_castps_si512(all);
  }
  const __m512i a = _mm512_unpacklo_epi32(some[0], some[1]),
                b = _mm512_unpackhi_epi32(some[0], some[1]),
                c = _mm512_unpacklo_epi32(some[2], some[3]),
                d = _mm512_unpackhi_epi32(some[2], some[3]);
  v[0] = _mm512_castsi512_ps(_mm512_unpacklo_epi64(a, c));
  v[1] = _mm512_castsi512_ps(_mm512_unpackhi_epi64(a, c));
  v[2] = _mm512_castsi512_ps(_mm512_unpacklo_epi64(b, d));
  v[3] = _mm512_castsi512_ps(_mm512_unpackhi_epi64(b, d));
}
static EXN_SIMD void widen_words(const bf16*, f32v words, f32v& low, f32v& high) {
  widen_pair(_mm512_castps_si512(words), low, high);
}
static EXN_SIMD void widen_words(const f16*, f32v words, f32v& low, f32v& high) {
  const __m512i both = _mm512_castps_si512(words);
  low = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(both));
  high = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(both, 16)));
}
#elif defined(__AVX2__)
#define EXN_HAS_LOAD_COLUMNS 1
static EXN_SIMD void load_columns(const char* const (&rows)[kLanes], int64_t at, f32v (&v)[4]) {
  f32v some[4];
  for (int i = 0; i < 4; ++i) {
    const auto half = [&](int row) EXN_FLAT {
      return _mm_loadu_ps(reinterpret_cast<const float*>(rows[i + row] + at));
    };
    some[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(half(0)), half(4), 1);
  }
  const f32v a = _mm256_unpacklo_ps(some[0], some[1]), b = _mm256_unpackhi_ps(some[0], some[1]),
             c = _mm256_unpacklo_ps(some[2], some[3]), d = _mm256_unpackhi_ps(some[2], some[3]);
  v[0] = _mm256_shuffle_ps(a, c, 0x44);
  v[1] = _mm256_shuffle_ps(a, c, 0xee);
  v[2] = _mm256_shuffle_ps(b, d, 0x44);
  v[3] = _mm256_shuffle_ps(b, d, 0xee);
}
static EXN_SIMD void widen_words(const bf16*, f32v words, f32v& low, f32v& high) {
  const __m256i both = _mm256_castps_si256(words);
  low = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
  high = _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(-0x10000)));
}
static EXN_SIMD void widen_words(const f16*, f32v words, f32v& low, f32v& high) {
  const auto widened = [](__m256i halves) EXN_FLAT {
    return _mm256_cvtph_ps(
        _mm_packus_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)));
  };
  const __m256i both = _mm256_castps_si256(words);
  low = widened(_mm256_and_si256(both, _mm256_set1_epi32(0xffff)));
  high = widened(_mm256_srli_epi32(both, 16));
}
#endif

}  // namespace exn::cpu::EXN_ISA
