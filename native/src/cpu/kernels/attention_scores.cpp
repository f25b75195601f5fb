// SPDX-License-Identifier: Apache-2.0
// attention_scores on the CPU: a pass over K, then sums over rows and heads column by column.
//
// Queries are taken in steps: as many prompts, rows and heads as have kStepScores scores together.
// Within a step all queries of a KV head pass over its keys at once. A sequence's slots fall into
// chunks of kChunk, counted from slot 0. A chunk's scores become weights against the chunk's own
// maximum while they are in L2, and what a chunk weighs in its row is a factor that the sum over
// rows and heads multiplies in; so each key is read once and each exponential taken once. Sums run
// over the rows in ascending order, and over the heads of each, whichever thread computes them and
// whatever else is computed beside: a prompt has the same bits for every thread count, in every
// batch and layout.
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

  explicit Plan(const AttentionScoresArgs& args)
      : a(args),
        query(args.query, args.keys),
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

// ---- keys of whole vectors of bf16 --------------------------------------------------------------

#if defined(EXN_HAS_BF16_DOT)
// For heads of kSteps whole vectors. What a core reads in ascending order comes at the speed of
// memory. So keys are read as they lie there, vector by vector, and meet queries that stay in
// registers; the compiler would change the order. The hardware follows more closely where one line
// of each key is prefetched. Heads that lie side by side in a slot are read one after another from
// a tile that was prefetched whole, in its order.

static_assert(kChunk % kHeldKeys == 0);
// Slots of a KV head that further queries read again, from L1.
constexpr int64_t kTileSlots = 64;
// Slots from a key to the one that is prefetched.
constexpr int64_t kSlotsAhead = 32;

// Three or four queries in the way of Held: a quarter of a vector of the key meets all of them at
// once, so that what fold_to_quads would give, bit for bit, costs three additions. That takes
// longer, as the unit that would shuffle the sums spreads the quarters; but where heads lie side by
// side, requests that come faster than memory answers are lost.
template <int kX, int kSteps>
struct HeldQuarters {
  bf16v elements[kSteps][4];

  EXN_SIMD HeldQuarters(const bf16* from, int64_t stride) {
    for (int i = 0; i < kSteps; ++i) {
      for (int x = 0; x < 4; ++x) {
        const int64_t row = x < kX ? x : 0;
        elements[i][x] = load_pairs(from + row * stride + i * kDotLanes);
      }
      transpose_quarters(elements[i]);
    }
  }
  template <class NextKey>
  EXN_SIMD void multiply(NextKey&& next_key, f32v (&sums)[4]) const {
    const auto next = [&]() EXN_FLAT {
      const bf16* key = next_key();
      f32v acc[4];
      for (f32v& v : acc) v = zero();
      for (int i = 0; i < kSteps; ++i) {
        for (int q = 0; q < 4; ++q) {
          const bf16v some = in_turn(load_quarter(key + i * kDotLanes + q * kDotLanes / 4));
          acc[q] = dot_pairs(some, elements[i][q], acc[q]);
        }
      }
      return add(add(acc[0], acc[2]), add(acc[1], acc[3]));
    };
    for (f32v& v : sums) v = fold_quads({next(), next(), next(), next()});
    transpose_quads(sums);
  }
};

// Scores of whole blocks of a KV head with kX queries. Prefetches kLines lines of `next` with each
// key; all of them several times, as processors whose products are of pairs lose requests. Where
// keys lie is computed: a table of it, written just before, would reach the cache only after
// all keys that are still on their way, and memory would be idle.
template <int kX, int kSteps, int kLines>
__attribute__((noinline)) void score_keys(const bf16* key, int64_t slots, const bf16* query,
                                          int64_t query_stride, float* z, int64_t z_stride,
                                          float scale, int64_t key_stride, const bf16* next) {
  std::conditional_t<kLines == kSteps && kX >= 3, HeldQuarters<kX, kSteps>, Held<kX, kSteps>> held(
      query, query_stride);
  const auto next_key = [&]() EXN_FLAT {
    prefetch_lines<kLines>(next);
    if constexpr (kLines == kSteps) prefetch_lines<kLines>(next, KeysAgain());
    next += kSteps * kDotLanes;
    const bf16* at = key;
    key += key_stride;
    return at;
  };
  for (const float* end = z + slots; z < end; z += kHeldKeys) {
    f32v sums[4];
    held.multiply(next_key, sums);
    for (int x = 0; x < kX; ++x) store(z + x * z_stride, mul(sums[x], set1(scale)));
  }
}

