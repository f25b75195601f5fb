// SPDX-License-Identifier: Apache-2.0
// What attention_scores keeps of a call, and the products of queries with a tile of keys.
#pragma once

#include "base/args/attention_scores.h"
#include "score_products.h"
#include "selection.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int64_t kStepScores = int64_t{1} << 20;
// Scores of a step and thread that become weights, and these sums, in L2. As many as the workspace
// holds would be written to memory and read again beside the keys where each layer has an op, and
// with it a workspace, of its own.
constexpr int64_t kNearScores = int64_t{1} << 15;
// The same of several threads where products are of pairs: fewer steps are waited for.
constexpr int64_t kNearScoresOfPairs = int64_t{1} << 16;
// Space for pooling on both sides of a row, in floats; half of the largest width.
constexpr int64_t kMargin = 128;

// Rows of scores lie an odd number of lines apart: a power of two would put the scores of a slot,
// for all heads, into one set of the cache.
constexpr int64_t kSkew = 16;

// Prompts, KV heads and rows of each prompt that are computed together.
struct Step {
  int64_t prompt = 0, prompts = 0;
  int64_t kv_head = 0, kv_heads = 0;
  int64_t row = 0, rows = 0;
};

// What is looked at of a prompt.
struct Extent {
  int64_t scored;      // columns
  int64_t begin, end;  // slots
};

// Scratch and order of a call.
struct Plan {
  const AttentionScoresArgs& a;
  Queries query;
  int64_t group, dim, slots, chunks;
  int64_t prompts, kv_heads, rows;  // of a step
  float* z = nullptr;          // [queries, slots]: scores, or weights against the chunk's maximum
  float* top = nullptr;        // [queries, chunks]: maximum of a chunk, later its factor
  float* total = nullptr;      // [queries, chunks]: sum of its weights
  float* sum = nullptr;        // [prompts * score_heads, sum_stride]
  float* row_score = nullptr;  // [scratches, columns], where scores are not handed out
  SelectionScratches scratches;

  Plan(const AttentionScoresArgs& args, const Workspace& ws)
      : a(args),
        query(args.query, args.keys, ws),
        group(args.query.heads / args.keys.heads),
        dim(query.dim),
        slots(whole_vectors(args.keys.slots) + kSkew),
        chunks(chunks_of(args.keys.slots)) {
    const int64_t queries = larger(1, kStepScores / larger(slots - kSkew, 1));
    const int64_t of_row = args.query.heads, of_prompt = args.window * of_row;
    prompts = larger(1, smaller(args.prompts, queries / of_prompt));
    rows = larger(1, smaller(args.window, queries / of_row));
    kv_heads = larger(1, smaller(args.keys.heads, queries / group));
  }

  bool selects() const { return a.selection.indices != nullptr; }
  int64_t queries() const { return prompts * kv_heads * rows * group; }
  int64_t sum_stride() const { return whole_vectors(a.columns) + 2 * kMargin; }
  int64_t score_rows() const { return a.prompts * a.score_heads; }

  void take(Workspace& ws) {
    // Of a cache without sequences no prompt has one: the run is refused.
    if (a.prompts == 0 || a.keys.sequences == 0) return;
    query.take(ws, queries());
    z = ws.take<float>(queries() * slots);
    top = ws.take<float>(queries() * chunks);
    total = ws.take<float>(queries() * chunks);
    sum = ws.take<float>(prompts * a.score_heads * sum_stride());
    if (!selects()) return;
    scratches.take(ws, score_rows(), a.columns);
    row_score = ws.take<float>(a.scores != nullptr ? 0 : scratches.count * a.columns);
  }

  // KV heads of a step. Several rows read their keys again and add up to the same sums, step by
  // step: there memory is not the limit, and bits would depend on the threads. Heads that lie side
  // by side are read together.
  int64_t heads_of_step() const {
    if (a.window > 1 || a.keys.head_stride == dim) return kv_heads;
    const int64_t of_head = larger(1, prompts * group * (slots - kSkew));
    const int64_t near = query.pairs && threads() > 1 ? kNearScoresOfPairs : kNearScores;
    return larger(1, smaller(kv_heads, near * threads() / of_head));
  }

