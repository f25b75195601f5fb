// SPDX-License-Identifier: Apache-2.0
// The AVX-512 intrinsics that native/src/cpu/simd/avx512.h uses, over those of AVX2, so that the
// AVX-512 kernels run through the whole test suite on a processor without AVX-512. Written from
// Intel's description of each instruction; says nothing about speed. A register is two halves that
// fit those of AVX2, for the sake of the compile time: loops over lanes took twice as long.
//
// Where the processor has AVX-512 but for BF16, only the instructions of that are emulated.
//
// The compiler's own header is included first, for its types, and the names of vectors and
// functions are then redirected by macros. What the instruction takes as an immediate is a template
// argument.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace exn::cpu::EXN_ISA::emulated {

#define EXN_EMULATED static inline __attribute__((always_inline))
// Long, and seldom called.
#define EXN_EMULATED_CALL static inline __attribute__((noinline))

struct alignas(64) Floats {
  __m256 low, high;
};
struct alignas(64) Integers {
  __m256i low, high;
};
struct alignas(64) Doubles {
  __m256d low, high;
};

// ---- 16 lanes of f32 ----------------------------------------------------------------------------

EXN_EMULATED Floats setzero_ps() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
EXN_EMULATED Floats set1_ps(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }

#define EXN_BOTH(name)                                                   \
  EXN_EMULATED Floats name(Floats a, Floats b) {                         \
    return {_mm256_##name(a.low, b.low), _mm256_##name(a.high, b.high)}; \
  }
EXN_BOTH(add_ps)
EXN_BOTH(sub_ps)
EXN_BOTH(mul_ps)
EXN_BOTH(div_ps)
EXN_BOTH(max_ps)
EXN_BOTH(min_ps)
EXN_BOTH(or_ps)
EXN_BOTH(and_ps)
#undef EXN_BOTH

#define EXN_FUSED(name)                                                                 \
  EXN_EMULATED Floats name(Floats a, Floats b, Floats c) {                              \
    return {_mm256_##name(a.low, b.low, c.low), _mm256_##name(a.high, b.high, c.high)}; \
  }
EXN_FUSED(fmadd_ps)
EXN_FUSED(fmsub_ps)
EXN_FUSED(fnmadd_ps)
#undef EXN_FUSED

EXN_EMULATED Floats castsi512_ps(Integers a) {
  return {_mm256_castsi256_ps(a.low), _mm256_castsi256_ps(a.high)};
}
EXN_EMULATED Integers castps_si512(Floats a) {
  return {_mm256_castps_si256(a.low), _mm256_castps_si256(a.high)};
}
EXN_EMULATED Floats abs_ps(Floats a) {
  return and_ps(a, set1_ps(__builtin_bit_cast(float, 0x7fffffff)));
}
// An approximation as coarse as the instruction's may be: 14 bits.
EXN_EMULATED Floats rcp14_ps(Floats a) {
  const Floats coarse = set1_ps(__builtin_bit_cast(float, 0xfffffe00u));
  return and_ps(div_ps(set1_ps(1.0f), a), coarse);
}

// ---- masks --------------------------------------------------------------------------------------

// All bits of lane i where bit i is set.
EXN_EMULATED __m256i lanes_of(uint32_t mask) {
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i set = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(mask)), bits);
  return _mm256_cmpeq_epi32(set, bits);
}
EXN_EMULATED Integers all_lanes_of(__mmask16 m) { return {lanes_of(m), lanes_of(m >> 8)}; }
EXN_EMULATED __mmask16 mask_of(Floats lanes) {
  return static_cast<__mmask16>(_mm256_movemask_ps(lanes.low) | _mm256_movemask_ps(lanes.high)
                                                                    << 8);
}

// b where the sign of `lanes` is set.
EXN_EMULATED Floats choose(Floats a, Floats b, Floats lanes) {
  return {_mm256_blendv_ps(a.low, b.low, lanes.low), _mm256_blendv_ps(a.high, b.high, lanes.high)};
}

template <int kPredicate>
EXN_EMULATED __mmask16 cmp_ps_mask(Floats a, Floats b) {
  return mask_of(
      {_mm256_cmp_ps(a.low, b.low, kPredicate), _mm256_cmp_ps(a.high, b.high, kPredicate)});
}
EXN_EMULATED Floats mask_blend_ps(__mmask16 m, Floats a, Floats b) {
  return choose(a, b, castsi512_ps(all_lanes_of(m)));
}