// What is prefetched while queries of f32 meet keys: nothing; what follows the keys, all of it
// into L1 and some lines earlier into L2, from where the hardware goes on; the same into L2 alone,
// or a tile elsewhere.
enum class KeysAhead { kNothing, kStaged, kFar, kTile };

// As many lines as a step reads, kLines, for step `step` of the keys before `next`.
template <KeysAhead kAhead, int kLines>
EXN_SIMD void prefetch_keys([[maybe_unused]] const bf16* next, [[maybe_unused]] int step) {
  [[maybe_unused]] const char* const line =
      reinterpret_cast<const char*>(next + step * kLines * kDotLanes);
  if constexpr (kAhead == KeysAhead::kStaged) {
    prefetch_l2(line + kKeysStagedL2);
    for (int i = 0; i < kLines; ++i) prefetch_l1(line + kKeysStagedL1 + i * kLine);
  } else if constexpr (kAhead == KeysAhead::kFar) {
    prefetch_lines<kLines>(line + kKeysFar);
  } else if constexpr (kAhead == KeysAhead::kTile) {
    if (kLines > 1 || step % 4 == 0) prefetch_l2(line + kKeysEarlier);  // one in four
    prefetch_lines<kLines>(line);
  }
}

// Adds to sums [kX, kKeys] the products of kX queries with kBeside keys, from number kAt on, and
// goes on to the next ones. Recursive, as add_rows is.
template <int kX, int kKeys, int kBeside, int kSteps, KeysAhead kAhead, int kAt = 0>
EXN_SIMD void add_keys(f32v (&acc)[kX * kKeys], const bf16* key, int64_t key_stride,
                       const float* query, int64_t query_stride, const bf16* next) {
  using P = Plain<bf16>;
  for (int i = 0; i < kSteps; ++i) {
    prefetch_keys<kAhead, kBeside>(next, i);
    typename P::Elements k[kBeside];
    for (int r = 0; r < kBeside; ++r) k[r] = P::key(key + r * key_stride + i * kDotLanes);
    for (int turn = 0; turn < P::kTurns; ++turn) {
      for (int x = 0; x < kX; ++x) {
        const f32v q = P::query(query + x * query_stride + i * kDotLanes, turn);
        for (int r = 0; r < kBeside; ++r)
          acc[x * kKeys + kAt + r] = P::add(k[r], q, acc[x * kKeys + kAt + r], turn);
      }
    }
  }
  if constexpr (kAt + kBeside < kKeys) {
    add_keys<kX, kKeys, kBeside, kSteps, kAhead, kAt + kBeside>(
        acc, key + kBeside * key_stride, key_stride, query, query_stride,
        next + kBeside * kSteps * kDotLanes);
  }
}

template <int kX, int kSteps, KeysAhead kAhead>
__attribute__((noinline)) void score_keys(const bf16* key, int64_t slots, const float* query,
                                          int64_t query_stride, float* z, int64_t z_stride,
                                          float scale, int64_t key_stride, const bf16* next) {
  constexpr int kKeys = kX > 2 ? 4 : kHeldKeys / kX, kBeside = kX > 2 ? 4 : 1;
  for (const float* end = z + slots; z < end; z += kKeys) {
    f32v acc[kX * kKeys];
    for (f32v& v : acc) v = zero();
    add_keys<kX, kKeys, kBeside, kSteps, kAhead>(acc, key, key_stride, query, query_stride, next);
    float sums[kX * kKeys];
    fold_vectors(acc, sums);
    for (int x = 0; x < kX; ++x) {
      for (int w = 0; w < kKeys; ++w) z[x * z_stride + w] = sums[x * kKeys + w] * scale;
    }
    key += kKeys * key_stride;
    next += kKeys * kSteps * kDotLanes;
  }
}

