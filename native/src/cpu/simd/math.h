// SPDX-License-Identifier: Apache-2.0
// exp, log and tanh on vectors, to the accuracy the numeric contract needs and no further.
// log and tanh use the published polynomial coefficients of the Cephes library (S.
// Moshier) for single precision.
#pragma once

#include <cfloat>

namespace exn::cpu::EXN_ISA {

// Vectors that the kernels carry through exp side by side. One chain of dependent operations is
// some forty cycles long; a scheduler that holds two or three chains leaves the multipliers
// idle unless they are interleaved in the code. With sixteen registers, four chains cost more
// in spills than they gain.
constexpr int kGroup = kRegisters / 8;

// e^x for kExpFloor <= x <= 0 (elementwise over N vectors); relative error below 2e-7 (1.3e-6
// near e^-87), exactly 1 at 0 and exactly 0 at the floor, to which the caller clamps, -inf
// included; what should be subnormal lies between 0 and the true value; NaN stays NaN. One
// reduction step is enough: its error is |x| 2^-26, and terms with large |x| weigh nothing in a
// sum with e^0.
#if defined(EXN_HAS_POWER_TABLE)
template <int N>
static EXN_SIMD void exp_floored(const f32v (&x)[N], f32v (&out)[N]) {
  const f32v log2e = set1(1.442695041f), shift = set1(kPowerShift);
  f32v shifted[N], f[N], p[N];
  for (int k = 0; k < N; ++k) shifted[k] = fma(x[k], log2e, shift);
  for (int k = 0; k < N; ++k) f[k] = fms(x[k], log2e, sub(shifted[k], shift));
  // 2^f - 1 on [-1/64, 1/64]: ln 2 and its square by 2, the former a little
  // larger for what f^3 would add.
  for (int k = 0; k < N; ++k) p[k] = fma(set1(2.4022650696e-1f), f[k], set1(6.9315734367e-1f));
  for (int k = 0; k < N; ++k) p[k] = mul(p[k], f[k]);
  for (int k = 0; k < N; ++k) {
    const f32v power = power_of_two(shifted[k]);
    out[k] = fma(power, p[k], power);
  }
}

// Levels between this and its negative leave a shift exact.
constexpr float kMostLevel = 0x1p16f;
// e^(x - level) without subtracting first: the level's multiple of 1/32 goes into the shift, and
// what is left of it into the polynomial. Relative error below 2.5e-7 + 2^-26 |x - level|, exactly
// 1 at the level and exactly 0 from 88.03 below it on, -inf included; subnormals as in exp_floored.
struct ExpFrom {
  f32v floor, shift, square, linear, constant;

  explicit EXN_SIMD ExpFrom(float level) {
    const double log2e = static_cast<double>(1.442695041f), base = static_cast<double>(kPowerShift);
    const double exact = static_cast<double>(level) * log2e;
    const double whole = static_cast<double>(static_cast<float>(base + exact)) - base;
    const double f = exact - whole, p = 6.9315734367e-1, q = 2.4022650696e-1;
    const double scale = 1 / (1 + f * (p + f * q));
    floor = set1(static_cast<float>((whole - 127) / log2e));
    shift = set1(static_cast<float>(base - whole));
    square = set1(static_cast<float>(scale * q));
    linear = set1(static_cast<float>(scale * p));
    constant = set1(static_cast<float>(scale - 1));
  }