// ---- integers -----------------------------------------------------------------------------------

EXN_EMULATED Integers setzero_si512() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
EXN_EMULATED Integers set1_epi32(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
EXN_EMULATED Integers setr_epi32(int32_t a, int32_t b, int32_t c, int32_t d, int32_t e, int32_t f,
                                 int32_t g, int32_t h, int32_t i, int32_t j, int32_t k, int32_t l,
                                 int32_t m, int32_t n, int32_t o, int32_t p) {
  return {_mm256_setr_epi32(a, b, c, d, e, f, g, h), _mm256_setr_epi32(i, j, k, l, m, n, o, p)};
}
EXN_EMULATED Integers and_si512(Integers a, Integers b) {
  return {_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high)};
}
EXN_EMULATED Integers or_si512(Integers a, Integers b) {
  return {_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)};
}
EXN_EMULATED Integers add_epi32(Integers a, Integers b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
EXN_EMULATED Integers sub_epi32(Integers a, Integers b) {
  return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)};
}
EXN_EMULATED Integers add_epi64(Integers a, Integers b) {
  return {_mm256_add_epi64(a.low, b.low), _mm256_add_epi64(a.high, b.high)};
}
EXN_EMULATED Integers slli_epi32(Integers a, int n) {
  return {_mm256_slli_epi32(a.low, n), _mm256_slli_epi32(a.high, n)};
}
EXN_EMULATED Integers srli_epi32(Integers a, int n) {
  return {_mm256_srli_epi32(a.low, n), _mm256_srli_epi32(a.high, n)};
}
EXN_EMULATED Integers equal_epi32(Integers a, Integers b) {
  return {_mm256_cmpeq_epi32(a.low, b.low), _mm256_cmpeq_epi32(a.high, b.high)};
}
EXN_EMULATED __mmask16 test_epi32_mask(Integers a, Integers b) {
  const Integers zeros = equal_epi32(and_si512(a, b), setzero_si512());
  return static_cast<__mmask16>(~mask_of(castsi512_ps(zeros)));
}
EXN_EMULATED Integers mask_or_epi32(Integers src, __mmask16 m, Integers a, Integers b) {
  return castps_si512(mask_blend_ps(m, castsi512_ps(src), castsi512_ps(or_si512(a, b))));
}
EXN_EMULATED Integers cvtepu8_epi32(__m128i a) {
  return {_mm256_cvtepu8_epi32(a), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(a, a))};
}
EXN_EMULATED Integers cvtepu16_epi32(__m256i a) {
  return {_mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)),
          _mm256_cvtepu16_epi32(_mm256_extracti128_si256(a, 1))};
}
// The lower halves of all lanes. Packing takes turns between the registers by 128 bits.
EXN_EMULATED __m256i cvtepi32_epi16(Integers a) {
  const Integers lower = and_si512(a, set1_epi32(0xffff));
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(lower.low, lower.high), 0xd8);
}
EXN_EMULATED Integers broadcast_i32x4(__m128i a) {
  return {_mm256_broadcastsi128_si256(a), _mm256_broadcastsi128_si256(a)};
}

// ---- f16 ----------------------------------------------------------------------------------------

EXN_EMULATED Floats cvtph_ps(__m256i a) {
  return {_mm256_cvtph_ps(_mm256_castsi256_si128(a)),
          _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1))};
}
template <int kRounding>
EXN_EMULATED __m256i cvtps_ph(Floats a) {
  return _mm256_set_m128i(_mm256_cvtps_ph(a.high, kRounding), _mm256_cvtps_ph(a.low, kRounding));
}

// ---- memory -------------------------------------------------------------------------------------