  // Number of a query in its step: those of a KV head lie side by side, row after row.
  int64_t number(const Step& s, int64_t prompt, int64_t kv_head, int64_t row) const {
    const int64_t head = (prompt - s.prompt) * s.kv_heads + kv_head - s.kv_head;
    return (head * s.rows + row - s.row) * group;
  }
  int64_t sequence(int64_t prompt) const {
    return a.sequence != nullptr ? a.sequence[prompt] : prompt;
  }
  int64_t visible(int64_t prompt, int64_t row) const { return a.visible[prompt * a.window + row]; }

  Extent extent(int64_t prompt) const {
    int64_t most = 0;
    for (int64_t i = 0; i < a.window; ++i) most = larger(most, visible(prompt, i));
    const int64_t limit = a.limit != nullptr ? a.limit[prompt] : a.columns;
    const int64_t scored = larger(0, smaller(limit, most - a.first));
    if (scored == 0) return {0, 0, 0};
    if (a.kind == EXN_SCORE_RAW) return {scored, a.first, a.first + scored};
    return {scored, 0, most};
  }
};

// ---- queries ------------------------------------------------------------------------------------

void load_queries(const Plan& p, const Step& s) {
  with_float_type(p.a.query.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    parallel_for(s.prompts * s.rows, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t prompt = s.prompt + i / s.rows, row = s.row + i % s.rows;
        const T* from =
            static_cast<const T*>(p.a.query.data) + (prompt * p.a.window + row) * p.a.query.stride;
        for (int64_t kv = s.kv_head; kv < s.kv_head + s.kv_heads; ++kv) {
          for (int64_t g = 0; g < p.group; ++g) {
            const T* head = from + (kv * p.group + g) * p.dim;
            p.query.load(head, p.number(s, prompt, kv, row) + g);
          }
        }
      }
    });
  });
}

// ---- keys ---------------------------------------------------------------------------------------

// Keys are taken a tile at a time, in groups of kSide neighbouring slots of one KV head: groups of
// one head one after the other, or, where the heads of a slot lie side by side, one of each of
// several heads.
constexpr int kSide = 4;
constexpr int kGroups = 8;
struct Tile {
  int groups = 0;
  const void* key[kGroups][kSide];
  int64_t query[kGroups];  // element of the head's first query
  int64_t z[kGroups];      // element of its first score
};

// Queries that share one reading of a group.
constexpr int kMostQueries = 4;

// Where a call's queries and scores lie.
template <class Query>
struct Target {
  const Query* query;
  int64_t stride;
  float* z;
  int64_t z_stride;
  int64_t dim;
};

// Adds the products of kW rows with kX queries each, row after row: `group` and those after it,
// slot by slot, or slot `slot` of that many heads. Recursive, so that the compiler knows which
// accumulator is meant and keeps them all in registers.
template <class P, class T, int kW, int kX, bool kOneHead, int kAt = 0>
EXN_SIMD void add_rows(f32v (&acc)[kX * kW], const Tile& tile, int group, int slot,
                       const Target<typename P::Query>& to) {
  const int g = kOneHead ? group + kAt / kSide : group + kAt;
  const T* key = static_cast<const T*>(tile.key[g][kOneHead ? kAt % kSide : slot]);
  const typename P::Query* query = to.query + tile.query[kOneHead ? group : g];
  const auto step = [&](int64_t i, auto k) EXN_FLAT {
    for (int x = 0; x < kX; ++x)
      acc[x * kW + kAt] = P::add(k, P::query(query + x * to.stride + i), acc[x * kW + kAt]);
  };
  int64_t i = 0;
  for (; i + 4 * P::kStep <= to.dim; i += 4 * P::kStep) {
    for (int u = 0; u < 4; ++u) step(i + u * P::kStep, P::key(key + i + u * P::kStep));
  }
  for (; i + P::kStep <= to.dim; i += P::kStep) step(i, P::key(key + i));
  const int rest = static_cast<int>(to.dim - i);
  if (rest > 0) step(i, P::key_n(key + i, rest));
  if constexpr (kAt + 1 < kW) add_rows<P, T, kW, kX, kOneHead, kAt + 1>(acc, tile, group, slot, to);
}