// What reads keys first, and what reads them again.
template <int kX, int kSteps, class P>
EXN_SIMD auto score_first(bool alone) {
  if constexpr (std::is_same_v<P, Pairs>) {
    return alone ? score_keys<kX, kSteps, 1> : score_keys<kX, kSteps, kSteps>;
  } else {
    if (!alone) return score_keys<kX, kSteps, KeysAhead::kTile>;
    if (tuning().prefetch_streams) return score_keys<kX, kSteps, KeysAhead::kStaged>;
    // Keys that are read side by side are not in the order of addresses.
    return score_keys < kX, kSteps, (kX > 2) ? KeysAhead::kFar : KeysAhead::kNothing > ;
  }
}
template <int kX, int kSteps, class P>
EXN_SIMD auto score_again() {
  if constexpr (std::is_same_v<P, Pairs>) {
    return score_keys<kX, kSteps, 1>;
  } else {
    return score_keys<kX, kSteps, KeysAhead::kNothing>;
  }
}

// The score of one key, with the same bits.
template <int kSteps, class P>
float score_key(const bf16* key, const typename P::Query* query, float scale) {
  f32v sum = zero();
  for (int i = 0; i < kSteps; ++i)
    sum = P::add(P::key(key + i * kDotLanes), P::query(query + i * kDotLanes), sum);
  return reduce_add(sum) * scale;
}

// The scores that score_chunk gives, bit for bit, and scaled.
template <int kSteps, class P>
void score_whole(const Plan& p, const Step& s, const Item& it, const Extent& extent) {
  constexpr bool kPairs = std::is_same_v<P, Pairs>;
  const KvCache& c = p.a.keys;
  const bool alone = it.kv_heads == 1, paged = c.blocks != nullptr;
  const bool runs_on = c.slot_stride == it.kv_heads * p.dim;
  const int64_t queries = s.rows * p.group, sequence = p.sequence(it.prompt);
  const int64_t stride = p.query.stride;
  const int64_t end = smaller(extent.end, (it.chunk + 1) * kChunk);
  const auto key_at = [&](int64_t slot) EXN_FLAT {
    return static_cast<const bf16*>(c.k) + kv_offset(c, sequence, it.kv_head, slot);
  };
  int64_t slots = 0;
  for (int64_t slot = larger(extent.begin, it.chunk * kChunk) / kHeldKeys * kHeldKeys; slot < end;
       slot += slots) {
    slots = smaller(end - slot, alone ? kTileSlots : kHeldKeys);
    if (paged) slots = smaller(slots, c.page - slot % c.page);
    if (slots > kHeldKeys) slots = slots / kHeldKeys * kHeldKeys;
    const bf16* key = key_at(slot);
    const bf16* next = key;
    if (kPairs && alone && !paged) next += kSlotsAhead * c.slot_stride;
    if (!alone && runs_on && slot + 2 * kHeldKeys <= extent.end) next = key_at(slot + kHeldKeys);
    for (int64_t h = 0; h < it.kv_heads; ++h) {
      const int64_t first = p.number(s, it.prompt, it.kv_head + h, s.row);
      const typename P::Query* query = p.query.from<P>(first);
      float* z = p.z + first * p.slots + slot;
      if (slots < kHeldKeys) {
        for (int64_t i = 0; i < slots * queries; ++i) {
          const int64_t x = i / slots, w = i % slots;
          z[x * p.slots + w] =
              score_key<kSteps, P>(key + w * c.slot_stride, query + x * stride, p.a.scale);
        }
      } else {
        for_groups<4>(queries, [&](int64_t x, auto count) EXN_FLAT {
          constexpr int kX = decltype(count)::value;
          auto score = score_first<kX, kSteps, P>(alone);
          if (x > 0) score = score_again<kX, kSteps, P>();
          score(key, slots, query + x * stride, stride, z + x * p.slots, p.slots, p.a.scale,
                c.slot_stride, x > 0 ? key : next);
        });
      }
      key += p.dim;
      next += slots * p.dim;
    }
  }
}

#endif

