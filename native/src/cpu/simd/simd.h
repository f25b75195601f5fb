// SPDX-License-Identifier: Apache-2.0
// One vector type and some fifty operations, the same names for every instruction set, so that
// each kernel is written once. A kernel source is compiled per instruction set with
// -DEXN_ISA=<name>; everything here is in that namespace.
//
// Semantics that the kernels lean on:
//   max(a, b), min(a, b)    b if either is NaN
//   fma(a, b, c)            a * b + c, rounded once where the set has FMA (all but the baseline)
//   fms(a, b, c)            a * b - c likewise
//   add_product(a, b, sum)  fma(a, b, sum), for sums that stay in registers through a loop
//   reduce_add(v)           folds halves, lane i with lane i + n/2 and so on down, in every set
//   reduce_add_all(v, out)  the same of several vectors, bit for bit
//   in_order()              loads and prefetches stay on their side of it: a core reads ahead in
//                           their order, which the compiler would change
//   f64v                    kLanes / 2 lanes; low_f64, high_f64 widen a half, narrow joins them
//   store_some(p, v, bits)  the lanes of `bits` one after the other, and returns how many; up to
//                           kLanes elements may be written
//   store_numbers(p, first, bits)
//                           first + i for each bit i of 64 that is set, where the set has it; up to
//                           16 elements more may be written
//   join_bits(a, b, c, d)   the bits of 4 masks of 16 lanes, those of a lowest, where the set has it
//   load_n, store_n         the first n lanes, 0 <= n <= kLanes; the others read as `fill`, and
//                           their memory is not touched
#pragma once

#include <cstdint>
#include <cstring>

#define EXN_SIMD inline __attribute__((always_inline))
// The same for a lambda that runs once per vector: left to itself the compiler calls
// it, and sums live in memory.
#define EXN_FLAT __attribute__((always_inline))

namespace exn::cpu {

// Storage types; arithmetic happens in f32.
struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

}  // namespace exn::cpu

#if defined(__AVX512VNNI__) || defined(EXN_EMULATE_AVX512)
#include "avx512.h"
#if defined(__AVX512BF16__) || defined(EXN_EMULATE_AVX512)
#include "tiles.h"
#endif
#elif defined(__AVX2__)
#include "avx2.h"
#else
#include "vec4.h"
#endif

namespace exn::cpu::EXN_ISA {

// Sums of N vectors: whole trees first, the rest one by one.
template <int N>
static EXN_SIMD void reduce_add_all(const f32v (&v)[N], float* out) {
  constexpr int kTrees = N / kReduceTree * kReduceTree;
  for (int i = 0; i < kTrees; i += kReduceTree) reduce_add_tree(v + i, out + i);
  for (int i = kTrees; i < N; ++i) out[i] = reduce_add(v[i]);
}

static EXN_SIMD double reduce_add(f64v v) {
  double lanes[kLanes / 2];
  store(lanes, v);
  for (int half = kLanes / 4; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

#if !defined(EXN_HAS_ADD_PRODUCT)
static EXN_SIMD f32v add_product(f32v a, f32v b, f32v sum) { return fma(a, b, sum); }
#endif

#if !defined(EXN_HAS_STORE_SOME)
static EXN_SIMD int store_some(float* p, f32v v, uint32_t bits) {
  float lanes[kLanes];
  store(lanes, v);
  int n = 0;
  for (; bits != 0; bits &= bits - 1) p[n++] = lanes[__builtin_ctz(bits)];
  return n;
}
#endif

static EXN_SIMD void in_order() { __asm__ volatile("" ::: "memory"); }

// Vectors that follow each other.
template <class T>
static EXN_SIMD void store_two(T* p, f32v a, f32v b) {
  store(p, a);
  store(p + kLanes, b);
}

// Pairs of vectors. Of bf16 the first holds the even elements and the second the odd ones, which
// costs one operation each; of other types they follow each other.
constexpr int kPair = 2 * kLanes;
template <class T>
static EXN_SIMD void load_pair(const T* p, f32v& first, f32v& second) {
  first = load(p);
  second = load(p + kLanes);
}

// The first n elements of a pair, 0 <= n < kPair; the others read as 0.
template <class T>
static EXN_SIMD void load_pair_n(const T* p, int n, f32v& first, f32v& second) {
  T some[kPair] = {};
  std::memcpy(some, p, static_cast<size_t>(n) * sizeof(T));
  load_pair(some, first, second);
}

}  // namespace exn::cpu::EXN_ISA

#include "math.h"
