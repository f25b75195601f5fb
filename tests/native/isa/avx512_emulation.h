// SPDX-License-Identifier: Apache-2.0
// The AVX-512 intrinsics that native/src/cpu/simd/avx512.h uses, in plain C++, so that the AVX-512
// kernels run through the whole test suite on a processor without AVX-512. Written from Intel's
// description of each instruction; says nothing about speed.
//
// The compiler's own header is included first, for its types, and its function names are then
// redirected by macros.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#pragma GCC diagnostic ignored "-Wpsabi"  // 64-byte vectors never cross a library boundary here

namespace exn::cpu::EXN_ISA::emulated {

#define EXN_EMULATED static inline __attribute__((always_inline))

template <class To, class From>
EXN_EMULATED To cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "a cast keeps the bits");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// The lanes of a 512-bit register as T.
template <class T>
struct Lanes {
  static constexpr int kCount = static_cast<int>(64 / sizeof(T));
  T at[kCount];
  template <class V>
  EXN_EMULATED Lanes of(V v) {
    return cast<Lanes>(v);
  }
  template <class V>
  V as() const {
    return cast<V>(*this);
  }
};

template <class V, class T, class F>
EXN_EMULATED V each(F f) {
  Lanes<T> out;
  for (int i = 0; i < Lanes<T>::kCount; ++i) out.at[i] = f(i);
  return out.template as<V>();
}

template <class F>
EXN_EMULATED __m512 ps(F f) {
  return each<__m512, float>(f);
}
template <class F>
EXN_EMULATED __m512i epi32(F f) {
  return each<__m512i, int32_t>(f);
}

EXN_EMULATED float f(__m512 v, int i) { return Lanes<float>::of(v).at[i]; }
EXN_EMULATED uint32_t u(__m512i v, int i) { return Lanes<uint32_t>::of(v).at[i]; }
EXN_EMULATED bool on(uint32_t mask, int i) { return (mask >> i & 1) != 0; }

EXN_EMULATED __m512 setzero_ps() { return ps([](int) { return 0.0f; }); }
EXN_EMULATED __m512 set1_ps(float x) { return ps([=](int) { return x; }); }
EXN_EMULATED __m512 add_ps(__m512 a, __m512 b) { return a + b; }
EXN_EMULATED __m512 sub_ps(__m512 a, __m512 b) { return a - b; }
EXN_EMULATED __m512 mul_ps(__m512 a, __m512 b) { return a * b; }
EXN_EMULATED __m512 div_ps(__m512 a, __m512 b) { return a / b; }
EXN_EMULATED __m512 max_ps(__m512 a, __m512 b) {
  return ps([=](int i) { return f(a, i) > f(b, i) ? f(a, i) : f(b, i); });
}
EXN_EMULATED __m512 min_ps(__m512 a, __m512 b) {
  return ps([=](int i) { return f(a, i) < f(b, i) ? f(a, i) : f(b, i); });
}
EXN_EMULATED __m512 fmadd_ps(__m512 a, __m512 b, __m512 c) {
  return ps([=](int i) { return ::fmaf(f(a, i), f(b, i), f(c, i)); });
}
EXN_EMULATED __m512 fmsub_ps(__m512 a, __m512 b, __m512 c) {
  return ps([=](int i) { return ::fmaf(f(a, i), f(b, i), -f(c, i)); });
}
EXN_EMULATED __m512 fnmadd_ps(__m512 a, __m512 b, __m512 c) {
  return ps([=](int i) { return ::fmaf(-f(a, i), f(b, i), f(c, i)); });
}
// An approximation as coarse as the instruction's may be: 14 bits.
EXN_EMULATED __m512 rcp14_ps(__m512 a) {
  return ps([=](int i) {
    const float exact = 1.0f / f(a, i);
    uint32_t bits;
    std::memcpy(&bits, &exact, sizeof bits);
    bits &= 0xfffffe00u;
    float coarse;
    std::memcpy(&coarse, &bits, sizeof coarse);
    return coarse;
  });
}

EXN_EMULATED __m512 castsi512_ps(__m512i a) { return cast<__m512>(a); }
EXN_EMULATED __m512i castps_si512(__m512 a) { return cast<__m512i>(a); }
EXN_EMULATED __m512i and_si512(__m512i a, __m512i b) { return a & b; }
EXN_EMULATED __m512 or_ps(__m512 a, __m512 b) {
  return castsi512_ps(castps_si512(a) | castps_si512(b));
}
EXN_EMULATED __m512 and_ps(__m512 a, __m512 b) {
  return castsi512_ps(castps_si512(a) & castps_si512(b));
}
EXN_EMULATED __m512 abs_ps(__m512 a) { return ps([=](int i) { return ::fabsf(f(a, i)); }); }