EXN_EMULATED Floats loadu_ps(const void* p) {
  const float* from = static_cast<const float*>(p);
  return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
}
EXN_EMULATED Integers loadu_si512(const void* p) { return castps_si512(loadu_ps(p)); }
EXN_EMULATED void storeu_ps(void* p, Floats v) {
  float* to = static_cast<float*>(p);
  _mm256_storeu_ps(to, v.low);
  _mm256_storeu_ps(to + 8, v.high);
}
// Masked-off elements must not be touched: they may lie on a page that is not there.
EXN_EMULATED Floats mask_loadu_ps(Floats src, __mmask16 m, const void* p) {
  const float* from = static_cast<const float*>(p);
  const Integers lanes = all_lanes_of(m);
  const Floats loaded = {_mm256_maskload_ps(from, lanes.low),
                         _mm256_maskload_ps(from + 8, lanes.high)};
  return choose(src, loaded, castsi512_ps(lanes));
}
EXN_EMULATED void mask_storeu_ps(void* p, __mmask16 m, Floats v) {
  float* to = static_cast<float*>(p);
  const Integers lanes = all_lanes_of(m);
  _mm256_maskstore_ps(to, lanes.low, v.low);
  _mm256_maskstore_ps(to + 8, lanes.high, v.high);
}
EXN_EMULATED_CALL Floats maskz_compress_ps(__mmask16 m, Floats v) {
  float lanes[16], some[16] = {};
  storeu_ps(lanes, v);
  for (int i = 0, n = 0; i < 16; ++i) {
    if ((m >> i & 1) != 0) some[n++] = lanes[i];
  }
  return loadu_ps(some);
}
EXN_EMULATED uint32_t kunpackw(uint32_t high, uint32_t low) { return high << 16 | (low & 0xffff); }
EXN_EMULATED uint64_t kunpackd(uint64_t high, uint64_t low) {
  return high << 32 | (low & 0xffffffff);
}
EXN_EMULATED __m128i castsi512_si128(Integers v) { return _mm256_castsi256_si128(v.low); }
EXN_EMULATED_CALL Integers maskz_compress_epi8(uint64_t m, Integers v) {
  uint8_t bytes[64], some[64] = {};
  std::memcpy(bytes, &v, sizeof bytes);
  for (int i = 0, n = 0; i < 64; ++i) {
    if ((m >> i & 1) != 0) some[n++] = bytes[i];
  }
  std::memcpy(&v, some, sizeof some);
  return v;
}
EXN_EMULATED_CALL void maskz_load_16(uint32_t m, const void* p, int n, uint16_t* to) {
  for (int i = 0; i < n; ++i) {
    to[i] = (m >> i & 1) != 0 ? static_cast<const uint16_t*>(p)[i] : uint16_t{0};
  }
}
EXN_EMULATED __m256i maskz_loadu_epi16_256(__mmask16 m, const void* p) {
  __m256i v;
  maskz_load_16(m, p, 16, reinterpret_cast<uint16_t*>(&v));
  return v;
}
EXN_EMULATED Integers maskz_loadu_epi16(__mmask32 m, const void* p) {
  Integers v;
  maskz_load_16(m, p, 32, reinterpret_cast<uint16_t*>(&v));
  return v;
}
EXN_EMULATED_CALL void mask_storeu_epi16_256(void* p, __mmask16 m, __m256i v) {
  uint16_t from[16];
  std::memcpy(from, &v, sizeof from);
  for (int i = 0; i < 16; ++i) {
    if ((m >> i & 1) != 0) static_cast<uint16_t*>(p)[i] = from[i];
  }
}

// ---- mantissa and exponent ----------------------------------------------------------------------

// Lanes whose exponent bits are all zero: zeros and subnormals.
EXN_EMULATED Floats without_exponent(Floats a) {
  return castsi512_ps(
      equal_epi32(and_si512(castps_si512(a), set1_epi32(0x7f800000)), setzero_si512()));
}
// Subnormals times 2^32, other lanes as they are; `subnormal` says which.
EXN_EMULATED Floats normalised(Floats a, Floats subnormal) {
  return choose(a, mul_ps(a, set1_ps(0x1p32f)), subnormal);
}
// To [1/2, 1), sign cleared; positive finite arguments are all that the kernels pass.
template <int kInterval, int kSign>
EXN_EMULATED Floats getmant_ps(Floats a) {
  static_assert(kInterval == _MM_MANT_NORM_p5_1 && kSign == _MM_MANT_SIGN_zero, "not emulated");
  const Integers bits = castps_si512(normalised(a, without_exponent(a)));
  return castsi512_ps(or_si512(and_si512(bits, set1_epi32(0x7fffff)), set1_epi32(0x3f000000)));
}
EXN_EMULATED Floats getexp_ps(Floats a) {
  const Floats subnormal = without_exponent(a);
  const Integers bits = castps_si512(normalised(a, subnormal));
  const Integers bias = castps_si512(
      choose(castsi512_ps(set1_epi32(127)), castsi512_ps(set1_epi32(127 + 32)), subnormal));
  const Integers e = sub_epi32(srli_epi32(slli_epi32(bits, 1), 24), bias);
  return {_mm256_cvtepi32_ps(e.low), _mm256_cvtepi32_ps(e.high)};
}