// Scores of kW rows with kX queries each: one accumulator each, elements in ascending order.
template <class P, class T, int kW, int kX, bool kOneHead>
EXN_SIMD void multiply_rows(const Tile& tile, int group, int slot,
                            const Target<typename P::Query>& to) {
  f32v acc[kX * kW];
  for (f32v& v : acc) v = zero();
  add_rows<P, T, kW, kX, kOneHead>(acc, tile, group, slot, to);
  float sums[kX * kW];
  reduce_add_all(acc, sums);
  for (int x = 0; x < kX; ++x) {
    for (int w = 0; w < kW; ++w) {
      const int g = kOneHead ? group : group + w;
      to.z[tile.z[g] + x * to.z_stride + (kOneHead ? w : slot)] = sums[x * kW + w];
    }
  }
}

// The same of a group whose keys share each reading of a query, as many at a time as there are sums
// for. Prefetches meanwhile what lies `ahead` of the group's first key.
template <class P, class T, int kX, bool kPrefetch>
EXN_SIMD void multiply_group(const Tile& tile, int group, int64_t ahead,
                             const Target<typename P::Query>& to) {
  constexpr int kKeys = kSums / kX < kSide ? kSums / kX : kSide;
  const T* next = static_cast<const T*>(tile.key[group][0]) + ahead;
  const typename P::Query* query = to.query + tile.query[group];
  float* z = to.z + tile.z[group];
  for (int first = 0; first < kSide; first += kKeys) {
    const T* key[kKeys];
    for (int r = 0; r < kKeys; ++r) key[r] = static_cast<const T*>(tile.key[group][first + r]);
    f32v acc[kX * kKeys];
    for (f32v& v : acc) v = zero();
    const auto step = [&](int64_t i, auto load_key) EXN_FLAT {
      if constexpr (kPrefetch) {
        for (int at = 0; at < kKeys * P::kStep; at += kLineOf<T>)
          prefetch_l1(next + first * to.dim + i * kKeys + at);
      }
      decltype(load_key(key[0])) k[kKeys];
      for (int r = 0; r < kKeys; ++r) k[r] = load_key(key[r] + i);
      for (int x = 0; x < kX; ++x) {
        const auto q = P::query(query + x * to.stride + i);
        for (int r = 0; r < kKeys; ++r) acc[x * kKeys + r] = P::add(k[r], q, acc[x * kKeys + r]);
      }
    };
    int64_t i = 0;
    for (; i + P::kStep <= to.dim; i += P::kStep)
      step(i, [](const T* p) EXN_FLAT { return P::key(p); });
    const int rest = static_cast<int>(to.dim - i);
    if (rest > 0) step(i, [=](const T* p) EXN_FLAT { return P::key_n(p, rest); });
    float sums[kX * kKeys];
    reduce_add_all(acc, sums);
    for (int x = 0; x < kX; ++x) {
      for (int r = 0; r < kKeys; ++r) z[x * to.z_stride + first + r] = sums[x * kKeys + r];
    }
  }
}

// Groups of one head from one to that which is prefetched: the more it computes, the more.
template <int kX>
constexpr int64_t kGroupsAhead = kX > 1 && kRegisters < 32 ? 4 : 1;