EXN_EMULATED __mmask16 cmp_ps_mask(__m512 a, __m512 b, int predicate) {
  uint32_t mask = 0;
  for (int i = 0; i < 16; ++i) {
    const float x = f(a, i), y = f(b, i);
    const bool hit = predicate == _CMP_LT_OQ   ? x < y
                     : predicate == _CMP_EQ_OQ ? x == y
                                               : std::isunordered(x, y);
    mask |= (hit ? 1u : 0u) << i;
  }
  return static_cast<__mmask16>(mask);
}
EXN_EMULATED __m512 mask_blend_ps(__mmask16 m, __m512 a, __m512 b) {
  return ps([=](int i) { return on(m, i) ? f(b, i) : f(a, i); });
}

EXN_EMULATED __m512i set1_epi32(int32_t x) { return epi32([=](int) { return x; }); }
EXN_EMULATED __m512i setr_epi32(int32_t a, int32_t b, int32_t c, int32_t d, int32_t e, int32_t g,
                                int32_t h, int32_t j, int32_t k, int32_t l, int32_t m, int32_t n,
                                int32_t o, int32_t p, int32_t q, int32_t r) {
  const int32_t all[16] = {a, b, c, d, e, g, h, j, k, l, m, n, o, p, q, r};
  return epi32([&](int i) { return all[i]; });
}
EXN_EMULATED __m512i add_epi32(__m512i a, __m512i b) {
  return epi32([=](int i) { return static_cast<int32_t>(u(a, i) + u(b, i)); });
}
EXN_EMULATED __m512i slli_epi32(__m512i a, int n) {
  return epi32([=](int i) { return static_cast<int32_t>(u(a, i) << n); });
}
EXN_EMULATED __m512i srli_epi32(__m512i a, int n) {
  return epi32([=](int i) { return static_cast<int32_t>(u(a, i) >> n); });
}
EXN_EMULATED __m512i mask_or_epi32(__m512i src, __mmask16 m, __m512i a, __m512i b) {
  return epi32(
      [=](int i) { return static_cast<int32_t>(on(m, i) ? u(a, i) | u(b, i) : u(src, i)); });
}
EXN_EMULATED __m512i cvtepu16_epi32(__m256i a) {
  uint16_t from[16];
  std::memcpy(from, &a, sizeof from);
  return epi32([&](int i) { return static_cast<int32_t>(from[i]); });
}
EXN_EMULATED __m256i cvtepi32_epi16(__m512i a) {
  uint16_t to[16];
  for (int i = 0; i < 16; ++i) to[i] = static_cast<uint16_t>(u(a, i));
  __m256i out;
  std::memcpy(&out, to, sizeof out);
  return out;
}
EXN_EMULATED __m512 cvtph_ps(__m256i a) {
  __m256 half[2] = {_mm256_cvtph_ps(_mm256_castsi256_si128(a)),
                    _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1))};
  __m512 out;
  std::memcpy(&out, half, sizeof out);
  return out;
}
EXN_EMULATED __m256i cvtps_ph(__m512 a, int) {
  __m256 half[2];
  std::memcpy(half, &a, sizeof half);
  return _mm256_set_m128i(_mm256_cvtps_ph(half[1], _MM_FROUND_TO_NEAREST_INT),
                          _mm256_cvtps_ph(half[0], _MM_FROUND_TO_NEAREST_INT));
}

