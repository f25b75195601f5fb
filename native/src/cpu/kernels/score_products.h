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
    return add_product(k.second, q.second, add_product(k.first, q.first, sum));
  }
  // The same in turns, for many sums side by side.
  static constexpr int kTurns = 2;
  static EXN_SIMD f32v query(const float* p, int turn) { return load(p + turn * kLanes); }
  static EXN_SIMD f32v add(const Part& k, f32v q, f32v sum, int turn) {
    return add_product(turn == 0 ? k.first : k.second, q, sum);
  }
};

// Bytes from a line that is asked for to those that are asked for again with it, where that pays.
constexpr int kOnceMore = 1024, kTwiceMore = 3072;

#if defined(EXN_HAS_BF16_DOT)
struct Pairs {
  static_assert(kDotLanes == kPair);
  using Query = bf16;
  static constexpr int kStep = kDotLanes;
  static EXN_SIMD bf16v key(const bf16* p) { return load_pairs(p); }
  static EXN_SIMD bf16v key_n(const bf16* p, int n) { return load_pairs_n(p, n); }
  static EXN_SIMD bf16v query(const bf16* p) { return load_pairs(p); }
  static EXN_SIMD f32v add(bf16v k, bf16v q, f32v sum) { return dot_pairs(k, q, sum); }
  static constexpr int kTurns = 1;
  static EXN_SIMD bf16v query(const bf16* p, int) { return load_pairs(p); }
  static EXN_SIMD f32v add(bf16v k, bf16v q, f32v sum, int) { return dot_pairs(k, q, sum); }
};

// kX queries of kSteps pairs that stay in registers while keys pass by.
template <int kX, int kSteps>
struct Held {
  bf16v part[kX][kSteps];

  EXN_SIMD Held(const bf16* from, int64_t stride) {
    for (int x = 0; x < kX; ++x) {
      for (int i = 0; i < kSteps; ++i) part[x][i] = load_pairs(from + x * stride + i * kDotLanes);
    }
  }

  // sums[x] = <key w, query x> of sixteen keys, which `next_key()` gives one after another: read in
  // that order, vector by vector, as what a core reads in ascending order comes at the speed of
  // memory. A key's sums, folded as reduce_add folds, are a chain of operations behind a chain of
  // products; folded after the products of two more keys, as none of them waits then, a key of 128
  // elements with four queries takes 17.8 cycles on Zen 4 instead of 19.6. 16 are its products.
  template <class NextKey>
  EXN_SIMD void multiply(NextKey&& next_key, f32v (&sums)[4]) const {
    constexpr int kKeys = 16, kLater = 2, kKept = kLater + 1;
    f32v acc[kKept][4], quads[4];
#pragma GCC unroll 18
    for (int k = 0; k < kKeys + kLater; ++k) {
      if (k < kKeys) {
        const bf16* key = next_key();
        f32v(&to)[4] = acc[k % kKept];
        for (f32v& v : to) v = zero();
        for (int i = 0; i < kSteps; ++i) {
          const bf16v some = in_turn(load_pairs(key + i * kDotLanes));
          for (int x = 0; x < kX; ++x) to[x] = in_turn(dot_pairs(some, part[x][i], to[x]));
        }
        for (int x = kX; x < 4; ++x) to[x] = to[kX == 1 ? 0 : x - 2];  // spare sums
      }
      if (k < kLater) continue;
      const int done = k - kLater;
      quads[done % 4] = in_turn(fold_to_quads(acc[done % kKept]));
      if (done % 4 == 3) sums[done / 4] = in_turn(fold_quads(quads));
    }
    transpose_quads(sums);
  }
};
#endif

// Asks for what lies behind kLines lines when these are read, one after another, and computed with:
// all of it into L1, and one line in four earlier, from where the hardware goes on. What a core
// reads ahead by itself ends where a few hundred instructions come between: with 64 multiplications
// for 256 bytes, 1.7 times the time of reading alone becomes 1.0 on Granite Rapids. Without the
// earlier lines it is 1.2, and twice as far 1.3.
template <int kLines>
static EXN_SIMD void ask_behind(const void* line) {
  constexpr int kNear = 2560, kFar = 3584;
  const char* at = static_cast<const char*>(line);
  for (int i = 0; i < kLines; i += 4) prefetch_far(at + kFar + i * 64);
  for (int i = 0; i < kLines; ++i) prefetch(at + kNear + i * 64);
}

#if defined(EXN_HAS_ODD_LOADS)
// v[n] = the first or the second vector of the pair at(n). `step` tells the steps of a loop apart.
template <bool kSecond, class T, int kN, class At>
EXN_SIMD void load_halves(At&& at, int64_t step, f32v (&v)[kN]) {
  if constexpr (kSecond && std::is_same_v<T, bf16>) {
    const auto mask = odd_mask(step);
    for (int n = 0; n < kN; ++n) v[n] = load_odd(at(n), mask);
  } else {
    for (int n = 0; n < kN; ++n) {
      f32v first, second;
      load_pair(at(n), first, second);
      v[n] = kSecond ? second : first;
    }
  }
}
#endif

}  // namespace
}  // namespace exn::cpu::EXN_ISA
