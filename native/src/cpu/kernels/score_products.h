// SPDX-License-Identifier: Apache-2.0
// What attention and attention_scores share: queries, their products with keys, and weights.
#pragma once

#include <cmath>

#include "../ids.h"
#include "kv.h"
#include "products.h"

namespace exn::cpu::EXN_ISA {
namespace {

// Slots whose weights are taken against one maximum, counted from slot 0.
constexpr int64_t kChunk = 512;
constexpr float kLowest = -HUGE_VALF;
// Accumulators that a block of scores or of weighted sums keeps in registers.
constexpr int kSums = kRegisters == 32 ? 16 : 8;

EXN_SIMD int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
EXN_SIMD int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
// Padded to whole vectors of every kind.
EXN_SIMD int64_t whole_vectors(int64_t floats) { return (floats + 31) / 32 * 32; }
EXN_SIMD int64_t chunks_of(int64_t slots) { return (slots + kChunk - 1) / kChunk; }

// Calls f(first, integral_constant n) for groups of `count`, kMost each while there are so many.
template <int kMost, class N, class F>
EXN_SIMD void for_groups(N count, F&& f) {
  N first = 0;
  for (; first + kMost <= count; first += kMost) f(first, std::integral_constant<int, kMost>());
  if constexpr (kMost > 3) {
    if (count - first == 3) f(first, std::integral_constant<int, 3>());
  }
  if constexpr (kMost > 2) {
    if (count - first == 2) f(first, std::integral_constant<int, 2>());
  }
  if (count - first == 1) f(first, std::integral_constant<int, 1>());
}

// N vectors of scaled scores become weights against `base`; they are added to `sum`.
template <int N>
EXN_SIMD f32v weigh_vectors(float* z, f32v base, f32v sum) {
  f32v d[N], e[N];
  for (int k = 0; k < N; ++k) d[k] = sub(load(z + k * kLanes), base);
  exp_clamped(d, e);
  for (int k = 0; k < N; ++k) {
    store(z + k * kLanes, e[k]);
    sum = add(sum, e[k]);
  }
  return sum;
}

// What a score multiplies, kStep elements at a time: f32, or pairs of bf16.
template <class T>
struct Plain {
  using Query = float;
  static constexpr int kStep = kPair;
  struct Elements {
    f32v first, second;
  };
  static EXN_SIMD Elements key(const T* p) {
    Elements k;
    load_pair(p, k.first, k.second);
    return k;
  }
  static EXN_SIMD Elements key_n(const T* p, int n) {
    Elements k;
    load_pair_n(p, n, k.first, k.second);
    return k;
  }
  static EXN_SIMD Elements query(const float* p) { return {load(p), load(p + kLanes)}; }
  static EXN_SIMD f32v add(const Elements& k, const Elements& q, f32v sum) {
    return add_product(k.second, q.second, add_product(k.first, q.first, sum));
  }
  // The same in turns, for many sums side by side.
  static constexpr int kTurns = 2;
  static EXN_SIMD f32v query(const float* p, int turn) { return load(p + turn * kLanes); }
  static EXN_SIMD f32v add(const Elements& k, f32v q, f32v sum, int turn) {
    return add_product(turn == 0 ? k.first : k.second, q, sum);
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
  static constexpr int kTurns = 1;
  static EXN_SIMD bf16v query(const bf16* p, int) { return load_pairs(p); }
  static EXN_SIMD f32v add(bf16v k, bf16v q, f32v sum, int) { return dot_pairs(k, q, sum); }
};

// Keys whose sums are folded together.
constexpr int kHeldKeys = 16;
static_assert(kHeldKeys == kLanes);

// kX queries of kSteps pairs that stay in registers while keys pass by.
template <int kX, int kSteps>
struct Held {
  bf16v elements[kX][kSteps];

  EXN_SIMD Held(const bf16* from, int64_t stride) {
    for (int x = 0; x < kX; ++x) {
      for (int i = 0; i < kSteps; ++i)
        elements[x][i] = load_pairs(from + x * stride + i * kDotLanes);
    }
  }

  // sums[x] = <key w, query x> of sixteen keys, which `next_key()` gives one after another: read in
  // that order, vector by vector, as what a core reads in ascending order comes at the speed of
  // memory.
  template <class NextKey>
  EXN_SIMD void multiply(NextKey&& next_key, f32v (&sums)[4]) const {
    if constexpr (kX < 4) {
      fold_queries(next_key, sums);
    } else {
      fold_keys(next_key, sums);
    }
  }