// What reads keys from memory, and what reads them again from cache. Not inlined: on their own they
// have registers enough.
template <class P, class T, int kX, bool kOneHead>
__attribute__((noinline)) void read_keys(const Tile& tile, const Target<typename P::Query>& to) {
  constexpr int kW = kSums / kX;
  if constexpr (kOneHead && kX == 1 && kRegisters == 32) {
    int g = 0;
    for (; g + kW / kSide <= tile.groups; g += kW / kSide)
      multiply_rows<P, T, kW, kX, true>(tile, g, 0, to);
    for (; g < tile.groups; ++g) multiply_rows<P, T, kSide, kX, true>(tile, g, 0, to);
  } else if constexpr (kOneHead || (kX > 1 && kRegisters < 32)) {
    const int64_t ahead = (kOneHead ? kGroupsAhead<kX> : tile.groups) * kSide * to.dim;
    const T* first = static_cast<const T*>(tile.key[0][0]);
    for (int g = 0; g < tile.groups; ++g) {
      const int64_t at = static_cast<const T*>(tile.key[g][0]) - first;
      multiply_group<P, T, kX, true>(tile, g, ahead + (kOneHead ? 0 : g * kSide * to.dim - at), to);
    }
  } else {
    // Rows far apart cannot be read side by side, nor prefetched, as fast as one after another, in
    // the order of addresses, which the hardware runs ahead of.
    constexpr int kHeads = kW < kGroups ? kW : kGroups;
    for (int slot = 0; slot < kSide; ++slot) {
      int g = 0;
      for (; g + kHeads <= tile.groups; g += kHeads)
        multiply_rows<P, T, kHeads, kX, false>(tile, g, slot, to);
      for (; g < tile.groups; ++g) multiply_rows<P, T, 1, kX, false>(tile, g, slot, to);
    }
  }
}

template <class P, class T, int kX>
__attribute__((noinline)) void reread_keys(const Tile& tile, const Target<typename P::Query>& to) {
  for (int g = 0; g < tile.groups; ++g) multiply_group<P, T, kX, false>(tile, g, 0, to);
}

// The keys of a tile with all queries of their heads, the first of which bring them into cache.
template <class P, class T>
void multiply_tile(const Tile& tile, int64_t queries, bool one_head, Target<typename P::Query> to) {
  int64_t x = 0;
  const auto some = [&](auto together) EXN_FLAT {
    constexpr int kX = decltype(together)::value;
    for (; x + kX <= queries; x += kX) {
      if (x > 0) {
        reread_keys<P, T, kX>(tile, to);
      } else {
        one_head ? read_keys<P, T, kX, true>(tile, to) : read_keys<P, T, kX, false>(tile, to);
      }
      to.query += kX * to.stride;
      to.z += kX * to.z_stride;
    }
  };
  some(std::integral_constant<int, kMostQueries>());
  some(std::integral_constant<int, 2>());
  some(std::integral_constant<int, 1>());
}

// Some KV heads of one prompt over the slots of one chunk.
struct Item {
  int64_t prompt, kv_head, kv_heads, chunk;
};

// Goes through the keys of an item.
template <class T>
class Walk {
 public:
  // From a whole group on. A group repeats the last slot: there is space for such scores.
  Walk(const Plan& p, const Step& s, const Item& it, int64_t begin, int64_t end)
      : p_(p),
        sequence_(p.sequence(it.prompt)),
        base_(static_cast<const T*>(p.a.keys.k) + it.kv_head * p.a.keys.head_stride),
        heads_(it.kv_heads),
        first_(p.number(s, it.prompt, it.kv_head, s.row)),
        of_head_(s.rows * p.group),
        slot_(begin / kSide * kSide),
        end_(end) {}

  EXN_SIMD void take(Tile* tile) {
    int g = 0;
    while (g < kGroups && slot_ < end_) {
      for (int r = 0; head_ == 0 && r < kSide; ++r)
        row_[r] = base_ + kv_offset(p_.a.keys, sequence_, 0, smaller(slot_ + r, end_ - 1));
      for (; g < kGroups && head_ < heads_; ++g, ++head_) {
        const int64_t query = first_ + head_ * of_head_;
        for (int r = 0; r < kSide; ++r) tile->key[g][r] = row_[r] + head_ * p_.a.keys.head_stride;
        tile->query[g] = query * p_.query.stride;
        tile->z[g] = query * p_.slots + slot_;
      }
      if (head_ < heads_) break;
      head_ = 0;
      slot_ += kSide;
      if (heads_ > 1) break;
    }
    tile->groups = g;
  }

 private:
  const Plan& p_;
  int64_t sequence_;
  const T* base_;
  const T* row_[kSide] = {};
  int64_t heads_, first_, of_head_, slot_, end_, head_ = 0;
};

