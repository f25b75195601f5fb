// SPDX-License-Identifier: Apache-2.0
// attention on the CPU: a pass over K and V in tiles of slots, with a running maximum.
//
// A sequence's slots fall into chunks of kChunk and those into tiles of kTile, both counted from
// slot 0. A head's state (maximum, sum, weighted sum of V) is carried through the tiles of a chunk,
// and the states of chunks are merged in ascending order, whichever thread computed them. Products
// and sums keep their order within a tile whatever rows they are computed beside. So a row has the
// same bits for every thread count and in every batch.
//
// Many query heads of a KV head meet keys and values that are arranged once for all of them
// (shared_tiles.h), in the same order of additions.
//
// Rows of one sequence pass over K and V together, with all query heads of a KV head; for a few
// rows the chunks of a sequence are work items of their own, so that threads share one long
// sequence.
#include "base/args/attention.h"
#include "attention_tiles.h"
#include "score_products.h"
#include "shared_tiles.h"

namespace exn::cpu::EXN_ISA {
namespace {

// ---- one chunk ----------------------------------------------------------------------------------

// The slots that a head of the slab sees of a tile.
int seen_of(int64_t visible, int64_t tile) {
  return static_cast<int>(visible <= tile ? 0 : smaller(visible - tile, kTile));
}

// Scales and caps the scores of a tile of which the head sees `seen` slots, with -inf for the
// others, and hands them out if they are asked for.
void finish_scores(const AttentionArgs& a, const Slab& slab, int head, int64_t tile, int seen,
                   float* s) {
  for (int t = 0; t < seen; t += kLanes) store(s + t, mul(load(s + t), set1(a.scale)));
  if (a.softcap > 0) {
    for (int t = 0; t < seen; t += kLanes) {
      store(s + t, mul(set1(a.softcap), tanh(div(load(s + t), set1(a.softcap)))));
    }
  }
  for (int t = seen; t < kTile; ++t) s[t] = kLowest;
  if (slab.scores[head] == nullptr) return;
  const int64_t wanted = smaller(a.score_slots - tile, seen);
  for (int64_t t = 0; t < wanted; ++t) slab.scores[head][tile + t] = s[t];
}

template <class P, class T, int kX>
EXN_SIMD void score_heads(const Plan& p, const Slab& slab, int head, const SlotRows<T>& key,
                          const int* seen, float (*s)[kTile], Ahead* ahead) {
  int most = 0;
  for (int x = 0; x < kX; ++x) most = seen[head + x] > most ? seen[head + x] : most;
  score_keys<P, T, kX>(key, most, p.query.from<P>(slab.head + head), p.stride, p.dim, s[head],
                       ahead);
}

template <int kX>
EXN_SIMD void turn_heads(const Plan& p, const Slab& slab, int head, int64_t tile, const int* seen,
                         float (*s)[kTile], Ahead* ahead) {
  float scale[kX], shrink[kX];
  for (int x = 0; x < kX; ++x) {
    scale[x] = p.a.scale;
    if (seen[head + x] == kTile && p.a.softcap == 0 && slab.scores[head + x] == nullptr) continue;
    scale[x] = 1;
    finish_scores(p.a, slab, head + x, tile, seen[head + x], s[head + x]);
  }
  weigh_scores<kX>(s + head, scale, slab.state.top + head, slab.state.total + head, shrink, ahead);
  for (int x = 0; x < kX; ++x)
    shrink_sums(slab.state.sum + (head + x) * p.stride, p.stride, shrink[x]);
}

// Slots of a tile that all of kX heads see.
template <int kX>
EXN_SIMD int common_of(const int* seen) {
  int common = kTile;
  for (int x = 0; x < kX; ++x) common = seen[x] < common ? seen[x] : common;
  return common;
}

// Those that some of them see besides.
template <class T, int kX>
EXN_SIMD void weigh_others(const Plan& p, const Slab& slab, int head, const SlotRows<T>& value,
                           const int* seen, int common, const float (*s)[kTile], Ahead* ahead) {
  float* sum = slab.state.sum + head * p.stride;
  for (int x = 0; kX > 1 && x < kX; ++x) {
    if (seen[head + x] == common) continue;
    weigh_values<T, 1>(value, common, seen[head + x], s[head + x], sum + x * p.stride, p.stride,
                       p.dim, ahead);
  }
}

template <class T, int kX>
EXN_SIMD void weigh_heads(const Plan& p, const Slab& slab, int head, const SlotRows<T>& value,
                          const int* seen, const float (*s)[kTile], Ahead* ahead) {
  const int common = common_of<kX>(seen + head);
  float* sum = slab.state.sum + head * p.stride;
  weigh_values<T, kX>(value, 0, common, s[head], sum, p.stride, p.dim, ahead);
  weigh_others<T, kX>(p, slab, head, value, seen, common, s, ahead);
}

// Query heads that share one load of a key, and of a value: where vectors are long, the more share
// it, the less often it is widened, at the cost of a multiplication each time.
constexpr int kScoreHeads = 4;
constexpr int kWeighHeads = kChainwise || kLanes == 16 ? 4 : 2;
// The latter where their sums fit into registers together.
constexpr int kNarrowHeads = kRegisters == 32 ? 4 : 2;

template <class F>
EXN_SIMD void for_weigh_groups(int64_t dim, int heads, F&& f) {
  if (kNarrowHeads > kWeighHeads && dim <= 2 * kPair) {
    for_groups<kNarrowHeads>(heads, f);
  } else {
    for_groups<kWeighHeads>(heads, f);
  }
}

// What a slab prefetches during the scores and during softmax, of 64 lines; the values take the
// rest. These are the parts of its time: memory must not wait for the program in any of them. The
// scores of few registers take longer than the values, and so do those that are not of bf16 pairs.
// With a single query for each of several KV heads it is the requests that take the time.
struct Shares {
  int64_t score, turn;
};
constexpr Shares shares_of(int heads, int slabs, bool alternates, bool shared) {
  if (shared) return {32, 4};
  if (heads > 1)
    return kRegisters < 32 ? Shares{31, 3} : alternates ? Shares{30, 3} : Shares{22, 6};
  return slabs > 1 ? Shares{30, 2} : Shares{24, 2};
}

// Whether so many heads share what arranging a tile costs: of long rows of f32, of which there is
// nothing to widen, it costs more than it gains.
template <class P, class T>
EXN_SIMD bool shares_tiles([[maybe_unused]] int64_t dim, [[maybe_unused]] int heads) {
#if defined(EXN_HAS_LOAD_COLUMNS)
  constexpr int64_t kMost = std::is_same_v<T, float> ? 64 : kMostShared;
  if constexpr (std::is_same_v<typename P::Query, float>)
    return heads >= 2 * kMostBeside && dim % kPair == 0 && dim <= kMost;
#endif
  return false;
}

// At which pace a slab prefetches while it passes over a tile.
struct Paces {
  uint32_t score = 0, turn = 0, weigh = 0;
  int64_t requests = -1;  // that it is to make
  int count = -1;         // slots of the tile

