// SPDX-License-Identifier: Apache-2.0
// Vectors of 32-bit integers that are compared, and a bit for each of 64 of them.
#pragma once

#include "simd.h"

namespace exn::cpu::EXN_ISA {

#if defined(__AVX2__)
constexpr int kIntLanes = 8;
typedef int32_t int_v __attribute__((vector_size(32)));
#else
constexpr int kIntLanes = 4;
typedef int32_t int_v __attribute__((vector_size(16)));
#endif

// All bits of the lanes whose integer is x.
static EXN_SIMD int_v equal_lanes(const int32_t* p, int32_t x) {
  int_v v;
  std::memcpy(&v, p, sizeof v);
  return v == x;
}

// Bit i is set where lane i of 64 is: lanes(i) has those from lane i on, all or none of their bits.
#if defined(__AVX2__)
template <class F>
static EXN_SIMD uint64_t bits_of_lanes(const F& lanes) {
  uint64_t bits = 0;
  for (int i = 0; i < 64; i += 32) {
    const auto of = [&](int at) EXN_FLAT { return reinterpret_cast<__m256i>(lanes(i + at)); };
    const __m256i a = _mm256_packs_epi32(of(0), of(8)), b = _mm256_packs_epi32(of(16), of(24));
    // Fours of lanes: 0, 8, 16, 24, 4, 12, 20, 28.
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
    bits |= static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_epi8(bytes))) << i;
  }
  return bits;
}
#else
template <class F>
static EXN_SIMD uint64_t bits_of_lanes(const F& lanes) {
  uint64_t bits = 0;
  for (int i = 0; i < 64; i += 16) {
#if defined(__aarch64__)
    const auto half = [&](int at) EXN_FLAT {
      const auto of = [&](int k) EXN_FLAT {
        return vmovn_s32(reinterpret_cast<int32x4_t>(lanes(i + k)));
      };
      return vmovn_s16(vcombine_s16(of(at), of(at + 4)));
    };
    const uint8x8_t weights = {1, 2, 4, 8, 16, 32, 64, 128};
    const auto sum = [&](int8x8_t bytes) EXN_FLAT {
      return static_cast<uint64_t>(vaddv_u8(vand_u8(vreinterpret_u8_s8(bytes), weights)));
    };
    bits |= (sum(half(0)) | sum(half(8)) << 8) << i;
#else
    const auto of = [&](int at) EXN_FLAT { return reinterpret_cast<__m128i>(lanes(i + at)); };
    const __m128i a = _mm_packs_epi32(of(0), of(4)), b = _mm_packs_epi32(of(8), of(12));
    bits |= static_cast<uint64_t>(_mm_movemask_epi8(_mm_packs_epi16(a, b))) << i;
#endif
  }
  return bits;
}
#endif

}  // namespace exn::cpu::EXN_ISA