// Scores of an item's queries, not yet scaled.
template <class P, class T>
void score_chunk(const Plan& p, const Step& s, const Item& it, const Extent& extent) {
  const int64_t begin = larger(extent.begin, it.chunk * kChunk);
  Walk<T> walk(p, s, it, begin, smaller(extent.end, (it.chunk + 1) * kChunk));
  const Target<typename P::Query> to = {p.query.from<P>(0), p.query.stride, p.z, p.slots, p.dim};
  Tile tile;
  for (walk.take(&tile); tile.groups > 0; walk.take(&tile))
    multiply_tile<P, T>(tile, s.rows * p.group, it.kv_heads == 1, to);
}

// ---- weights ------------------------------------------------------------------------------------

// Scales n scores and returns the highest; a NaN is not.
float scale_scores(float* z, int64_t n, float scale) {
  f32v highest = set1(kLowest);
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    const f32v v = mul(load_part(z + i, lanes, kLowest), set1(scale));
    highest = max(v, highest);
    store_part(z + i, v, lanes);
  });
  return reduce_max(highest);
}

// The highest of n scores.
float highest_score(const float* z, int64_t n) {
  f32v highest[kGroup];
  for (f32v& v : highest) v = set1(kLowest);
  int64_t i = 0;
  for (; i + kGroup * kLanes <= n; i += kGroup * kLanes) {
    for (int k = 0; k < kGroup; ++k) highest[k] = max(load(z + i + k * kLanes), highest[k]);
  }
  for_vectors(n - i, [&](int64_t j, int lanes) EXN_FLAT {
    highest[0] = max(load_part(z + i + j, lanes, kLowest), highest[0]);
  });
  for (int k = 1; k < kGroup; ++k) highest[0] = max(highest[k], highest[0]);
  return reduce_max(highest[0]);
}

// Turns n scaled scores into weights against their maximum and returns the sum of these.
float weigh(float* z, int64_t n, float top) {
  const float base = top == kLowest ? 0 : top;  // -inf - -inf would be NaN
  f32v sum = zero();
  int64_t i = 0;
  for (; i + kGroup * kLanes <= n; i += kGroup * kLanes) {
    sum = weigh_vectors<kGroup>(z + i, set1(base), sum);
  }
  for_vectors(n - i, [&](int64_t j, int lanes) EXN_FLAT {
    const f32v e = exp_negative(sub(load_part(z + i + j, lanes, kLowest), set1(base)));
    store_part(z + i + j, e, lanes);
    sum = add(sum, e);
  });
  return reduce_add(sum);
}

// Makes weights of an item's scores, which may be scaled already.
void finish_chunk(const Plan& p, const Step& s, const Item& it, const Extent& extent, bool scaled) {
  const bool raw = p.a.kind == EXN_SCORE_RAW;
  if (raw && scaled) return;
  const int64_t begin = larger(extent.begin, it.chunk * kChunk);
  const int64_t end = smaller(extent.end, (it.chunk + 1) * kChunk);
  const int64_t first = p.number(s, it.prompt, it.kv_head, s.row);
  const int64_t last = first + it.kv_heads * s.rows * p.group;
  const auto z = [&](int64_t query) EXN_FLAT { return p.z + query * p.slots + begin; };
  const auto seen = [&](int64_t query) EXN_FLAT {
    return smaller(end, p.visible(it.prompt, s.row + query / p.group % s.rows)) - begin;
  };
  // All maxima first: each is a long chain of operations, and its weights wait for it.
  for (int64_t query = first; query < last; ++query) {
    const int64_t n = seen(query);
    if (n <= 0) continue;
    const float top = scaled ? highest_score(z(query), n) : scale_scores(z(query), n, p.a.scale);
    if (!raw) p.top[query * p.chunks + it.chunk] = top;
  }
  for (int64_t query = first; query < last && !raw; ++query) {
    const int64_t n = seen(query), at = query * p.chunks + it.chunk;
    if (n > 0) p.total[at] = weigh(z(query), n, p.top[at]);
  }
}

}  // namespace
}  // namespace exn::cpu::EXN_ISA