  void set(const Plan& p, int heads, int slots, int64_t some, const Shares& shares, bool shared) {
    if (slots == count && some == requests) return;
    count = slots;
    requests = some;
    const bool held = p.query.pairs && (p.dim == 2 * kPair || p.dim == 4 * kPair);
    int64_t score_calls = 0, weigh_calls = 0;
#if defined(EXN_HAS_LOAD_COLUMNS)
    if (shared) {
      const int64_t groups = (heads + kMostBeside - 1) / kMostBeside;
      score_calls = groups * ((slots + kSideKeys - 1) / kSideKeys);
      weigh_calls = groups * (p.dim / kPair);
    }
#endif
    for_groups<kScoreHeads>(shared ? 0 : heads, [&](int, auto group) EXN_FLAT {
      score_calls += score_prefetches<decltype(group)::value>(slots, held);
    });
    for_weigh_groups(p.dim, shared ? 0 : heads, [&](int, auto group) EXN_FLAT {
      weigh_calls += weigh_prefetches<decltype(group)::value>(slots, p.dim);
    });
    const int64_t first = requests * shares.score / 64, second = requests * shares.turn / 64;
    score = Ahead::pace_of(first, score_calls);
    turn = Ahead::pace_of(second, heads);
    weigh = Ahead::pace_of(requests - first - second, weigh_calls);
  }
};

// `offset` says where the rows of KV head 0 lie.
template <class P, class T>
void pass_over_tile(const Plan& p, const Slab& slab, int64_t tile, const int64_t* offset,
                    const Paces& paces, float (*s)[kTile], Ahead* ahead) {
  const int64_t head_at = slab.kv_head * p.a.cache.head_stride;
  const SlotRows<T> key = {static_cast<const T*>(p.a.cache.k) + head_at, offset};
  const SlotRows<T> value = {static_cast<const T*>(p.a.cache.v) + head_at, offset};
  int seen[kSlab];
  for (int head = 0; head < slab.heads; ++head) seen[head] = seen_of(slab.visible[head], tile);
  ahead->pace(paces.score);
  for_groups<kScoreHeads>(slab.heads, [&](int head, auto heads) EXN_FLAT {
    score_heads<P, T, decltype(heads)::value>(p, slab, head, key, seen, s, ahead);
  });
  ahead->pace(paces.turn);
  for_groups<kScoreHeads>(slab.heads, [&](int head, auto heads) EXN_FLAT {
    turn_heads<decltype(heads)::value>(p, slab, head, tile, seen, s, ahead);
  });
  ahead->pace(paces.weigh);
  for_weigh_groups(p.dim, slab.heads, [&](int head, auto heads) EXN_FLAT {
    weigh_heads<T, decltype(heads)::value>(p, slab, head, value, seen, s, ahead);
  });
}

#if defined(EXN_HAS_LOAD_COLUMNS)
static_assert(kSideQueries == kSlab && kTile % kSideKeys == 0);

// turn_heads of up to kLanes heads: what is left of each when its vectors are folded has a lane.
__attribute__((noinline)) void turn_abreast(const Plan& p, const Slab& slab, int head, int count,
                                            int64_t tile, const int* seen, float (*s)[kTile],
                                            Ahead* ahead) {
  constexpr int kVectors = kTile / kLanes;
  constexpr int kBeside = kGroup < kVectors ? kGroup : kVectors;
  f32v of_head[kLanes];
  for (int x = 0; x < count; ++x) {
    ahead->prefetch();
    float* const z = s[head + x];
    f32v scale = set1(p.a.scale);
    if (seen[head + x] < kTile || p.a.softcap != 0 || slab.scores[head + x] != nullptr) {
      finish_scores(p.a, slab, head + x, tile, seen[head + x], z);
      scale = set1(1.0f);
    }
    of_head[x] = set1(kLowest);
    for (int v = 0; v < kVectors; ++v) {
      const f32v scaled = mul(load(z + v * kLanes), scale);
      of_head[x] = max(scaled, of_head[x]);  // a NaN is not the highest
      store(z + v * kLanes, scaled);
    }
  }
  for (int x = count; x < kLanes; ++x) of_head[x] = set1(kLowest);
  const char* rows[kLanes];
  for (int x = 0; x < kLanes; ++x) rows[x] = reinterpret_cast<const char*>(of_head + x);
  float* const top = slab.state.top + head;
  float* const total = slab.state.total + head;
  const f32v old = load_part(top, count, kLowest);
  f32v now = old;
  for (int lane = 0; lane < kLanes; lane += 4) {
    f32v highest[4];
    load_columns(rows, lane * 4, highest);
    for (const f32v& v : highest) now = max(v, now);
  }
  const f32v base = select(equal(now, set1(kLowest)), zero(), now);  // -inf - -inf would be NaN
  float bases[kLanes], shrink[kLanes], sums[kLanes];
  store(bases, base);
  store(shrink, exp_negative(sub(old, base)));
  for (int x = 0; x < count; ++x) {
    f32v sum = zero();
    for (int v = 0; v < kVectors; v += kBeside)
      sum = weigh_vectors<kBeside>(s[head + x] + v * kLanes, set1(bases[x]), sum);
    of_head[x] = sum;
  }
  reduce_add_all(of_head, sums);
  const f32v kept = mul(load_part(total, count, 0), load(shrink));
  store_part(total, add(kept, load(sums)), count);
  store_part(top, now, count);
  for (int x = 0; x < count; ++x)
    shrink_sums(slab.state.sum + (head + x) * p.stride, p.stride, shrink[x]);
}

// Brings the queries of a slab side by side.
void arrange_queries(const Plan& p, const Slab& slab, float* to) {
  struct {
    const float* base;
    int64_t stride;
    EXN_SIMD const float* operator[](int head) const { return base + head * stride; }
  } const query = {p.query.wide + slab.head * p.stride, p.stride};
  stand_abreast<float, kSideQueries / kLanes>(query, slab.heads, p.dim, to);
}

// pass_over_tile of many heads, which share what arranging its keys and values costs. Their queries
// stand side by side already.
template <class T>
void share_tile(const Plan& p, const Slab& slab, int64_t tile, int count, const int64_t* offset,
                const Paces& paces, PassScratch& scratch, Ahead* ahead) {
  const int64_t head_at = slab.kv_head * p.a.cache.head_stride;
  const SlotRows<T> key = {static_cast<const T*>(p.a.cache.k) + head_at, offset};
  const SlotRows<T> value = {static_cast<const T*>(p.a.cache.v) + head_at, offset};
  float (*const s)[kTile] = scratch.s;
  int seen[kSlab];
  for (int head = 0; head < slab.heads; ++head) seen[head] = seen_of(slab.visible[head], tile);
  ahead->pace(paces.score);
  for (int first = 0; first < count; first += kSideKeys) {
    stand_abreast<T, kSideVectors>(key.from(first), count - first, p.dim, scratch.keys);
    for_shares(slab.heads, [&](int head, auto heads) EXN_FLAT {
      score_side<decltype(heads)::value>(scratch.keys, scratch.queries + head, p.dim,
                                         s[head] + first, kTile, scratch.waiting,
                                         ahead->share(p.dim * kLinesOfStep));
    });
  }
  ahead->pace(paces.turn);
  for (int head = 0; head < slab.heads; head += kLanes) {
    const int some = slab.heads - head < kLanes ? slab.heads - head : kLanes;
    turn_abreast(p, slab, head, some, tile, seen, s, ahead);
  }
  ahead->pace(paces.weigh);
  for (int64_t column = 0; column < p.dim; column += kPair) {
    const int64_t next = column + kPair < p.dim ? column + kPair : column;
    widen_values<T>(value, count, column, next, scratch.values);
    for_shares(slab.heads, [&](int head, auto heads) EXN_FLAT {
      constexpr int kX = decltype(heads)::value;
      weigh_side<kX>(scratch.values, common_of<kX>(seen + head), s[head], kTile,
                     slab.state.sum + head * p.stride + column, p.stride,
                     ahead->share(count * kLinesOfStep));
    });
  }
  for_shares(slab.heads, [&](int head, auto heads) EXN_FLAT {
    constexpr int kX = decltype(heads)::value;
    weigh_others<T, kX>(p, slab, head, value, seen, common_of<kX>(seen + head), s, ahead);
  });
}
#endif

void forget(const Slab& slab, int64_t stride) {
  for (int head = 0; head < slab.heads; ++head) {
    slab.state.top[head] = kLowest;
    slab.state.total[head] = 0;
    float* sum = slab.state.sum + head * stride;
    for (int64_t i = 0; i < stride; ++i) sum[i] = 0;
  }
}

// Where the rows of KV head 0 lie in `count` slots from `first` on.
void find_rows(const KvCache& c, int64_t sequence, int64_t first, int count, int64_t* at) {
  if (c.blocks == nullptr) {
    const int64_t begin = kv_offset(c, sequence, 0, first);
    for (int t = 0; t < count; ++t) at[t] = begin + t * c.slot_stride;
    return;
  }
  for (int t = 0; t < count;) {
    const int64_t left = c.page - (first + t) % c.page;
    const int64_t begin = kv_offset(c, sequence, 0, first + t);
    for (int64_t i = 0; i < left && t < count; ++i, ++t) at[t] = begin + i * c.slot_stride;
  }
}

// Rows of a tile that are prefetched: of each slot those of the slabs' KV heads, which lie side by
// side.
template <class T>
struct TileRows {
  int64_t bytes;  // of a slot
  bool runs_on;   // from slot to slot