  // any_beyond(*joined) afterwards: some x was NaN or 88 above the level, and no result counts.
  template <int N>
  EXN_SIMD void operator()(const f32v (&x)[N], f32v (&out)[N], f32v* joined) const {
    const f32v log2e = set1(1.442695041f);
    f32v floored[N], shifted[N], f[N], p[N];
    for (int k = 0; k < N; ++k) floored[k] = max(floor, x[k]);
    for (int k = 0; k < N; ++k) shifted[k] = fma(floored[k], log2e, shift);
    for (int k = 0; k < N; ++k) f[k] = fms(floored[k], log2e, sub(shifted[k], shift));
    for (int k = 0; k < N; k += 2) *joined = any_of(*joined, shifted[k], shifted[N - 1 - k]);
    for (int k = 0; k < N; ++k) p[k] = fma(square, f[k], linear);
    for (int k = 0; k < N; ++k) p[k] = fma(p[k], f[k], constant);
    for (int k = 0; k < N; ++k) {
      const f32v power = power_of_two(shifted[k]);
      out[k] = fma(power, p[k], power);
    }
  }
};
#else
template <int N>
static EXN_SIMD void exp_floored(const f32v (&x)[N], f32v (&out)[N]) {
  f32v power[N], f[N], p[N];
  for (int k = 0; k < N; ++k) power[k] = nearest_power(x[k], set1(1.442695041f));
#if defined(EXN_HAS_FMA)
  for (int k = 0; k < N; ++k) f[k] = fms(x[k], set1(1.442695041f), power_value(power[k]));
  // 2^f on [-1/2, 1/2]: minimax of degree 5 (Remez), constant term rounded to 1.
  constexpr float kFactors[5] = {6.9314696707e-1f, 2.4022119724e-1f, 5.5507132729e-2f,
                                 9.6755413310e-3f, 1.3276472168e-3f};
#else
  // A product that is rounded before the power is taken off it would lose as much as the power is
  // long: e^f instead, where f is x less the power times ln 2, in two parts of which the first
  // times any power is exact.
  for (int k = 0; k < N; ++k) {
    const f32v n = power_value(power[k]);
    f[k] = sub(sub(x[k], mul(n, set1(0.693359375f))), mul(n, set1(-2.12194440e-4f)));
  }
  // The same polynomial in f / ln 2.
  constexpr float kFactors[5] = {9.9999965878e-1f, 4.9998895920e-1f, 1.6667574184e-1f,
                                 4.1915380376e-2f, 8.2976553777e-3f};
#endif
  for (int k = 0; k < N; ++k) p[k] = fma(set1(kFactors[4]), f[k], set1(kFactors[3]));
  for (int term = 2; term >= 0; --term) {
    for (int k = 0; k < N; ++k) p[k] = fma(p[k], f[k], set1(kFactors[term]));
  }
  // The power is at hand before the polynomial: multiplied by f, it shortens the chain.
  for (int k = 0; k < N; ++k) {
    const f32v whole = times_power(set1(1.0f), power[k]);
    out[k] = fma(p[k], mul(f[k], whole), whole);
  }
}
#endif

// The same for any x <= 0.
template <int N>
static EXN_SIMD void exp_clamped(const f32v (&x)[N], f32v (&out)[N]) {
  f32v floored[N];
  for (int k = 0; k < N; ++k) floored[k] = max(set1(kExpFloor), x[k]);
  exp_floored(floored, out);
}

static EXN_SIMD f32v exp_negative(f32v x) {
  const f32v any[1] = {x};
  f32v out[1];
  exp_clamped(any, out);
  return out[0];
}

// ln(1 + a) for a >= 0, given 1 / (1 + a); relative error below 3e-7; infinity stays infinity.
static EXN_SIMD f32v log1p_positive(f32v a, f32v over) {
  const f32v u = add(min(a, set1(FLT_MAX)), set1(1.0f));
  f32v m = mantissa(u);
  f32v e = exponent(u);
  const maskv low = less(m, set1(0.70710678f));
  e = select(low, sub(e, set1(1.0f)), e);
  m = sub(select(low, add(m, m), m), set1(1.0f));
  const f32v z = mul(m, m);
  f32v p = set1(7.0376836292e-2f);
  p = fma(p, m, set1(-1.1514610310e-1f));
  p = fma(p, m, set1(1.1676998740e-1f));
  p = fma(p, m, set1(-1.2420140846e-1f));
  p = fma(p, m, set1(1.4249322787e-1f));
  p = fma(p, m, set1(-1.6668057665e-1f));
  p = fma(p, m, set1(2.0000714765e-1f));
  p = fma(p, m, set1(-2.4999993993e-1f));
  p = fma(p, m, set1(3.3333331174e-1f));
  f32v y = mul(mul(p, m), z);
  y = fma(e, set1(-2.12194440e-4f), y);
  y = fma(z, set1(-0.5f), y);
  // 1 + a was rounded; what it lost, divided by u, is what keeps tiny arguments exact.
  const f32v lost = mul(sub(min(a, set1(FLT_MAX)), sub(u, set1(1.0f))), over);
  y = add(add(m, add(y, lost)), mul(e, set1(0.693359375f)));
  return select(less(set1(FLT_MAX), a), a, y);
}

static EXN_SIMD f32v tanh(f32v x) {
  const f32v a = abs(x);
  const f32v z = mul(x, x);
  f32v p = set1(-5.70498872745e-3f);
  p = fma(p, z, set1(2.06390887954e-2f));
  p = fma(p, z, set1(-5.37397155531e-2f));
  p = fma(p, z, set1(1.33314422036e-1f));
  p = fma(p, z, set1(-3.33332819422e-1f));
  const f32v small = fma(mul(p, z), x, x);
  const f32v t = exp_negative(mul(a, set1(-2.0f)));
  const f32v large = copy_sign(div(sub(set1(1.0f), t), add(set1(1.0f), t)), x);
  return select(less(a, set1(0.625f)), small, large);
}

// z / (1 + e^-z)
static EXN_SIMD f32v silu(f32v z) {
  const f32v t = exp_negative(sub(zero(), abs(z)));  // never overflows; NaN stays NaN
  const f32v numerator = select(less(z, zero()), t, set1(1.0f));
  return mul(z, div(numerator, add(set1(1.0f), t)));
}

// StableMax: s(x) = x + 1 for x >= 0, 1 / (1 - x) for x < 0.
static EXN_SIMD f32v stable_s(f32v x) {
  const f32v a = add(abs(x), set1(1.0f));
  return select(less(x, zero()), div(set1(1.0f), a), a);
}

// That and its logarithm g(x) for one division.
static EXN_SIMD void stable_both(f32v x, f32v* s, f32v* g) {
  const f32v size = abs(x), a = add(size, set1(1.0f)), over = div(set1(1.0f), a);
  *s = select(less(x, zero()), over, a);
  *g = copy_sign(log1p_positive(size, over), x);
}

#if defined(EXN_HAS_RECIPROCAL)
// Whether reciprocal() takes all of 1 + |x|; of a NaN it makes a NaN in any case.
template <int N>
static EXN_SIMD bool all_moderate(const f32v (&a)[N]) {
  f32v top = a[0];
  for (int k = 1; k < N; ++k) top = max(a[k], top);
  return bits_of(less(set1(kReciprocalMax), top)) == 0;
}
#endif

// stable_both of a group, to the same accuracy.
template <int N>
static EXN_SIMD void stable_both(const f32v (&x)[N], f32v (&s)[N], f32v (&g)[N]) {
#if defined(EXN_HAS_RECIPROCAL)
  f32v size[N], a[N];
  for (int k = 0; k < N; ++k) size[k] = abs(x[k]);
  for (int k = 0; k < N; ++k) a[k] = add(size[k], set1(1.0f));
  if (__builtin_expect(all_moderate(a), true)) {
    f32v r[N], offset[N], p[N], lost[N];
    for (int k = 0; k < N; ++k) split_log(a[k], &r[k], &offset[k]);
    // ln(1 + r) - r by r^2: minimax (relative to ln(1 + r), 8e-9) on [-1/65, 1/32]
    for (int k = 0; k < N; ++k) p[k] = fma(set1(-2.4385908246e-1f), r[k], set1(3.3336320519e-1f));
    for (int k = 0; k < N; ++k) p[k] = fma(p[k], r[k], set1(-5.0000125170e-01f));
    for (int k = 0; k < N; ++k) p[k] = mul(mul(r[k], r[k]), p[k]);
    for (int k = 0; k < N; ++k) {
      // As in log1p_positive: what the rounding of 1 + |x| lost keeps tiny arguments exact.
      const f32v over = reciprocal(a[k]);
      lost[k] = sub(size[k], sub(a[k], set1(1.0f)));
      s[k] = select(less(x[k], zero()), over, a[k]);
      p[k] = fma(lost[k], over, p[k]);
    }
    for (int k = 0; k < N; ++k) g[k] = copy_sign(add(offset[k], add(r[k], p[k])), x[k]);
    return;
  }
#endif
  for (int k = 0; k < N; ++k) stable_both(x[k], &s[k], &g[k]);
}

}  // namespace exn::cpu::EXN_ISA