// Whether it took them. A single query for each of several heads is better off with score_chunk,
// which reads slot by slot.
template <class P, class T>
bool score_whole([[maybe_unused]] const Plan& p, [[maybe_unused]] const Step& s,
                 [[maybe_unused]] const Item& it, [[maybe_unused]] const Extent& extent) {
#if defined(EXN_HAS_BF16_DOT)
  if constexpr (std::is_same_v<T, bf16>) {
    if (p.a.keys.blocks != nullptr && p.a.keys.page % kHeldKeys != 0) return false;
    if (it.kv_heads > 1 && s.rows * p.group == 1) return false;
    if (p.dim == 4 * kDotLanes) return score_whole<4, P>(p, s, it, extent), true;
    if (p.dim == 2 * kDotLanes) return score_whole<2, P>(p, s, it, extent), true;
  }
#endif
  return false;
}

// Scores that become weights together. Memory is idle meanwhile, and then until its prefetcher has
// run ahead again, so it should not be often; but they should still be in L2.
constexpr int64_t kTogetherScores = 16384;

template <class T>
void score_step(const Plan& p, const Step& s) {
  // Where the heads of a slot lie side by side, they are read together.
  const int64_t side = p.a.keys.head_stride == p.dim ? s.kv_heads : 1;
  const int64_t heads = s.kv_heads / side, items = s.prompts * heads * p.chunks;
  const int64_t together = larger(1, kTogetherScores / (side * s.rows * p.group * kChunk));
  // Calls f(item, extent) for those of the items that are looked at.
  const auto for_items = [&](int64_t begin, int64_t end, auto f) EXN_FLAT {
    for (int64_t i = begin; i < end; ++i) {
      const Item it = {s.prompt + i / p.chunks / heads, s.kv_head + i / p.chunks % heads * side,
                       side, i % p.chunks};
      const Extent extent = p.extent(it.prompt);
      if (it.chunk * kChunk < extent.end && (it.chunk + 1) * kChunk > extent.begin) f(it, extent);
    }
  };
  // A thread takes several items that follow each other, as memory is idle while a piece begins:
  // its share of a step that is short to stay in L2; else pieces enough to even out what the
  // threads are given, but not smaller than what becomes weights together if each has two.
  const auto share = [=](int64_t pieces) { return (items + pieces - 1) / pieces; };
  const int64_t of_piece = s.kv_heads < p.kv_heads ? share(threads())
                                                   : larger(smaller(together, share(2 * threads())),
                                                            share(8 * threads()));
  parallel_for(items, of_piece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += together) {
      const int64_t last = smaller(end, i + together);
      bool scaled = false;
      for_items(i, last, [&](const Item& it, const Extent& extent) {
        with_products<T>(p.query.pairs, [&](auto products) EXN_FLAT {
          using P = EXN_TYPE_OF(products);
          scaled = score_whole<P, T>(p, s, it, extent);
          if (!scaled) score_chunk<P, T>(p, s, it, extent);
        });
      });
      for_items(i, last, [&](const Item& it, const Extent& extent) {
        finish_chunk(p, s, it, extent, scaled);
      });
    }
  });
}

// ---- sums ---------------------------------------------------------------------------------------

// What the weights of each chunk are multiplied by to be those of the whole row.
void find_factors(const Plan& p, int64_t query, int64_t visible) {
  const int64_t chunks = (visible + kChunk - 1) / kChunk;
  float* top = p.top + query * p.chunks;
  const float* total = p.total + query * p.chunks;
  float highest = kLowest;
  for (int64_t c = 0; c < chunks; ++c) highest = top[c] > highest ? top[c] : highest;
  float all = 0;
  for_vectors(chunks, [&](int64_t c, int n) EXN_FLAT {
    store_part(top + c, exp_negative(sub(load_part(top + c, n, kLowest), set1(highest))), n);
  });
  for (int64_t c = 0; c < chunks; ++c) all += total[c] * top[c];
  for (int64_t c = 0; c < chunks; ++c) top[c] /= all;
}

void find_factors(const Plan& p, const Step& s) {
  if (p.a.kind == EXN_SCORE_RAW) return;
  const int64_t of_row = s.kv_heads * p.group;
  parallel_for(s.prompts * s.rows * of_row, kStepScores / 64 / (p.chunks + 1) + 1,
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   const int64_t row = s.row + i / p.group % s.rows;
                   const int64_t prompt = s.prompt + i / of_row / s.rows;
                   find_factors(p, i, smaller(p.visible(prompt, row), p.extent(prompt).end));
                 }
               });
}