 private:
  template <class NextKey>
  EXN_SIMD void add_key(NextKey&& next_key, f32v (&to)[kX]) const {
    const bf16* key = next_key();
    for (f32v& v : to) v = zero();
    for (int i = 0; i < kSteps; ++i) {
      const bf16v some = in_turn(load_pairs(key + i * kDotLanes));
      for (int x = 0; x < kX; ++x) to[x] = in_turn(dot_pairs(some, elements[x][i], to[x]));
    }
  }

  // Folds the sums of four keys with a query, of which there are none to spare.
  template <class NextKey>
  EXN_SIMD void fold_queries(NextKey&& next_key, f32v (&sums)[4]) const {
    f32v quads[kX][4];
#pragma GCC unroll 4
    for (int block = 0; block < 4; ++block) {
      f32v acc[4][kX];
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) add_key(next_key, acc[k]);
      for (int x = 0; x < kX; ++x)
        quads[x][block] = fold_to_quads({acc[0][x], acc[1][x], acc[2][x], acc[3][x]});
    }
    for (int x = 0; x < kX; ++x) sums[x] = fold_sixteen(quads[x]);
  }

  // Folds the sums of a key with four queries, for which fewer registers do. They are a chain of
  // operations after a chain of products: they are folded after the products of two more keys, as
  // none of them waits then.
  template <class NextKey>
  EXN_SIMD void fold_keys(NextKey&& next_key, f32v (&sums)[4]) const {
    constexpr int kLater = 2, kKept = kLater + 1;
    f32v acc[kKept][kX], quads[4];
#pragma GCC unroll 18
    for (int k = 0; k < kHeldKeys + kLater; ++k) {
      if (k < kHeldKeys) add_key(next_key, acc[k % kKept]);
      if (k < kLater) continue;
      const int done = k - kLater;
      quads[done % 4] = in_turn(fold_to_quads(acc[done % kKept]));
      if (done % 4 == 3) sums[done / 4] = in_turn(fold_quads(quads));
    }
    transpose_quads(sums);
  }
};
#endif

// Calls f with a pointer to what keys T are multiplied as, Pairs or Plain.
template <class T, class F>
EXN_SIMD auto with_products([[maybe_unused]] bool pairs, F&& f) {
#if defined(EXN_HAS_BF16_DOT)
  if constexpr (std::is_same_v<T, bf16>) {
    if (pairs) return f(static_cast<const Pairs*>(nullptr));
  }
#endif
  return f(static_cast<const Plain<T>*>(nullptr));
}

template <class T, class To>
void load_padded(const T* from, int64_t dim, To* to, int64_t stride) {
  for_vectors(
      dim, [&](int64_t i, int n) EXN_FLAT { store_part(to + i, load_part(from + i, n, 0.0f), n); });
  for (int64_t i = dim; i < stride; ++i) from_float(to + i, 0);
}

// The queries of a call, each padded with zeros to `stride`: pairs of bf16, or f32 in the order of
// columns that pairs of the keys have.
struct Queries {
  DType keys;
  int64_t dim, stride;
  bool pairs;
  float* wide = nullptr;
  bf16* narrow = nullptr;

  Queries(const Heads& query, const KvCache& cache, const Workspace& ws)
      : keys(cache.dtype),
        dim(cache.dim),
        stride(whole_vectors(cache.dim)),
        pairs(in_pairs(ws, query.dtype, cache.dtype)) {}

  void take(Workspace& ws, int64_t count) {
    wide = ws.take<float>(pairs ? 0 : count * stride);
    narrow = ws.take<bf16>(pairs ? count * stride : 0);
  }

  template <class T>
  void load(const T* from, int64_t number) const {
    if constexpr (std::is_same_v<T, bf16>) {
      if (pairs) return load_padded(from, dim, narrow + number * stride, stride);
    }
    float* const to = wide + number * stride;
    load_padded(from, dim, to, stride);
    with_float_type(keys, [&](auto key) { order_pairs<EXN_TYPE_OF(key)>(to, stride); });
  }

  // Those of products P, from one on.
  template <class P>
  EXN_SIMD const typename P::Query* from(int64_t number) const {
    if constexpr (std::is_same_v<typename P::Query, float>) {
      return wide + number * stride;
    } else {
      return narrow + number * stride;
    }
  }
};

}  // namespace
}  // namespace exn::cpu::EXN_ISA
