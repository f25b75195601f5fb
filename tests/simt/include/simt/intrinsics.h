// SPDX-License-Identifier: Apache-2.0
//
// Bit, conversion, arithmetic and memory intrinsics. The approximate ones are computed accurately
// here: a test must not depend on their last bits.
#pragma once

// ---- bits ---------------------------------------------------------------------------------------

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x != 0 ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) {
  return x != 0 ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64;
}
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }

inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (x >> bit & 1u) << (31 - bit);
  return reversed;
}

inline unsigned long long __brevll(unsigned long long x) {
  const unsigned long long low = __brev(static_cast<unsigned>(x));
  return low << 32 | __brev(static_cast<unsigned>(x >> 32));
}

inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const unsigned long long bytes = static_cast<unsigned long long>(high) << 32 | low;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned source = selector >> (4 * i) & 7u;
    result |= static_cast<unsigned>(bytes >> (8 * source) & 0xffu) << (8 * i);
  }
  return result;
}

inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  const unsigned long long both = static_cast<unsigned long long>(high) << 32 | low;
  return static_cast<unsigned>(both << (shift & 31u) >> 32);
}

inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  const unsigned long long both = static_cast<unsigned long long>(high) << 32 | low;
  return static_cast<unsigned>(both >> (shift & 31u));
}

inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<long long>(a) * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>(static_cast<Wide>(a) * b >> 64);
}

namespace simt {

template <class Byte>
inline int dot_of_bytes(unsigned a, unsigned b, int sum) {
  for (int i = 0; i < 4; ++i) {
    sum += static_cast<Byte>(a >> (8 * i) & 0xffu) * static_cast<Byte>(b >> (8 * i) & 0xffu);
  }
  return sum;
}

}  // namespace simt

inline int __dp4a(int a, int b, int sum) {
  return simt::dot_of_bytes<signed char>(static_cast<unsigned>(a), static_cast<unsigned>(b), sum);
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned sum) {
  return static_cast<unsigned>(simt::dot_of_bytes<unsigned char>(a, b, static_cast<int>(sum)));
}

// ---- reinterpretation ---------------------------------------------------------------------------