// sum += weights of kHeads queries, times their factors, one query after another.
template <int kHeads>
EXN_SIMD void add_weights(const float* z, int64_t stride, const float* factor, int64_t n,
                          float* sum) {
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    f32v so_far = load_part(sum + i, lanes, 0.0f);
    for (int h = 0; h < kHeads; ++h)
      so_far = fma(load_part(z + h * stride + i, lanes, 0.0f), set1(factor[h]), so_far);
    store_part(sum + i, so_far, lanes);
  });
}

// Adds the step's rows and the heads [first, last) to the sum of one score row, over one chunk.
void add_chunk(const Plan& p, const Step& s, int64_t prompt, int64_t chunk, int64_t first,
               int64_t last, const Extent& extent, float* sum) {
  constexpr int kHeads = 4;
  const int64_t begin = larger(chunk * kChunk, p.a.first);
  for (int64_t row = s.row; row < s.row + s.rows; ++row) {
    const int64_t seen = smaller(p.a.first + extent.scored, p.visible(prompt, row));
    const int64_t n = smaller(seen, (chunk + 1) * kChunk) - begin;
    if (n <= 0) continue;
    const auto query_of = [&](int64_t head) EXN_FLAT {
      return p.number(s, prompt, head / p.group, row) + head % p.group;
    };
    float* to = sum + begin - p.a.first;
    for (int64_t head = first; head < last;) {
      const int64_t query = query_of(head);
      // Whose rows follow each other.
      const bool several =
          head + kHeads <= last && query_of(head + kHeads - 1) == query + kHeads - 1;
      const int heads = several ? kHeads : 1;
      float factor[kHeads];
      for (int h = 0; h < heads; ++h)
        factor[h] = p.a.kind == EXN_SCORE_RAW ? 1.0f : p.top[(query + h) * p.chunks + chunk];
      const float* z = p.z + query * p.slots + begin;
      several ? add_weights<kHeads>(z, p.slots, factor, n, to)
              : add_weights<1>(z, p.slots, factor, n, to);
      head += heads;
    }
  }
}

float* sum_of(const Plan& p, const Step& s, int64_t prompt, int64_t score_head) {
  const int64_t row = (prompt - s.prompt) * p.a.score_heads + score_head;
  return p.sum + row * p.sum_stride() + kMargin;
}

void add_step(const Plan& p, const Step& s) {
  const int64_t heads = p.a.query.heads / p.a.score_heads;  // that meet in a score row
  const int64_t first_head = s.kv_head * p.group, last_head = (s.kv_head + s.kv_heads) * p.group;
  const int64_t first_row = first_head / heads, rows = (last_head - 1) / heads + 1 - first_row;
  const int64_t work = s.rows * smaller(heads, last_head - first_head) * kChunk;
  parallel_for(s.prompts * rows * p.chunks, 32768 / work + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t prompt = s.prompt + i / p.chunks / rows;
      const int64_t score_head = first_row + i / p.chunks % rows;
      add_chunk(p, s, prompt, i % p.chunks, larger(first_head, score_head * heads),
                smaller(last_head, (score_head + 1) * heads), p.extent(prompt),
                sum_of(p, s, prompt, score_head));
    }
  });
}

// ---- results ------------------------------------------------------------------------------------

f32v pooled(const AttentionScoresArgs& a, const float* sum, int n) {
  if (a.pool == EXN_POOL_NONE) return load_part(sum, n, 0.0f);
  const int half = a.pool_width / 2;
  f32v v = load_part(sum - half, n, 0.0f);
  for (int i = 1 - half; i <= half; ++i) {
    const f32v next = load_part(sum + i, n, 0.0f);
    if (a.pool == EXN_POOL_AVG) {
      v = add(v, next);
    } else {
      v = select(less(v, next), next, v);      // a NaN stays
      v = select(equal(next, next), v, next);  // and one that comes is taken
    }
  }
  return a.pool == EXN_POOL_AVG ? div(v, set1(static_cast<float>(a.pool_width))) : v;
}