// ---- lanes that change places -------------------------------------------------------------------

EXN_EMULATED __m256 castps512_ps256(Floats a) { return a.low; }
EXN_EMULATED Floats castps256_ps512(__m256 a) { return {a, _mm256_setzero_ps()}; }
template <int kWhich>
EXN_EMULATED __m256 extractf32x8_ps(Floats a) {
  return kWhich == 0 ? a.low : a.high;
}
template <int kWhich>
EXN_EMULATED Floats insertf32x8(Floats a, __m256 b) {
  return kWhich == 0 ? Floats{b, a.high} : Floats{a.low, b};
}
template <int kWhich>
EXN_EMULATED __m128 quarter(Floats a) {
  return _mm256_extractf128_ps(kWhich < 2 ? a.low : a.high, kWhich % 2);
}
// Two quarters of a, then two of b, by pairs of bits.
template <int kControl>
EXN_EMULATED Floats shuffle_f32x4(Floats a, Floats b) {
  return {_mm256_set_m128(quarter<(kControl >> 2 & 3)>(a), quarter<(kControl & 3)>(a)),
          _mm256_set_m128(quarter<(kControl >> 6 & 3)>(b), quarter<(kControl >> 4 & 3)>(b))};
}
// Within each quarter: two lanes of a, then two of b.
template <int kControl>
EXN_EMULATED Floats shuffle_ps(Floats a, Floats b) {
  return {_mm256_shuffle_ps(a.low, b.low, kControl), _mm256_shuffle_ps(a.high, b.high, kControl)};
}
// Eight lanes of a, by the last four bits of each number.
EXN_EMULATED __m256 pick(__m256i order, Floats a) {
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(a.low, order),
                          _mm256_permutevar8x32_ps(a.high, order),
                          _mm256_castsi256_ps(_mm256_slli_epi32(order, 28)));
}
EXN_EMULATED Floats permutexvar_ps(Integers order, Floats a) {
  return {pick(order.low, a), pick(order.high, a)};
}
EXN_EMULATED Floats permutex2var_ps(Floats a, Integers order, Floats b) {
  return choose(permutexvar_ps(order, a), permutexvar_ps(order, b),
                castsi512_ps(slli_epi32(order, 27)));
}

// ---- f64 ----------------------------------------------------------------------------------------

EXN_EMULATED Doubles setzero_pd() { return {_mm256_setzero_pd(), _mm256_setzero_pd()}; }
EXN_EMULATED Doubles set1_pd(double x) { return {_mm256_set1_pd(x), _mm256_set1_pd(x)}; }
EXN_EMULATED Doubles add_pd(Doubles a, Doubles b) {
  return {_mm256_add_pd(a.low, b.low), _mm256_add_pd(a.high, b.high)};
}
EXN_EMULATED Doubles mul_pd(Doubles a, Doubles b) {
  return {_mm256_mul_pd(a.low, b.low), _mm256_mul_pd(a.high, b.high)};
}
EXN_EMULATED Doubles fmadd_pd(Doubles a, Doubles b, Doubles c) {
  return {_mm256_fmadd_pd(a.low, b.low, c.low), _mm256_fmadd_pd(a.high, b.high, c.high)};
}
EXN_EMULATED Doubles cvtps_pd(__m256 a) {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(a)), _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1))};
}
EXN_EMULATED __m256 cvtpd_ps(Doubles a) {
  return _mm256_set_m128(_mm256_cvtpd_ps(a.high), _mm256_cvtpd_ps(a.low));
}
EXN_EMULATED Doubles loadu_pd(const void* p) {
  const double* from = static_cast<const double*>(p);
  return {_mm256_loadu_pd(from), _mm256_loadu_pd(from + 4)};
}
EXN_EMULATED void storeu_pd(void* p, Doubles v) {
  double* to = static_cast<double*>(p);
  _mm256_storeu_pd(to, v.low);
  _mm256_storeu_pd(to + 4, v.high);
}