namespace simt {

template <class To, class From>
inline To reinterpret(From from) {
  static_assert(sizeof(To) == sizeof(From), "a reinterpretation keeps the size");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace simt

inline unsigned __float_as_uint(float x) { return simt::reinterpret<unsigned>(x); }
inline int __float_as_int(float x) { return simt::reinterpret<int>(x); }
inline float __uint_as_float(unsigned x) { return simt::reinterpret<float>(x); }
inline float __int_as_float(int x) { return simt::reinterpret<float>(x); }
inline long long __double_as_longlong(double x) { return simt::reinterpret<long long>(x); }
inline double __longlong_as_double(long long x) { return simt::reinterpret<double>(x); }
inline int __double2hiint(double x) { return static_cast<int>(__double_as_longlong(x) >> 32); }
inline int __double2loint(double x) { return static_cast<int>(__double_as_longlong(x)); }
inline double __hiloint2double(int high, int low) {
  return __longlong_as_double(static_cast<long long>(high) * (1ll << 32) |
                              static_cast<unsigned>(low));
}

// ---- conversion: out of range saturates and NaN becomes zero, as in PTX -------------------------

namespace simt {

template <class Integer, class Real>
inline Integer to_integer(Real rounded) {
  using Limits = std::numeric_limits<Integer>;
  if (rounded != rounded) return 0;
  if (rounded <= static_cast<Real>(Limits::min())) return Limits::min();
  if (rounded >= static_cast<Real>(Limits::max())) return Limits::max();
  return static_cast<Integer>(rounded);
}

}  // namespace simt

inline int __float2int_rn(float x) { return simt::to_integer<int>(nearbyintf(x)); }
inline int __float2int_rz(float x) { return simt::to_integer<int>(truncf(x)); }
inline int __float2int_rd(float x) { return simt::to_integer<int>(floorf(x)); }
inline int __float2int_ru(float x) { return simt::to_integer<int>(ceilf(x)); }
inline unsigned __float2uint_rn(float x) { return simt::to_integer<unsigned>(nearbyintf(x)); }
inline unsigned __float2uint_rz(float x) { return simt::to_integer<unsigned>(truncf(x)); }
inline unsigned __float2uint_rd(float x) { return simt::to_integer<unsigned>(floorf(x)); }
inline unsigned __float2uint_ru(float x) { return simt::to_integer<unsigned>(ceilf(x)); }
inline long long __float2ll_rn(float x) { return simt::to_integer<long long>(nearbyintf(x)); }
inline long long __float2ll_rz(float x) { return simt::to_integer<long long>(truncf(x)); }
inline int __double2int_rn(double x) { return simt::to_integer<int>(nearbyint(x)); }
inline int __double2int_rz(double x) { return simt::to_integer<int>(trunc(x)); }
inline long long __double2ll_rn(double x) { return simt::to_integer<long long>(nearbyint(x)); }
inline long long __double2ll_rz(double x) { return simt::to_integer<long long>(trunc(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __ll2float_rn(long long x) { return static_cast<float>(x); }
inline float __ull2float_rn(unsigned long long x) { return static_cast<float>(x); }
inline double __int2double_rn(int x) { return x; }
inline double __ll2double_rn(long long x) { return static_cast<double>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

// ---- arithmetic ---------------------------------------------------------------------------------

// A value that the compiler cannot contract with what it is used in: the code around may fuse a
// product and a sum, but never these.
template <class T>
inline T simt_rounded(T x) {
  __asm__("" : "+x"(x));
  return x;
}

inline float __fadd_rn(float a, float b) { return simt_rounded(simt_rounded(a) + simt_rounded(b)); }
inline float __fsub_rn(float a, float b) { return simt_rounded(simt_rounded(a) - simt_rounded(b)); }
inline float __fmul_rn(float a, float b) { return simt_rounded(a * b); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __frsqrt_rn(float x) { return static_cast<float>(1.0 / sqrt(static_cast<double>(x))); }
inline double __dadd_rn(double a, double b) {
  return simt_rounded(simt_rounded(a) + simt_rounded(b));
}
inline double __dsub_rn(double a, double b) {
  return simt_rounded(simt_rounded(a) - simt_rounded(b));
}
inline double __dmul_rn(double a, double b) { return simt_rounded(a * b); }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline double __dsqrt_rn(double x) { return sqrt(x); }
inline double __drcp_rn(double x) { return 1.0 / x; }

inline float rsqrtf(float x) { return __frsqrt_rn(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }

inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return powf(10.0f, x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanhf(float x) { return tanhf(x); }
inline void __sincosf(float x, float* sine, float* cosine) {
  *sine = sinf(x);
  *cosine = cosf(x);
}
inline float sinpif(float x) { return static_cast<float>(sin(M_PI * static_cast<double>(x))); }
inline float cospif(float x) { return static_cast<float>(cos(M_PI * static_cast<double>(x))); }
inline float normcdff(float x) { return 0.5f * erfcf(-x * static_cast<float>(M_SQRT1_2)); }

// ---- min and max, which CUDA offers without a namespace -----------------------------------------

#define SIMT_MIN_MAX(type)                                  \
  inline type min(type a, type b) { return b < a ? b : a; } \
  inline type max(type a, type b) { return a < b ? b : a; }
SIMT_MIN_MAX(int)
SIMT_MIN_MAX(unsigned)
SIMT_MIN_MAX(long)
SIMT_MIN_MAX(unsigned long)
SIMT_MIN_MAX(long long)
SIMT_MIN_MAX(unsigned long long)
#undef SIMT_MIN_MAX

// Unlike a comparison, these drop a NaN.
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

// ---- memory: cache hints change nothing but must not change the value ---------------------------

#define SIMT_LOAD(name)             \
  template <class T>                \
  inline T name(const T* address) { \
    return *address;                \
  }
SIMT_LOAD(__ldg)
SIMT_LOAD(__ldca)
SIMT_LOAD(__ldcg)
SIMT_LOAD(__ldcs)
SIMT_LOAD(__ldlu)
#undef SIMT_LOAD

template <class T>
inline T __ldcv(const T* address) {
  return *static_cast<const volatile T*>(address);
}

#define SIMT_STORE(name)                                  \
  template <class T>                                      \
  inline void name(T* address, simt::NoDeduce<T> value) { \
    *address = value;                                     \
  }
SIMT_STORE(__stwb)
SIMT_STORE(__stcg)
SIMT_STORE(__stcs)
SIMT_STORE(__stwt)
#undef SIMT_STORE

inline long long clock64() { return 0; }