// Scores from a row of sums.
void finish_row(const AttentionScoresArgs& a, float* sum, int64_t scored, float* out) {
  if (a.reduction == EXN_HEADS_MEAN) {
    const f32v heads = set1(static_cast<float>(a.query.heads));
    for_vectors(scored, [&](int64_t i, int n) EXN_FLAT {
      store_part(sum + i, div(load_part(sum + i, n, 0.0f), heads), n);
    });
  }
  const float outside = a.pool == EXN_POOL_MAX ? kLowest : 0;
  for (int64_t i = 1; i <= a.pool_width / 2; ++i) sum[-i] = sum[scored - 1 + i] = outside;
  for_vectors(scored, [&](int64_t i, int n) EXN_FLAT {
    f32v v = pooled(a, sum + i, n);
    if (a.accumulate) v = add(load_part(out + i, n, 0.0f), v);
    store_part(out + i, v, n);
  });
  for (int64_t i = scored; i < a.columns && !a.accumulate; ++i) out[i] = kLowest;
}

void finish_rows(const Plan& p, const Step& s) {
  const AttentionScoresArgs& a = p.a;
  const int64_t rows = s.prompts * a.score_heads;
  const int64_t lanes = p.selects() ? p.scratches.count : rows;
  const Selector selector(a.selection, a.columns);
  parallel_for(smaller(lanes, rows), 16384 / (a.columns + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t lane = begin; lane < end; ++lane) {
      for (int64_t i = lane; i < rows; i += lanes) {
        const int64_t prompt = s.prompt + i / a.score_heads;
        const int64_t row = prompt * a.score_heads + i % a.score_heads;
        const int64_t scored = p.extent(prompt).scored;
        float* out =
            a.scores != nullptr ? a.scores + row * a.columns : p.row_score + lane * a.columns;
        finish_row(a, sum_of(p, s, prompt, i % a.score_heads), scored, out);
        if (p.selects()) selector.run(out, row, scored, p.scratches.at(lane));
      }
    }
  });
}

template <class T>
void run_steps(const Plan& p) {
  const AttentionScoresArgs& a = p.a;
  const int64_t heads = p.heads_of_step();
  Step s;
  for (; s.prompt < a.prompts; s.prompt += s.prompts) {
    s.prompts = smaller(p.prompts, a.prompts - s.prompt);
    const int64_t sums = s.prompts * a.score_heads * p.sum_stride();
    for (int64_t i = 0; i < sums; ++i) p.sum[i] = 0;
    for (s.kv_head = 0; s.kv_head < a.keys.heads; s.kv_head += s.kv_heads) {
      s.kv_heads = smaller(heads, a.keys.heads - s.kv_head);
      for (s.row = 0; s.row < a.window; s.row += s.rows) {
        s.rows = smaller(p.rows, a.window - s.row);
        load_queries(p, s);
        score_step<T>(p, s);
        find_factors(p, s);
        add_step(p, s);
      }
    }
    finish_rows(p, s);
  }
}

exn_status check_contents(const AttentionScoresArgs& a) {
  constexpr const char* kOp = "exn_attention_scores";
  exn_status status = check_ids(kOp, "sequence", a.sequence, a.prompts, 0, a.keys.sequences - 1);
  if (status == EXN_OK)
    status = check_ids(kOp, "visible", a.visible, a.query.rows, 0, a.keys.slots);
  if (status == EXN_OK) status = check_ids(kOp, "limit", a.limit, a.prompts, 0, a.columns);
  if (status == EXN_OK)
    status = check_prompt_pages(kOp, a.keys, a.sequence, a.visible, a.prompts, a.window);
  if (status == EXN_OK && a.selection.indices != nullptr)
    status = check_selection(kOp, a.selection, a.prompts * a.score_heads, a.columns);
  return status;
}

}  // namespace

exn_status attention_scores(const AttentionScoresArgs& a, Workspace& ws) {
  Plan p(a);
  p.take(ws);
  if (ws.counting()) return EXN_OK;
  const exn_status status = check_contents(a);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH("attention_scores"));
  with_float_type(a.keys.dtype, [&](auto type) { run_steps<EXN_TYPE_OF(type)>(p); });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