EXN_EMULATED __m512 loadu_ps(const void* p) {
  __m512 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
EXN_EMULATED __m512i loadu_si512(const void* p) { return castps_si512(loadu_ps(p)); }
EXN_EMULATED void storeu_ps(void* p, __m512 v) { std::memcpy(p, &v, sizeof v); }
EXN_EMULATED __m512 mask_loadu_ps(__m512 src, __mmask16 m, const void* p) {
  return ps([=](int i) { return on(m, i) ? static_cast<const float*>(p)[i] : f(src, i); });
}
EXN_EMULATED void mask_storeu_ps(void* p, __mmask16 m, __m512 v) {
  for (int i = 0; i < 16; ++i) {
    if (on(m, i)) static_cast<float*>(p)[i] = f(v, i);
  }
}
// Masked-off elements must not be touched: they may lie on a page that is not there.
template <class V>
EXN_EMULATED V maskz_loadu_16(uint32_t m, const void* p) {
  uint16_t to[sizeof(V) / 2];
  for (int i = 0; i < static_cast<int>(sizeof(V) / 2); ++i) {
    to[i] = on(m, i) ? static_cast<const uint16_t*>(p)[i] : uint16_t{0};
  }
  V v;
  std::memcpy(&v, to, sizeof v);
  return v;
}
EXN_EMULATED __m256i maskz_loadu_epi16_256(__mmask16 m, const void* p) {
  return maskz_loadu_16<__m256i>(m, p);
}
EXN_EMULATED __m512i maskz_loadu_epi16(__mmask32 m, const void* p) {
  return maskz_loadu_16<__m512i>(m, p);
}
EXN_EMULATED void mask_storeu_epi16_256(void* p, __mmask16 m, __m256i v) {
  uint16_t from[16];
  std::memcpy(from, &v, sizeof from);
  for (int i = 0; i < 16; ++i) {
    if (on(m, i)) static_cast<uint16_t*>(p)[i] = from[i];
  }
}

// Normalised to [1/2, 1), sign cleared; positive finite arguments are all that the kernels pass.
EXN_EMULATED __m512 getmant_ps(__m512 a, int, int) {
  return ps([=](int i) {
    int e;
    return ::frexpf(::fabsf(f(a, i)), &e);
  });
}
EXN_EMULATED __m512 getexp_ps(__m512 a) {
  return ps([=](int i) {
    int e;
    ::frexpf(f(a, i), &e);
    return static_cast<float>(e - 1);
  });
}

EXN_EMULATED __m256 castps512_ps256(__m512 a) {
  __m256 half[2];
  std::memcpy(half, &a, sizeof half);
  return half[0];
}
EXN_EMULATED __m256 extractf32x8_ps(__m512 a, int which) {
  __m256 half[2];
  std::memcpy(half, &a, sizeof half);
  return half[which];
}
// Two quarters of a, then two of b, by pairs of bits.
EXN_EMULATED __m512 shuffle_f32x4(__m512 a, __m512 b, int control) {
  return ps([=](int i) { return f(i < 8 ? a : b, (control >> (i / 4 * 2) & 3) * 4 + i % 4); });
}
EXN_EMULATED __m512i broadcast_i32x4(__m128i a) {
  int32_t from[4];
  std::memcpy(from, &a, sizeof from);
  return epi32([&](int i) { return from[i % 4]; });
}
// Within each quarter: two lanes of a, then two of b.
EXN_EMULATED __m512 shuffle_ps(__m512 a, __m512 b, int control) {
  return ps([=](int i) { return f(i % 4 < 2 ? a : b, i / 4 * 4 + (control >> (i % 4 * 2) & 3)); });
}
EXN_EMULATED __m512 permutexvar_ps(__m512i order, __m512 a) {
  return ps([=](int i) { return f(a, static_cast<int>(u(order, i) & 15)); });
}
EXN_EMULATED __m512 permutex2var_ps(__m512 a, __m512i order, __m512 b) {
  return ps([=](int i) {
    const int from = static_cast<int>(u(order, i) & 31);
    return from < 16 ? f(a, from) : f(b, from - 16);
  });
}

template <class F>
EXN_EMULATED __m512d pd(F f) {
  return each<__m512d, double>(f);
}
EXN_EMULATED double d(__m512d v, int i) { return Lanes<double>::of(v).at[i]; }
EXN_EMULATED __m512d setzero_pd() { return pd([](int) { return 0.0; }); }
EXN_EMULATED __m512d set1_pd(double x) { return pd([=](int) { return x; }); }
EXN_EMULATED __m512d add_pd(__m512d a, __m512d b) { return a + b; }
EXN_EMULATED __m512d mul_pd(__m512d a, __m512d b) { return a * b; }
EXN_EMULATED __m512d fmadd_pd(__m512d a, __m512d b, __m512d c) {
  return pd([=](int i) { return ::fma(d(a, i), d(b, i), d(c, i)); });
}
EXN_EMULATED __m512d cvtps_pd(__m256 a) {
  float from[8];
  std::memcpy(from, &a, sizeof from);
  return pd([&](int i) { return static_cast<double>(from[i]); });
}
EXN_EMULATED __m256 cvtpd_ps(__m512d a) {
  float to[8];
  for (int i = 0; i < 8; ++i) to[i] = static_cast<float>(d(a, i));
  __m256 out;
  std::memcpy(&out, to, sizeof out);
  return out;
}
EXN_EMULATED __m512 castps256_ps512(__m256 a) {
  float from[8];
  std::memcpy(from, &a, sizeof from);
  return ps([&](int i) { return i < 8 ? from[i] : 0.0f; });
}
EXN_EMULATED __m512 insertf32x8(__m512 a, __m256 b, int at) {
  float from[8];
  std::memcpy(from, &b, sizeof from);
  return ps([&](int i) { return i / 8 == at ? from[i % 8] : f(a, i); });
}
EXN_EMULATED __m512d loadu_pd(const void* p) {
  __m512d v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
EXN_EMULATED void storeu_pd(void* p, __m512d v) { std::memcpy(p, &v, sizeof v); }

EXN_EMULATED float bf16_lane(__m512i v, int i) {
  const uint32_t bits = static_cast<uint32_t>(Lanes<uint16_t>::of(v).at[i]) << 16;
  return (bits & 0x7f800000) == 0 ? cast<float>(bits & 0x80000000) : cast<float>(bits);
}
EXN_EMULATED float flushed(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? ::copysignf(0.0f, x) : x;
}
// The odd element's product is added first, then the even one's; subnormals
// in and out count as zero.
EXN_EMULATED __m512 dpbf16_ps(__m512 c, __m512i a, __m512i b) {
  return ps([=](int i) {
    const float odd =
        flushed(::fmaf(bf16_lane(a, 2 * i + 1), bf16_lane(b, 2 * i + 1), flushed(f(c, i))));
    return flushed(::fmaf(bf16_lane(a, 2 * i), bf16_lane(b, 2 * i), odd));
  });
}

EXN_EMULATED __m256i cvtneps_pbh(__m512 a) {
  uint16_t to[16];
  for (int i = 0; i < 16; ++i) {
    const uint32_t bits = cast<uint32_t>(flushed(f(a, i)));
    to[i] = static_cast<uint16_t>(std::isnan(f(a, i)) ? bits >> 16 | 0x40
                                                      : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
  __m256i out;
  std::memcpy(&out, to, sizeof out);
  return out;
}
// Of the classes only that of subnormals is asked for.
EXN_EMULATED __mmask16 fpclass_ps_mask(__m512 a, int) {
  uint32_t mask = 0;
  for (int i = 0; i < 16; ++i) {
    mask |= (std::fpclassify(f(a, i)) == FP_SUBNORMAL ? 1u : 0u) << i;
  }
  return static_cast<__mmask16>(mask);
}

EXN_EMULATED __m512i setzero_si512() { return castps_si512(setzero_ps()); }
EXN_EMULATED __m512i add_epi64(__m512i a, __m512i b) {
  return each<__m512i, uint64_t>(
      [=](int i) { return Lanes<uint64_t>::of(a).at[i] + Lanes<uint64_t>::of(b).at[i]; });
}

#undef EXN_EMULATED

}  // namespace exn::cpu::EXN_ISA::emulated

#define EXN_USE(name) ::exn::cpu::EXN_ISA::emulated::name
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
#define _mm512_or_ps EXN_USE(or_ps)
#define _mm512_and_ps EXN_USE(and_ps)
#define _mm512_abs_ps EXN_USE(abs_ps)
#undef _mm512_cmp_ps_mask
#define _mm512_cmp_ps_mask EXN_USE(cmp_ps_mask)
#undef _mm512_fpclass_ps_mask
#define _mm512_fpclass_ps_mask EXN_USE(fpclass_ps_mask)
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
#define _mm512_cvtepu16_epi32 EXN_USE(cvtepu16_epi32)
#define _mm512_cvtepi32_epi16 EXN_USE(cvtepi32_epi16)
#define _mm512_cvtneps_pbh EXN_USE(cvtneps_pbh)
#define _mm512_cvtph_ps EXN_USE(cvtph_ps)
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph EXN_USE(cvtps_ph)
#define _mm512_loadu_ps EXN_USE(loadu_ps)
#define _mm512_loadu_si512 EXN_USE(loadu_si512)
#define _mm512_storeu_ps EXN_USE(storeu_ps)
#define _mm512_mask_loadu_ps EXN_USE(mask_loadu_ps)
#define _mm512_mask_storeu_ps EXN_USE(mask_storeu_ps)
#define _mm256_maskz_loadu_epi16 EXN_USE(maskz_loadu_epi16_256)
#define _mm512_maskz_loadu_epi16 EXN_USE(maskz_loadu_epi16)
#define _mm256_mask_storeu_epi16 EXN_USE(mask_storeu_epi16_256)
#undef _mm512_getmant_ps
#define _mm512_getmant_ps EXN_USE(getmant_ps)
#define _mm512_getexp_ps EXN_USE(getexp_ps)
#define _mm512_castps512_ps256 EXN_USE(castps512_ps256)
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps EXN_USE(extractf32x8_ps)
#undef _mm512_shuffle_f32x4
#define _mm512_shuffle_f32x4 EXN_USE(shuffle_f32x4)
#define _mm512_broadcast_i32x4 EXN_USE(broadcast_i32x4)
#undef _mm512_shuffle_ps
#define _mm512_shuffle_ps EXN_USE(shuffle_ps)
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
#define _mm512_insertf32x8 EXN_USE(insertf32x8)
#define _mm512_loadu_pd EXN_USE(loadu_pd)
#define _mm512_storeu_pd EXN_USE(storeu_pd)
#define _mm512_dpbf16_ps EXN_USE(dpbf16_ps)
#define _mm512_setzero_si512 EXN_USE(setzero_si512)
#define _mm512_add_epi64 EXN_USE(add_epi64)
