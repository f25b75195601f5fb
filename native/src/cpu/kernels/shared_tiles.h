// SPDX-License-Identifier: Apache-2.0
// Tiles of keys and values that are made f32 once and meet many queries out of L1.
//
// Keys stand side by side there, one to a lane, and a query's elements are broadcast. What is one
// vector of sums where a key meets a query by itself is a vector for each of its lanes here, and
// what folds such a vector adds up these, in the order of reduce_add: scores have the same bits, and
// no lane is moved. Queries share what arranging keys costs, and widening values: with a few of them
// it does not pay.
#pragma once

#include "../simd/columns.h"
#include "score_products.h"

#if defined(EXN_HAS_LOAD_COLUMNS)
namespace exn::cpu::EXN_ISA {
namespace {

// Keys that stand side by side.
constexpr int kSideVectors = 2, kSideKeys = kSideVectors * kLanes;
// Queries that share a load of them, with as many sums as registers hold, and the fewest that do.
constexpr int kMostBeside = kRegisters == 32 ? 8 : 6, kLeastBeside = kMostBeside / 2;
// Lines that a step of either product prefetches: those of f32, where a tile has one share of
// queries alone.
constexpr int kLinesOfStep = kSideVectors * kLanes / 16;
// Queries that stand side by side.
constexpr int kSideQueries = 32;
// Elements of a head at most.
constexpr int64_t kMostShared = 256;

// Lanes in the order in which a tree folds neighbours first: that of their reversed bits.
constexpr int kLevels = kLanes == 16 ? 4 : kLanes == 8 ? 3 : 2;
constexpr int reversed(int lane) {
  int bits = 0;
  for (int i = 0; i < kLevels; ++i) bits = bits << 1 | (lane >> i & 1);
  return bits;
}

// Calls f(first, integral_constant n) for even shares of so many queries, all of them between
// kLeastBeside and kMostBeside.
template <class F>
EXN_SIMD void for_shares(int queries, F&& f) {
  const int shares = (queries + kMostBeside - 1) / kMostBeside;
  for (int i = 0; i < shares; ++i) {
    const int first = queries * i / shares, count = queries * (i + 1) / shares - first;
    switch (count) {
#define EXN_SHARE(n)                                     \
  case n:                                                \
    if constexpr (n >= kLeastBeside && n <= kMostBeside) \
      f(first, std::integral_constant<int, n>());        \
    break;
      EXN_SHARE(3)
      EXN_SHARE(4)
      EXN_SHARE(5)
      EXN_SHARE(6)
      EXN_SHARE(7)
      EXN_SHARE(8)
#undef EXN_SHARE
      default:
        break;
    }
  }
}

// Writes `count` rows side by side, kVectors vectors of them or as many as they fill: for each lane
// of score_single's vectors, in the order of reversed(), the elements that it adds up. The last row
// stands in for those that are missing.
template <class T, int kVectors, class Rows>
__attribute__((noinline)) void stand_abreast(const Rows& from, int count, int64_t dim, float* to) {
  // Words of 32 bits, which are an element or two neighbours.
  constexpr int kIn = 4 / static_cast<int>(sizeof(T));
  const int64_t vectors = dim / kLanes;
  for (int side = 0; side < kVectors && side * kLanes < count; ++side) {
    const auto put = [&](int lane, int64_t vector, f32v v) EXN_FLAT {
      store(to + ((reversed(lane) * vectors + vector) * kVectors + side) * kLanes, v);
    };
    const char* rows[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      const int w = side * kLanes + i;
      rows[i] = reinterpret_cast<const char*>(from[w < count ? w : count - 1]);
    }
    for (int64_t vector = 0; vector < vectors; vector += kIn) {
      in_order();  // addresses are read where they are needed: there are no registers for them
#pragma GCC unroll 4
      for (int word = 0; word < kLanes; word += 4) {
        f32v v[4];
        load_columns(rows, (vector * kLanes / kIn + word) * 4, v);
        for (int i = 0; i < 4; ++i) {
          if constexpr (std::is_same_v<T, float>) {
            put(word + i, vector, v[i]);
          } else {
            f32v low, high;
            widen_words(static_cast<const T*>(nullptr), v[i], low, high);
            if constexpr (std::is_same_v<T, bf16>) {
              put(word + i, vector, low);
              put(word + i, vector + 1, high);
            } else {
              const int element = 2 * (word + i);
              put(element % kLanes, vector + element / kLanes, low);
              put(element % kLanes + 1, vector + element / kLanes, high);
            }
          }
        }
      }
    }
  }
}

// Sums that wait for others of their tree.
constexpr int kWaiting = kLanes / 2 * kMostBeside * kSideVectors * kLanes;

// out[x * out_stride + w] = <key w, query x> of kX queries and kSideKeys keys, both side by side.
// `next` has lines to prefetch with each step.
template <int kX, class Share>
__attribute__((noinline)) void score_side(const float* key, const float* query, int64_t dim,
                                          float* out, int64_t out_stride, float* waiting,
                                          const Share& lines) {
  Share next = lines;
  constexpr int kN = kX * kSideVectors;
  const auto add_lane = [&](f32v(&sum)[kN]) EXN_FLAT {
    for (f32v& v : sum) v = zero();
    for (int64_t i = 0; i < dim; i += kLanes, key += kSideKeys, query += kSideQueries) {
      next.template prefetch<kLinesOfStep>();
      f32v k[kSideVectors];
      for (int d = 0; d < kSideVectors; ++d) k[d] = load(key + d * kLanes);
      for (int x = 0; x < kX; ++x) {
        const f32v q = set1(query[x]);
        for (int d = 0; d < kSideVectors; ++d)
          sum[x * kSideVectors + d] = add_product(k[d], q, sum[x * kSideVectors + d]);
      }
    }
  };
  float* to = waiting;
  for (int place = 0; place < kLanes; place += 2, to += kN * kLanes) {
    f32v sum[kN];
    add_lane(sum);
    for (int i = 0; i < kN; ++i) store(to + i * kLanes, sum[i]);
    in_order();  // they are no sums of the next loop
    add_lane(sum);
    for (int i = 0; i < kN; ++i) store(to + i * kLanes, add(load(to + i * kLanes), sum[i]));
  }
  for (int i = 0; i < kN; ++i) {
    f32v sum[kLanes / 2];
    for (int n = 0; n < kLanes / 2; ++n) sum[n] = load(waiting + (n * kN + i) * kLanes);
    for (int n = kLanes / 4; n > 0; n /= 2) {
      for (int k = 0; k < n; ++k) sum[k] = add(sum[2 * k], sum[2 * k + 1]);
    }
    store(out + i / kSideVectors * out_stride + i % kSideVectors * kLanes, sum[0]);
  }
}

// Widens one pair of columns of `count` values, and brings the one from `next` on into L1.
template <class T, class Rows>
__attribute__((noinline)) void widen_values(const Rows& value, int count, int64_t column,
                                            int64_t next, float* to) {
  for (int t = 0; t < count; ++t, to += kPair) {
    const T* const row = value[t];
    f32v a, b;
    load_pair(row + column, a, b);
    for (int i = 0; i < kPair; i += kLineOf<T>) prefetch_l1(row + next + i);
    store(to, a);
    store(to + kLanes, b);
  }
}

// sum[x][i] += p[x][t] V[t][i] of a widened pair of columns, slots in ascending order.
template <int kX, class Share>
__attribute__((noinline)) void weigh_side(const float* value, int count, const float* p,
                                          int64_t p_stride, float* sum, int64_t stride,
                                          const Share& lines) {
  Share next = lines;
  f32v acc[kX * 2];
  for (int x = 0; x < kX; ++x) {
    for (int d = 0; d < 2; ++d) acc[x * 2 + d] = load(sum + x * stride + d * kLanes);
  }
  for (int t = 0; t < count; ++t, value += kPair) {
    next.template prefetch<kLinesOfStep>();
    const f32v a = load(value), b = load(value + kLanes);
    for (int x = 0; x < kX; ++x) {
      const f32v weight = set1(p[x * p_stride + t]);
      acc[x * 2] = add_product(weight, a, acc[x * 2]);
      acc[x * 2 + 1] = add_product(weight, b, acc[x * 2 + 1]);
    }
  }
  for (int x = 0; x < kX; ++x) {
    for (int d = 0; d < 2; ++d) store(sum + x * stride + d * kLanes, acc[x * 2 + d]);
  }
}

}  // namespace
}  // namespace exn::cpu::EXN_ISA
#endif