  TileRows(const KvCache& c, const Slabs& slabs, int64_t dim)
      : bytes(
            ((slabs.slab[slabs.count - 1].kv_head - slabs.slab[0].kv_head) * c.head_stride + dim) *
            static_cast<int64_t>(sizeof(T))),
        runs_on(c.blocks == nullptr && c.slot_stride * static_cast<int64_t>(sizeof(T)) == bytes) {}

  EXN_SIMD void add(const void* side, int64_t head_at, const int64_t* rows, int slots,
                    Ahead* ahead) const {
    const T* base = static_cast<const T*>(side) + head_at;
    if (runs_on && slots > 0)
      ahead->add(reinterpret_cast<const char*>(base + rows[0]), slots * bytes);
    for (int t = 0; !runs_on && t < slots; ++t)
      ahead->add(reinterpret_cast<const char*>(base + rows[t]), bytes);
  }
};

// What a thread does after a chunk, to prefetch it in time.
enum class Then { kNothing, kNextChunk, kNextHeads };

// The states of the slabs' heads over the slots of one chunk, whose first tile was prefetched or
// not.
template <class P, class T>
void pass_over_chunk(const Plan& p, const Slabs& slabs, int64_t chunk, bool prefetched, Then then,
                     PassScratch& scratch) {
  const KvCache& c = p.a.cache;
  for (int i = 0; i < slabs.count; ++i) forget(slabs.slab[i], p.stride);
  const int64_t visible = slabs.visible(), end = smaller(visible, (chunk + 1) * kChunk);
  int64_t offset[2][kTile];
  const auto find = [&](int64_t tile, int64_t* at) EXN_FLAT {
    const int count = static_cast<int>(visible <= tile ? 0 : smaller(visible - tile, kTile));
    find_rows(c, slabs.sequence, tile, count, at);
    return count;
  };
  const TileRows<T> rows(c, slabs, p.dim);
  const bool shared = shares_tiles<P, T>(p.dim, slabs.slab[0].heads);
  const Shares shares = shares_of(slabs.slab[0].heads, slabs.count, p.alternates, shared);
#if defined(EXN_HAS_LOAD_COLUMNS)
  if (shared && slabs.count == 1) arrange_queries(p, slabs.slab[0], scratch.queries);
#endif
  Paces paces;
  int64_t tile = chunk * kChunk;
  int count = find(tile, offset[0]);
  for (int which = 0; tile < end; which ^= 1) {
    const int64_t* next_at = offset[which ^ 1];
    int64_t head_at = slabs.slab[0].kv_head * c.head_stride;
    const int next = find(tile + kTile, offset[which ^ 1]);
    int wanted = next;
    if (tile + kTile >= end && (then == Then::kNothing || next == 0)) {
      wanted = 0;
      if (then == Then::kNextHeads) {
        wanted = find(0, offset[which ^ 1]);
        head_at += slabs.count * c.head_stride;
      }
    }
    Ahead ahead;
    // The first tile was not prefetched: its keys are read at once, its values a little later.
    if (!p.alternates && !prefetched)
      rows.add(c.v, slabs.slab[0].kv_head * c.head_stride, offset[which], count, &ahead);
    prefetched = true;
    rows.add(c.k, head_at, next_at, wanted, &ahead);
    if (!p.alternates) rows.add(c.v, head_at, next_at, wanted, &ahead);
    ahead.start(p.alternates ? static_cast<const char*>(c.v) - static_cast<const char*>(c.k) : 0,
                p.again);
    paces.set(p, slabs.slab[0].heads, count, ahead.requests() / slabs.count, shares, shared);
    for (int i = 0; i < slabs.count; ++i) {
#if defined(EXN_HAS_LOAD_COLUMNS)
      if (shared) {
        if (slabs.count > 1) arrange_queries(p, slabs.slab[i], scratch.queries);
        share_tile<T>(p, slabs.slab[i], tile, count, offset[which], paces, scratch, &ahead);
        continue;
      }
#endif
      pass_over_tile<P, T>(p, slabs.slab[i], tile, offset[which], paces, scratch.s, &ahead);
    }
    tile += kTile;
    count = next;
  }
}

// ---- results ------------------------------------------------------------------------------------

void write_hidden_scores(const Plan& p, int64_t row, int64_t query_head) {
  if (p.a.scores == nullptr) return;
  float* scores = p.a.scores + (row * p.a.query.heads + query_head) * p.a.score_slots;
  const int64_t visible = p.a.visible[row] > 0 ? p.a.visible[row] : 0;
  for (int64_t t = visible; t < p.a.score_slots; ++t) scores[t] = kLowest;
}

// The result of a head whose state is complete.
void write_result(const Plan& p, int64_t head) {
  const int64_t row = p.row_of(head), query_head = p.query_head_of(head);
  const bool sees = p.a.visible[row] > 0;  // nothing: zeros
  const States state = p.whole.at(head);
  with_float_type(p.a.cache.dtype,
                  [&](auto cache) { reorder_pairs<EXN_TYPE_OF(cache)>(state.sum, p.stride); });
  const f32v total = set1(sees ? *state.total : 1);
  with_float_type(p.a.out.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    T* out = static_cast<T*>(p.a.out.data) + row * p.a.out.stride + query_head * p.dim;
    for_vectors(p.dim, [&](int64_t i, int n) EXN_FLAT {
      store_part(out + i, sees ? div(load(state.sum + i), total) : zero(), n);
    });
  });
  write_hidden_scores(p, row, query_head);
}

// Where the chunks of a row are work items of their own, their states meet here, unless they have
// met before. They come from the cores that computed them, and each would be waited for.
void write_results(const Plan& p) {
  const auto seen = [&](int64_t head) EXN_FLAT { return chunks_of(p.a.visible[p.row_of(head)]); };
  const auto prefetch = [&](int64_t head) EXN_FLAT {
    for (int64_t chunk = p.merged[head]; chunk < seen(head); ++chunk) {
      const States partial = p.partial.at(chunk * p.heads() + head);
      prefetch_l1(partial.top);
      prefetch_l1(partial.total);
      for (int64_t i = 0; i < p.stride; i += kLineOf<float>) prefetch_l1(partial.sum + i);
    }
  };
  parallel_for(p.heads(), 64 / (p.chunks + 1) + 1, [&](int64_t begin, int64_t end) {
    prefetch(begin);
    for (int64_t head = begin; head < end; ++head) {
      if (head + 1 < end) prefetch(head + 1);
      const States state = p.whole.at(head);
      for (int64_t chunk = p.merged[head]; chunk < seen(head); ++chunk)
        merge_states(state, p.partial.at(chunk * p.heads() + head));
      write_result(p, head);
    }
  });
}

// ---- work items ---------------------------------------------------------------------------------

// Query heads of a block that pass over the cache together: for each of the KV heads of an item up
// to kSlab.
void take_slabs(const Plan& p, int64_t block, int64_t first_kv_head, int64_t first_head, Slabs* s) {
  s->count = 0;
  s->sequence = sequence_of(p.a.sequence, p.order[p.first[block]]);
  const int64_t heads = (p.first[block + 1] - p.first[block]) * p.group;
  for (int64_t kv = first_kv_head; kv < p.a.cache.heads && kv < first_kv_head + p.kv_heads; ++kv) {
    Slab& slab = s->slab[s->count++];
    const int64_t head = p.number(kv, p.first[block]) + first_head;
    slab.heads = static_cast<int>(smaller(heads - first_head, kSlab));
    slab.kv_head = kv;
    slab.head = head;
    slab.state = p.whole.at(head);
    for (int i = 0; i < slab.heads; ++i) {
      const int64_t row = p.row_of(head + i);
      slab.visible[i] = p.a.visible[row];
      float* scores = p.a.scores;
      slab.scores[i] =
          scores == nullptr
              ? nullptr
              : scores + (row * p.a.query.heads + p.query_head_of(head + i)) * p.a.score_slots;
    }
  }
}

// The same heads with their partial states in `partial`.
void move_states(const States& partial, Slabs* s) {
  for (int i = 0; i < s->count; ++i) s->slab[i].state = partial.at(s->slab[i].head);
}

// Adds the states of a chunk to those of the whole, of heads that see it.
void merge_chunk(const Slabs& whole, const Slabs& partial, int64_t chunk) {
  for (int i = 0; i < whole.count; ++i) {
    const Slab& slab = whole.slab[i];
    for (int head = 0; head < slab.heads; ++head) {
      if (chunks_of(slab.visible[head]) > chunk)
        merge_states(slab.state.at(head), partial.slab[i].state.at(head));
    }
  }
}

// What follows a chunk of these slabs, if `more` items do.
Then next_of(const Plan& p, const Slabs& slabs, int64_t chunk, bool more) {
  if (chunk + 1 < chunks_of(slabs.visible()))
    return more || !p.splits ? Then::kNextChunk : Then::kNothing;
  const bool last = slabs.slab[slabs.count - 1].kv_head + 1 == p.a.cache.heads;
  return more && !last ? Then::kNextHeads : Then::kNothing;
}

// One chunk, where it is an item. The first chunk's state is that of the whole to begin with. A
// thread that has computed all chunks before this one (`follows`) adds it to them while it is in
// L1. `prefetched`: its first tile; from then on, that of the next item.
template <class P, class T>
void run_chunk(const Plan& p, int64_t chunk, bool follows, bool more, bool* prefetched,
               PassScratch& scratch) {
  const Slabs& whole = scratch.slabs;
  if (chunk > 0 && chunk >= chunks_of(whole.visible())) return;
  if (chunk > 0) {
    scratch.partial = whole;
    move_states(p.partial.at((follows ? 1 : chunk) * p.heads()), &scratch.partial);
  }
  const Then then = next_of(p, whole, chunk, more);
  pass_over_chunk<P, T>(p, chunk > 0 ? scratch.partial : whole, chunk, *prefetched, then, scratch);
  *prefetched = then != Then::kNothing;
  if (chunk == 0 || !follows) return;
  merge_chunk(whole, scratch.partial, chunk);
  for (int i = 0; i < whole.count; ++i) {
    for (int head = 0; head < whole.slab[i].heads; ++head)
      p.merged[whole.slab[i].head + head] = static_cast<int32_t>(chunk + 1);
  }
}

// All chunks, one after another, and their results while the states are in L1.
template <class P, class T>
void run_block(const Plan& p, bool more, bool* prefetched, PassScratch& scratch) {
  const Slabs& whole = scratch.slabs;
  const int64_t chunks = chunks_of(whole.visible());
  if (chunks > 1) {
    scratch.partial = whole;
    move_states(p.partial, &scratch.partial);
  }
  for (int64_t chunk = 0; chunk == 0 || chunk < chunks; ++chunk) {
    const Then then = next_of(p, whole, chunk, more);
    const Slabs& slabs = chunk == 0 ? whole : scratch.partial;
    pass_over_chunk<P, T>(p, slabs, chunk, *prefetched, then, scratch);
    *prefetched = then != Then::kNothing;
    if (chunk > 0) merge_chunk(whole, scratch.partial, chunk);
  }
  for (int i = 0; i < whole.count; ++i) {
    const Slab& slab = whole.slab[i];
    for (int head = 0; head < slab.heads; ++head) write_result(p, slab.head + head);
  }
}

// An item is a block of rows, some neighbouring KV heads and, where chunks are split, a chunk. A
// thread takes several that follow each other, as what it prefetches at the end of one serves the
// next.
template <class P, class T>
void run_items(const Plan& p) {
  const int64_t kv_items = (p.a.cache.heads + p.kv_heads - 1) / p.kv_heads;
  const int64_t chunks = p.splits ? p.chunks : 1, items = p.blocks * kv_items * chunks;
  // Pieces enough to even out what the threads are given.
  const int64_t pieces = threads() * 8;
  const auto run = [&](int64_t begin, int64_t end, PassScratch& scratch) {
    bool prefetched = false;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t chunk = item % chunks, kv_head = item / chunks % kv_items * p.kv_heads,
                    block = item / chunks / kv_items;
      const int64_t heads = (p.first[block + 1] - p.first[block]) * p.group;
      for (int64_t head = 0; head < heads; head += kSlab) {
        take_slabs(p, block, kv_head, head, &scratch.slabs);
        if (p.splits) {
          run_chunk<P, T>(p, chunk, item - chunk >= begin, item + 1 < end, &prefetched, scratch);
        } else {
          run_block<P, T>(p, item + 1 < end, &prefetched, scratch);
        }
      }
    }
  };
  parallel_for(items, (items + pieces - 1) / pieces, p.own, run);
}

