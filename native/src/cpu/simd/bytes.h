// SPDX-License-Identifier: Apache-2.0
// 64 bytes, or the integers that they are together, and sums of four products of bytes in 16 lanes:
// for sets that have VNNI, VBMI and GFNI.
#pragma once

#include "simd.h"

namespace exn::cpu::EXN_ISA {

using bytes_v = __m512i;
static EXN_SIMD bytes_v load_bytes(const void* p) { return _mm512_loadu_si512(p); }
// 32 bytes twice.
static EXN_SIMD bytes_v load_bytes_twice(const void* p) {
  return _mm512_broadcast_i64x4(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
// Four times 16 bytes that lie so far apart. Where pick_bytes has two operands it takes the one port
// that moves bytes twice, this any.
template <int kApart>
static EXN_SIMD bytes_v load_sixteens(const uint8_t* p) {
#if defined(EXN_EMULATE_AVX512)
  uint8_t sixteens[64];
  for (int i = 0; i < 4; ++i) std::memcpy(sixteens + 16 * i, p + i * kApart, 16);
  return load_bytes(sixteens);
#else
  const auto at = [&](int i) EXN_FLAT {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * kApart));
  };
  const __m512i two = _mm512_inserti32x4(_mm512_castsi128_si512(at(0)), at(1), 1);
  return _mm512_inserti32x4(_mm512_inserti32x4(two, at(2), 2), at(3), 3);
#endif
}
// Eight bytes eight times.
static EXN_SIMD bytes_v load_eight_bytes(const void* p) {
  long long eight;
  std::memcpy(&eight, p, sizeof eight);
  return _mm512_set1_epi64(eight);
}
static EXN_SIMD void store_bytes(void* p, bytes_v v) {
  _mm512_storeu_ps(p, _mm512_castsi512_ps(v));
}
// A register holds v, whatever reads it, where the compiler would load it for each anew.
static EXN_SIMD void keep_loaded([[maybe_unused]] bytes_v& v) {
#if !defined(EXN_EMULATE_AVX512)
  __asm__("" : "+v"(v));
#endif
}
// Made anew each time, for nothing: a copy of 64 bytes takes as long as a multiplication.
static EXN_SIMD bytes_v zero_bytes() {
#if defined(EXN_EMULATE_AVX512)
  return _mm512_setzero_si512();
#else
  bytes_v zeros;
  __asm__ volatile("vpxord %0, %0, %0" : "=v"(zeros));
  return zeros;
#endif
}
static EXN_SIMD bytes_v set1_bytes(int v) {
  return _mm512_set1_epi32(static_cast<int>(static_cast<uint32_t>(v) * 0x01010101u));
}
static EXN_SIMD bytes_v and_bytes(bytes_v a, bytes_v b) { return _mm512_and_si512(a, b); }
static EXN_SIMD bytes_v xor_bytes(bytes_v a, bytes_v b) { return _mm512_xor_si512(a, b); }
// a, and the bits of b that `mask` has.
static EXN_SIMD bytes_v or_bits(bytes_v a, bytes_v b, bytes_v mask) {
  return _mm512_ternarylogic_epi32(a, b, mask, 0xf8);
}
// Bits of a where `mask` has them, of b elsewhere.
static EXN_SIMD bytes_v select_bits(bytes_v mask, bytes_v a, bytes_v b) {
  return _mm512_ternarylogic_epi32(mask, a, b, 0xca);
}
// Upper halves of bytes where lower ones were: GFNI does that at once.
static EXN_SIMD bytes_v upper_nibbles(bytes_v a) {
#if defined(EXN_EMULATE_AVX512)
  return _mm512_and_si512(_mm512_srli_epi16(a, 4), set1_bytes(15));
#else
  static constexpr uint64_t kBit4ToBit0 = 0x1020408000000000;
  bytes_v upper;
  __asm__("vgf2p8affineqb $0, %2, %1, %0"
          : "=v"(upper)
          : "v"(a), "v"(_mm512_set1_epi64(kBit4ToBit0)));
  return upper;
#endif
}
// Bytes of a, or of a and b, by number.
static EXN_SIMD bytes_v pick_bytes(bytes_v order, bytes_v a) {
  return _mm512_permutexvar_epi8(order, a);
}
static EXN_SIMD bytes_v pick_bytes(bytes_v order, bytes_v a, bytes_v b) {
  return _mm512_permutex2var_epi8(a, order, b);
}
// Those of a by number where `bits` has them, of `others` elsewhere.
static EXN_SIMD bytes_v pick_some_bytes(bytes_v others, uint64_t bits, bytes_v order, bytes_v a) {
  return _mm512_mask_permutexvar_epi8(others, bits, order, a);
}
// In each quarter, one after the other: the lower or the upper eight bytes of a and of b; four bytes
// of a, of b, of a and of b, from its lower or its upper half.
static EXN_SIMD bytes_v lower_eights(bytes_v a, bytes_v b) { return _mm512_unpacklo_epi64(a, b); }
static EXN_SIMD bytes_v upper_eights(bytes_v a, bytes_v b) { return _mm512_unpackhi_epi64(a, b); }
static EXN_SIMD bytes_v lower_fours(bytes_v a, bytes_v b) { return _mm512_unpacklo_epi32(a, b); }
static EXN_SIMD bytes_v upper_fours(bytes_v a, bytes_v b) { return _mm512_unpackhi_epi32(a, b); }
// In each quarter: two of a and two of b, those with even numbers or the others.
static EXN_SIMD bytes_v even_fours(bytes_v a, bytes_v b) {
  const f32v fours = _mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0x88);
  return _mm512_castps_si512(fours);
}
static EXN_SIMD bytes_v odd_fours(bytes_v a, bytes_v b) {
  const f32v fours = _mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0xdd);
  return _mm512_castps_si512(fours);
}
static EXN_SIMD f32v even_lanes(f32v a, f32v b) { return _mm512_shuffle_ps(a, b, 0x88); }
// The upper half of a and the lower one of b; the same of their quarters.
static EXN_SIMD f32v inner_halves(f32v a, f32v b) { return _mm512_shuffle_f32x4(a, b, 0x4e); }
static EXN_SIMD f32v inner_pairs(f32v a, f32v b) { return _mm512_shuffle_ps(a, b, 0x4e); }
// Quarters 0 and 2 of a and of b; quarters 1 and 3.
static EXN_SIMD bytes_v even_sixteens(bytes_v a, bytes_v b) {
  return _mm512_shuffle_i32x4(a, b, 0x88);
}
static EXN_SIMD bytes_v odd_sixteens(bytes_v a, bytes_v b) {
  return _mm512_shuffle_i32x4(a, b, 0xdd);
}
// Eight bits of each 64 that a byte lies in, from the bit on that the byte of `from` names; bit 0
// comes after bit 63.
static EXN_SIMD bytes_v pick_bits(bytes_v from, bytes_v a) {
  return _mm512_multishift_epi64_epi8(from, a);
}
// sums + <u, s> of each four bytes, unsigned ones and signed ones.
static EXN_SIMD bytes_v dot_bytes(bytes_v sums, bytes_v u, bytes_v s) {
  return _mm512_dpbusd_epi32(sums, u, s);
}
static EXN_SIMD bytes_v add_ints(bytes_v a, bytes_v b) { return _mm512_add_epi32(a, b); }
static EXN_SIMD bytes_v times_256(bytes_v sums) { return _mm512_slli_epi32(sums, 8); }
// The same, and the first eight bits of each lane of `last` as the last ones.
static EXN_SIMD bytes_v times_256(bytes_v sums, bytes_v last) {
  return _mm512_shldi_epi32(sums, last, 8);
}
static EXN_SIMD f32v to_floats(bytes_v ints) { return _mm512_cvtepi32_ps(ints); }
// The first 16 halves; 16 bytes, with a sign or without.
static EXN_SIMD f32v halves_to_floats(bytes_v a) {
  return _mm512_cvtph_ps(_mm512_castsi512_si256(a));
}
static EXN_SIMD f32v bytes_to_floats(bytes_v a) {
  return to_floats(_mm512_cvtepu8_epi32(_mm512_castsi512_si128(a)));
}
static EXN_SIMD f32v signed_bytes_to_floats(const void* p) {
  return to_floats(_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))));
}
static EXN_SIMD f32v pick_lanes(bytes_v order, f32v a) { return _mm512_permutexvar_ps(order, a); }
static EXN_SIMD f32v pick_lanes(bytes_v order, f32v a, f32v b) {
  return _mm512_permutex2var_ps(a, order, b);
}

}  // namespace exn::cpu::EXN_ISA