// ---- bf16 ---------------------------------------------------------------------------------------

// Subnormals to zeros of their sign.
EXN_EMULATED Floats flushed(Floats a) {
  return choose(a, and_ps(a, set1_ps(-0.0f)), without_exponent(a));
}
EXN_EMULATED Floats even_of(Integers pairs) { return flushed(castsi512_ps(slli_epi32(pairs, 16))); }
EXN_EMULATED Floats odd_of(Integers pairs) {
  return flushed(castsi512_ps(and_si512(pairs, set1_epi32(-0x10000))));
}
// The odd element's product is added first, then the even one's; subnormals
// in and out count as zero.
EXN_EMULATED Floats dpbf16_ps(Floats c, Integers a, Integers b) {
  const Floats odd = flushed(fmadd_ps(odd_of(a), odd_of(b), flushed(c)));
  return flushed(fmadd_ps(even_of(a), even_of(b), odd));
}

EXN_EMULATED_CALL __m256i cvtneps_pbh(Floats a) {
  const Integers bits = castps_si512(flushed(a));
  const Integers odd = and_si512(srli_epi32(bits, 16), set1_epi32(1));
  const Integers rounded = add_epi32(bits, add_epi32(odd, set1_epi32(0x7fff)));
  const Integers quiet = or_si512(bits, set1_epi32(0x400000));
  const __mmask16 nan = cmp_ps_mask<_CMP_UNORD_Q>(a, a);
  const Floats narrow = mask_blend_ps(nan, castsi512_ps(rounded), castsi512_ps(quiet));
  return cvtepi32_epi16(srli_epi32(castps_si512(narrow), 16));
}
template <int kClasses>
EXN_EMULATED __mmask16 fpclass_ps_mask(Floats a) {
  static_assert(kClasses == 0x20, "only that of subnormals is emulated");
  const Integers zeros = equal_epi32(slli_epi32(castps_si512(a), 1), setzero_si512());
  return static_cast<__mmask16>(mask_of(without_exponent(a)) & ~mask_of(castsi512_ps(zeros)));
}

// ---- bytes --------------------------------------------------------------------------------------

