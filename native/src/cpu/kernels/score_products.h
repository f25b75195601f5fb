// SPDX-License-Identifier: Apache-2.0
// Products of a key and a query, for attention and attention_scores.
#pragma once

#include "products.h"

namespace exn::cpu::EXN_ISA {
namespace {

// What a score multiplies, kStep elements at a time: f32, or pairs of bf16.
template <class T>
struct Plain {
  using Query = float;
  static constexpr int kStep = kPair;
  struct Part {
    f32v first, second;
  };
  static EXN_SIMD Part key(const T* p) {
    Part k;
    load_pair(p, k.first, k.second);
    return k;
  }
  static EXN_SIMD Part key_n(const T* p, int n) {
    Part k;
    load_pair_n(p, n, k.first, k.second);
    return k;
  }
  static EXN_SIMD Part query(const float* p) { return {load(p), load(p + kLanes)}; }
  static EXN_SIMD f32v add(const Part& k, const Part& q, f32v sum) {
    return fma(k.second, q.second, fma(k.first, q.first, sum));
  }
};

#if defined(EXN_HAS_BF16_DOT)
struct Pairs {
  static_assert(kDotLanes == kPair);
  using Query = bf16;
  static constexpr int kStep = kDotLanes;
  static EXN_SIMD bf16v key(const bf16* p) { return load_pairs(p); }
  static EXN_SIMD bf16v key_n(const bf16* p, int n) { return load_pairs_n(p, n); }
  static EXN_SIMD bf16v query(const bf16* p) { return load_pairs(p); }
  static EXN_SIMD f32v add(bf16v k, bf16v q, f32v sum) { return dot_pairs(k, q, sum); }
};
#endif

}  // namespace
}  // namespace exn::cpu::EXN_ISA