exn_status wrong_sequence(const AttentionArgs& a, int64_t row) {
  if (a.cache.sequences == 0) {
    return fail(EXN_INVALID_ARGUMENT,
                "exn_attention: visible[%lld] is %d, but the cache has 0 sequences",
                static_cast<long long>(row), a.visible[row]);
  }
  return fail(EXN_INVALID_ARGUMENT, "exn_attention: sequence[%lld] is %d, expected 0..%lld",
              static_cast<long long>(row), a.sequence[row],
              static_cast<long long>(a.cache.sequences - 1));
}

// The sequence of a row that sees nothing does not matter.
exn_status check_indices(const AttentionArgs& a) {
  const int64_t rows = a.query.rows;
  exn_status status = check_ids("exn_attention", "visible", a.visible, rows, -1, a.cache.slots);
  for (int64_t row = 0; status == EXN_OK && row < rows; ++row) {
    const int64_t sequence = sequence_of(a.sequence, row);
    if (a.visible[row] <= 0 || (sequence >= 0 && sequence < a.cache.sequences)) continue;
    status = wrong_sequence(a, row);
  }
  return status == EXN_OK
             ? check_visible_pages("exn_attention", a.cache, a.sequence, a.visible, rows)
             : status;
}

}  // namespace

exn_status attention(const AttentionArgs& a, Workspace& ws) {
  Plan plan(a, ws);
  plan.take(ws);
  if (ws.counting()) return EXN_OK;
  const exn_status status = check_indices(a);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "attention"));
  if (a.query.rows == 0) return EXN_OK;
  order_rows(&plan);
  int32_t most = 0;
  for (int64_t row = 0; row < a.query.rows; ++row)
    most = a.visible[row] > most ? a.visible[row] : most;
  plan.chunks = chunks_of(most);
  plan.splits = plan.few && plan.chunks > 1;
  for (int64_t head = 0; plan.splits && head < plan.heads(); ++head) plan.merged[head] = 1;
  load_queries(plan);
  with_float_type(a.cache.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    with_products<T>(plan.query.pairs,
                     [&](auto products) { run_items<EXN_TYPE_OF(products), T>(plan); });
  });
  if (plan.splits) write_results(plan);
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