EXN_EMULATED Integers xor_si512(Integers a, Integers b) {
  return {_mm256_xor_si256(a.low, b.low), _mm256_xor_si256(a.high, b.high)};
}
// The table of 8 bits is indexed by a bit of a, of b and of c, a's being the highest.
template <int kTable>
EXN_EMULATED __m256i ternary(__m256i a, __m256i b, __m256i c) {
  static_assert(kTable == 0xca || kTable == 0xf8 || kTable == 0xfe, "only three are emulated");
  if (kTable == 0xfe) return _mm256_or_si256(a, _mm256_or_si256(b, c));
  return kTable == 0xca ? _mm256_or_si256(_mm256_and_si256(a, b), _mm256_andnot_si256(a, c))
                        : _mm256_or_si256(a, _mm256_and_si256(b, c));
}
template <int kTable>
EXN_EMULATED Integers ternarylogic_epi32(Integers a, Integers b, Integers c) {
  return {ternary<kTable>(a.low, b.low, c.low), ternary<kTable>(a.high, b.high, c.high)};
}
EXN_EMULATED Integers srli_epi16(Integers a, int n) {
  return {_mm256_srli_epi16(a.low, n), _mm256_srli_epi16(a.high, n)};
}
EXN_EMULATED Integers broadcast_i64x4(__m256i a) { return {a, a}; }
EXN_EMULATED __m256i castsi512_si256(Integers a) { return a.low; }
EXN_EMULATED Integers cvtepi8_epi32(__m128i a) {
  return {_mm256_cvtepi8_epi32(a), _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(a, a))};
}
EXN_EMULATED Floats cvtepi32_ps(Integers a) {
  return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)};
}
EXN_EMULATED Integers set1_epi64(long long x) {
  return {_mm256_set1_epi64x(x), _mm256_set1_epi64x(x)};
}
EXN_EMULATED Integers unpacklo_epi32(Integers a, Integers b) {
  return {_mm256_unpacklo_epi32(a.low, b.low), _mm256_unpacklo_epi32(a.high, b.high)};
}
EXN_EMULATED Integers unpackhi_epi32(Integers a, Integers b) {
  return {_mm256_unpackhi_epi32(a.low, b.low), _mm256_unpackhi_epi32(a.high, b.high)};
}
EXN_EMULATED Integers unpacklo_epi64(Integers a, Integers b) {
  return {_mm256_unpacklo_epi64(a.low, b.low), _mm256_unpacklo_epi64(a.high, b.high)};
}
EXN_EMULATED Integers unpackhi_epi64(Integers a, Integers b) {
  return {_mm256_unpackhi_epi64(a.low, b.low), _mm256_unpackhi_epi64(a.high, b.high)};
}
template <int kOrder>
EXN_EMULATED Integers shuffle_i32x4(Integers a, Integers b) {
  static_assert(kOrder == 0x88 || kOrder == 0xdd, "only even and odd quarters are emulated");
  constexpr int kQuarters = kOrder == 0x88 ? 0x20 : 0x31;
  return {_mm256_permute2x128_si256(a.low, a.high, kQuarters),
          _mm256_permute2x128_si256(b.low, b.high, kQuarters)};
}
EXN_EMULATED Integers shldi_epi32(Integers a, Integers b, int n) {
  return or_si512(slli_epi32(a, n), srli_epi32(b, 32 - n));
}
EXN_EMULATED_CALL Integers maskz_loadu_epi8(uint64_t m, const void* p) {
  uint8_t bytes[64] = {};
  for (int i = 0; i < 64; ++i) {
    if ((m >> i & 1) != 0) bytes[i] = static_cast<const uint8_t*>(p)[i];
  }
  Integers v;
  std::memcpy(&v, bytes, sizeof bytes);
  return v;
}
EXN_EMULATED_CALL Integers permutex2var_epi8(Integers a, Integers order, Integers b) {
  uint8_t both[128], at[64], picked[64];
  std::memcpy(both, &a, 64);
  std::memcpy(both + 64, &b, 64);
  std::memcpy(at, &order, 64);
  for (int i = 0; i < 64; ++i) picked[i] = both[at[i] & 127];
  std::memcpy(&a, picked, 64);
  return a;
}
EXN_EMULATED Integers permutexvar_epi8(Integers order, Integers a) {
  return permutex2var_epi8(a, order, a);
}
EXN_EMULATED_CALL Integers mask_permutexvar_epi8(Integers others, uint64_t m, Integers order,
                                                 Integers a) {
  uint8_t from[64], at[64], picked[64];
  std::memcpy(from, &a, 64);
  std::memcpy(at, &order, 64);
  std::memcpy(picked, &others, 64);
  for (int i = 0; i < 64; ++i) {
    if ((m >> i & 1) != 0) picked[i] = from[at[i] & 63];
  }
  std::memcpy(&a, picked, 64);
  return a;
}
EXN_EMULATED_CALL Integers multishift_epi64_epi8(Integers from, Integers a) {
  uint64_t words[8];
  uint8_t at[64], picked[64];
  std::memcpy(words, &a, 64);
  std::memcpy(at, &from, 64);
  for (int i = 0; i < 64; ++i) {
    const uint64_t w = words[i / 8];
    const int n = at[i] & 63;
    picked[i] = static_cast<uint8_t>(n == 0 ? w : w >> n | w << (64 - n));
  }
  std::memcpy(&a, picked, 64);
  return a;
}
EXN_EMULATED_CALL Integers dpbusd_epi32(Integers sums, Integers u, Integers s) {
  int32_t lanes[16];
  uint8_t x[64];
  int8_t y[64];
  std::memcpy(lanes, &sums, 64);
  std::memcpy(x, &u, 64);
  std::memcpy(y, &s, 64);
  for (int i = 0; i < 64; ++i) lanes[i / 4] += x[i] * y[i];
  std::memcpy(&sums, lanes, 64);
  return sums;
}

// Vectors that the processor has, by halves.
#if defined(__AVX512VNNI__)
EXN_EMULATED Floats halves_of(__m512 a) {
  return {_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)};
}
EXN_EMULATED Integers halves_of(__m512i a) {
  return castps_si512(halves_of(_mm512_castsi512_ps(a)));
}
EXN_EMULATED_CALL __m512 whole_dpbf16_ps(__m512 c, __m512i a, __m512i b) {
  const Floats sum = dpbf16_ps(halves_of(c), halves_of(a), halves_of(b));
  return _mm512_insertf32x8(_mm512_castps256_ps512(sum.low), sum.high, 1);
}
EXN_EMULATED __m256i whole_cvtneps_pbh(__m512 a) { return cvtneps_pbh(halves_of(a)); }
#endif

#undef EXN_EMULATED_CALL
#undef EXN_EMULATED

}  // namespace exn::cpu::EXN_ISA::emulated

#define EXN_USE(name) ::exn::cpu::EXN_ISA::emulated::name
#if defined(__AVX512VNNI__)
#define _mm512_cvtneps_pbh EXN_USE(whole_cvtneps_pbh)
#define _mm512_dpbf16_ps EXN_USE(whole_dpbf16_ps)
#else
#define __m512 EXN_USE(Floats)
#define __m512i EXN_USE(Integers)
#define __m512d EXN_USE(Doubles)
#define _mm512_setzero_ps EXN_USE(setzero_ps)
#define _mm512_set1_ps EXN_USE(set1_ps)
#define _mm512_add_ps EXN_USE(add_ps)
#define _mm512_sub_ps EXN_USE(sub_ps)
#define _mm512_mul_ps EXN_USE(mul_ps)
#define _mm512_div_ps EXN_USE(div_ps)
#define _mm512_max_ps EXN_USE(max_ps)
#define _mm512_min_ps EXN_USE(min_ps)
#define _mm512_fmadd_ps EXN_USE(fmadd_ps)
#define _mm512_fmsub_ps EXN_USE(fmsub_ps)
#define _mm512_fnmadd_ps EXN_USE(fnmadd_ps)
#define _mm512_rcp14_ps EXN_USE(rcp14_ps)
#define _mm512_castsi512_ps EXN_USE(castsi512_ps)
#define _mm512_castps_si512 EXN_USE(castps_si512)
#define _mm512_and_si512 EXN_USE(and_si512)
#define _mm512_test_epi32_mask EXN_USE(test_epi32_mask)
#define _mm512_or_ps EXN_USE(or_ps)
#define _mm512_and_ps EXN_USE(and_ps)
#define _mm512_abs_ps EXN_USE(abs_ps)
#undef _mm512_cmp_ps_mask
#define _mm512_cmp_ps_mask(a, b, control) EXN_USE(cmp_ps_mask)<control>(a, b)
#undef _mm512_fpclass_ps_mask
#define _mm512_fpclass_ps_mask(a, control) EXN_USE(fpclass_ps_mask)<control>(a)
#define _mm512_mask_blend_ps EXN_USE(mask_blend_ps)
#define _mm512_set1_epi32 EXN_USE(set1_epi32)
#undef _mm512_setr_epi32
#define _mm512_setr_epi32 EXN_USE(setr_epi32)
#define _mm512_add_epi32 EXN_USE(add_epi32)
#undef _mm512_slli_epi32
#define _mm512_slli_epi32 EXN_USE(slli_epi32)
#undef _mm512_srli_epi32
#define _mm512_srli_epi32 EXN_USE(srli_epi32)
#define _mm512_mask_or_epi32 EXN_USE(mask_or_epi32)
#define _mm512_cvtepu8_epi32 EXN_USE(cvtepu8_epi32)
#define _mm512_cvtepu16_epi32 EXN_USE(cvtepu16_epi32)
#define _mm512_cvtepi32_epi16 EXN_USE(cvtepi32_epi16)
#define _mm512_cvtneps_pbh EXN_USE(cvtneps_pbh)
#define _mm512_cvtph_ps EXN_USE(cvtph_ps)
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph(a, control) EXN_USE(cvtps_ph)<control>(a)
#define _mm512_loadu_ps EXN_USE(loadu_ps)
#define _mm512_loadu_si512 EXN_USE(loadu_si512)
#define _mm512_storeu_ps EXN_USE(storeu_ps)
#define _mm512_mask_loadu_ps EXN_USE(mask_loadu_ps)
#define _mm512_mask_storeu_ps EXN_USE(mask_storeu_ps)
#define _mm512_castsi512_si128 EXN_USE(castsi512_si128)
#define _mm512_kunpackd EXN_USE(kunpackd)
#define _mm512_kunpackw EXN_USE(kunpackw)
#define _mm512_maskz_compress_epi8 EXN_USE(maskz_compress_epi8)
#define _mm512_maskz_compress_ps EXN_USE(maskz_compress_ps)
#define _mm256_maskz_loadu_epi16 EXN_USE(maskz_loadu_epi16_256)
#define _mm512_maskz_loadu_epi16 EXN_USE(maskz_loadu_epi16)
#define _mm256_mask_storeu_epi16 EXN_USE(mask_storeu_epi16_256)
#undef _mm512_getmant_ps
#define _mm512_getmant_ps(a, interval, sign) EXN_USE(getmant_ps)<interval, sign>(a)
#define _mm512_getexp_ps EXN_USE(getexp_ps)
#define _mm512_castps512_ps256 EXN_USE(castps512_ps256)
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps(a, which) EXN_USE(extractf32x8_ps)<which>(a)
#undef _mm512_shuffle_f32x4
#define _mm512_shuffle_f32x4(a, b, control) EXN_USE(shuffle_f32x4)<control>(a, b)
#define _mm512_broadcast_i32x4 EXN_USE(broadcast_i32x4)
#undef _mm512_shuffle_ps
#define _mm512_shuffle_ps(a, b, control) EXN_USE(shuffle_ps)<control>(a, b)
#define _mm512_permutexvar_ps EXN_USE(permutexvar_ps)
#define _mm512_permutex2var_ps EXN_USE(permutex2var_ps)
#define _mm512_setzero_pd EXN_USE(setzero_pd)
#define _mm512_set1_pd EXN_USE(set1_pd)
#define _mm512_add_pd EXN_USE(add_pd)
#define _mm512_mul_pd EXN_USE(mul_pd)
#define _mm512_fmadd_pd EXN_USE(fmadd_pd)
#define _mm512_cvtps_pd EXN_USE(cvtps_pd)
#define _mm512_cvtpd_ps EXN_USE(cvtpd_ps)
#define _mm512_castps256_ps512 EXN_USE(castps256_ps512)
#undef _mm512_insertf32x8
#define _mm512_insertf32x8(a, b, which) EXN_USE(insertf32x8)<which>(a, b)
#define _mm512_loadu_pd EXN_USE(loadu_pd)
#define _mm512_storeu_pd EXN_USE(storeu_pd)
#define _mm512_dpbf16_ps EXN_USE(dpbf16_ps)
#define _mm512_setzero_si512 EXN_USE(setzero_si512)
#define _mm512_add_epi64 EXN_USE(add_epi64)
#define _mm512_xor_si512 EXN_USE(xor_si512)
#undef _mm512_ternarylogic_epi32
#define _mm512_ternarylogic_epi32(a, b, c, table) EXN_USE(ternarylogic_epi32)<table>(a, b, c)
#undef _mm512_srli_epi16
#define _mm512_srli_epi16 EXN_USE(srli_epi16)
#define _mm512_broadcast_i64x4 EXN_USE(broadcast_i64x4)
#define _mm512_castsi512_si256 EXN_USE(castsi512_si256)
#define _mm512_cvtepi8_epi32 EXN_USE(cvtepi8_epi32)
#define _mm512_cvtepi32_ps EXN_USE(cvtepi32_ps)
#define _mm512_permutexvar_epi8 EXN_USE(permutexvar_epi8)
#define _mm512_permutex2var_epi8 EXN_USE(permutex2var_epi8)
#define _mm512_set1_epi64 EXN_USE(set1_epi64)
#define _mm512_unpacklo_epi32 EXN_USE(unpacklo_epi32)
#define _mm512_unpackhi_epi32 EXN_USE(unpackhi_epi32)
#define _mm512_unpacklo_epi64 EXN_USE(unpacklo_epi64)
#define _mm512_unpackhi_epi64 EXN_USE(unpackhi_epi64)
#undef _mm512_shuffle_i32x4
#define _mm512_shuffle_i32x4(a, b, order) EXN_USE(shuffle_i32x4)<order>(a, b)
#undef _mm512_shldi_epi32
#define _mm512_shldi_epi32 EXN_USE(shldi_epi32)
#define _mm512_multishift_epi64_epi8 EXN_USE(multishift_epi64_epi8)
#define _mm512_dpbusd_epi32 EXN_USE(dpbusd_epi32)
#define _mm512_maskz_loadu_epi8 EXN_USE(maskz_loadu_epi8)
#define _mm512_mask_permutexvar_epi8 EXN_USE(mask_permutexvar_epi8)
#endif
