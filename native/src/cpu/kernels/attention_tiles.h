// SPDX-License-Identifier: Apache-2.0
// What attention keeps of a call, the products of one tile of keys and values, and the online softmax
// that merges tiles.
#pragma once

#include "base/args/attention.h"
#include "score_products.h"
#include "shared_tiles.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int kTile = 64;
// Query heads of a work item that pass over a tile together.
constexpr int kSlab = 32;
// Up to so many rows, chunks are separate work items.
constexpr int64_t kFewRows = 16;

// What is known of some query heads over some slots: sum_t e^(s - top) and the same sum of V.
struct States {
  float* top = nullptr;
  float* total = nullptr;
  float* sum = nullptr;  // [heads, stride]
  int64_t stride = 0;

  States at(int64_t head) const { return {top + head, total + head, sum + head * stride, stride}; }
};

// Up to kSlab query heads of one KV head and one sequence.
struct Slab {
  int heads;
  int64_t kv_head;
  int64_t head;  // the first
  States state;
  int64_t visible[kSlab];
  float* scores[kSlab];  // of slot 0; null if not asked for
};

// Slabs of neighbouring KV heads, whose rows lie side by side in a slot.
constexpr int kSlabs = 8;
struct Slabs {
  int count;
  int64_t sequence;
  Slab slab[kSlabs];

  int64_t visible() const {
    int64_t most = 0;
    for (int i = 0; i < count; ++i) {
      for (int head = 0; head < slab[i].heads; ++head)
        most = slab[i].visible[head] > most ? slab[i].visible[head] : most;
    }
    return most;
  }
};

// A thread's scratch memory.
struct PassScratch {
  alignas(64) float s[kSlab][kTile];  // scores of a tile, then their weights
  Slabs slabs;
  Slabs partial;  // the same heads with the states of one chunk
#if defined(EXN_HAS_LOAD_COLUMNS)
  alignas(64) float queries[kSideQueries * kMostShared];  // side by side
  alignas(64) float keys[kSideKeys * kMostShared];        // side by side
  alignas(64) float values[kTile * kPair];                // widened, of a pair of columns
  alignas(64) float waiting[kWaiting];
#endif
};

// Scratch and order of a call. Query heads are numbered [kv head][rank of the row][head of the
// group], so that those of a work item lie side by side.
struct Plan {
  const AttentionArgs& a;
  Queries query;
  int64_t group, dim, stride;
  int64_t chunks;  // of all slots of the cache; then of those that a row sees
  bool few;
  bool splits = false;       // chunks are work items of their own
  bool alternates = false;   // prefetches lines of K and of V in turn
  bool again = false;        // prefetches lines several times
  int32_t* order = nullptr;  // rows by rank: those of one block lie side by side
  int32_t* first = nullptr;  // first rank of each block, and the end
  int64_t blocks = 0;
  int64_t kv_heads;            // of a work item
  States whole, partial;       // few rows: `partial` has a state for each chunk [chunk][head]
  int32_t* merged = nullptr;   // few rows: chunks, from the first on, that `whole` has of a head
  PassScratch* own = nullptr;  // the calling thread's

  Plan(const AttentionArgs& args, const Workspace& ws)
      : a(args),
        query(args.query, args.cache, ws),
        group(args.query.heads / args.cache.heads),
        dim(query.dim),
        stride(query.stride),
        chunks(chunks_of(args.cache.slots)),
        few(args.query.rows <= kFewRows),
        kv_heads(few ? neighbours(args) : 1) {
#if defined(EXN_HAS_BF16_DOT)
    alternates = tuning().prefetch_alternates;
    again = tuning().prefetch_again && !alternates;
#endif
  }

  // KV heads that a work item takes together: where the heads of a slot lie side by side, as many
  // as make its reads run on.
  static int64_t neighbours(const AttentionArgs& args) {
    const KvCache& c = args.cache;
    const int64_t bytes = c.dim * size_of(c.dtype);
    if (c.head_stride != c.dim) return 1;
    return bytes * 8 <= 4096 ? 8 : 4096 / bytes < 1 ? 1 : 4096 / bytes;
  }

  int64_t heads() const { return a.query.rows * a.query.heads; }
  int64_t rows_of_block() const { return group < kSlab ? kSlab / group : 1; }
  int64_t number(int64_t kv_head, int64_t rank) const {
    return (kv_head * a.query.rows + rank) * group;
  }
  int64_t row_of(int64_t head) const { return order[head / group % a.query.rows]; }
  int64_t query_head_of(int64_t head) const {
    return head / group / a.query.rows * group + head % group;
  }

  States take_states(Workspace& ws, int64_t count) const {
    States s;
    s.top = ws.take<float>(count);
    s.total = ws.take<float>(count);
    s.sum = ws.take<float>(count * stride);
    s.stride = stride;
    return s;
  }

  void take(Workspace& ws) {
    query.take(ws, heads());
    order = ws.take<int32_t>(a.query.rows);
    first = ws.take<int32_t>(a.query.rows + 1);
    whole = take_states(ws, heads());
    if (chunks > 1) partial = take_states(ws, few ? heads() * chunks : heads());
    merged = ws.take<int32_t>(few ? heads() : 0);
    own = ws.take<PassScratch>(1);
  }
};

// ---- blocks of rows -----------------------------------------------------------------------------

// Ranks the rows so that up to rows_of_block() rows of one sequence lie side by side.
void order_rows(Plan* p) {
  const AttentionArgs& a = p->a;
  const int64_t rows = a.query.rows;
  for (int64_t row = 0; row < rows; ++row) p->first[row] = 0;  // becomes 1 once the row has a rank
  int64_t ranked = 0;
  for (int64_t row = 0; row < rows; ++row) {
    if (p->first[row] != 0) continue;
    const int64_t start = ranked;
    for (int64_t other = row; other < rows && ranked - start < p->rows_of_block(); ++other) {
      if (p->first[other] != 0 || sequence_of(a.sequence, other) != sequence_of(a.sequence, row))
        continue;
      p->first[other] = 1;
      p->order[ranked++] = static_cast<int32_t>(other);
    }
  }
  // The starts follow from the order: a block ends where the sequence changes or the block is full.
  int64_t block = 0;
  for (int64_t rank = 0; rank < rows; ++rank) {
    const bool opens =
        rank == 0 || rank - p->first[block - 1] == p->rows_of_block() ||
        sequence_of(a.sequence, p->order[rank]) != sequence_of(a.sequence, p->order[rank - 1]);
    if (opens) p->first[block++] = static_cast<int32_t>(rank);
  }
  p->blocks = block;
  p->first[block] = static_cast<int32_t>(rows);
}

void load_queries(const Plan& p) {
  with_float_type(p.a.query.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    parallel_for(p.heads(), 64, [&](int64_t begin, int64_t end) {
      for (int64_t head = begin; head < end; ++head) {
        const T* rows = static_cast<const T*>(p.a.query.data);
        const int64_t row = p.row_of(head) * p.a.query.stride;
        p.query.load(rows + row + p.query_head_of(head) * p.dim, head);
      }
    });
  });
}

// ---- one tile -----------------------------------------------------------------------------------

// The lines of the next tile, prefetched while this one is worked on, into L2: a tile of several KV
// heads is larger than L1. They lie in a run each for values of the first tile, keys and values of
// the next one, at most.
using Ahead = PacedPrefetch<3 * kTile>;

// Where the rows of a tile lie, one a slot.
template <class T>
struct SlotRows {
  const T* base;
  const int64_t* at;

  EXN_SIMD const T* operator[](int slot) const { return base + at[slot]; }
  EXN_SIMD SlotRows from(int slot) const { return {base, at + slot}; }
};

// Whether a step of kX queries prefetches by itself. With a single one it is memory that takes the
// time. Otherwise a step on few accumulators is over before what prefetch() keeps has been through
// memory, and several have a share.
template <int kX>
constexpr bool kPrefetchesEach = kX == 1 || kRegisters == 32;
// Slots that have a share of values.
constexpr int kShareSlots = 32;
// Lines that a step on kN pairs prefetches from a share: no more than it reads, but whole requests.
template <class T, int kN>
constexpr int kStepLines = (kN * kPair * static_cast<int>(sizeof(T)) + Ahead::kAtOnce * 64 - 1) /
                           (Ahead::kAtOnce * 64) * Ahead::kAtOnce;

// out[w] = <key w, query> for a single query: one key after another, as they lie in memory.
template <class P, class T, int kW>
EXN_SIMD void score_single(const SlotRows<T>& key, const typename P::Query* query, int64_t dim,
                           float* out, Ahead* ahead) {
  f32v acc[kW];
  for (int w = 0; w < kW; ++w) {
    ahead->prefetch();
    f32v sum = zero();
    int64_t i = 0;
    for (; i + kPair <= dim; i += kPair) sum = P::add(P::key(key[w] + i), P::query(query + i), sum);
    if (i < dim) {
      const int n = static_cast<int>(dim - i);
      sum = P::add(P::key_n(key[w] + i, n), P::query(query + i), sum);
    }
    acc[w] = sum;
  }
  float sums[kW];
  fold_vectors(acc, sums);
  for (int w = 0; w < kW; ++w) out[w] = sums[w];
}

// out[x * kTile + w] = <key w, query x>: one accumulator vector each, pairs of elements in
// ascending order, all first vectors before the second ones, so that no multiplication waits for
// the one before it. Two keys by four queries are eight sums, beside which the keys' four vectors
// have space. What takes the time is the instructions, of which a core begins some four a cycle,
// not the multiplications, two a cycle: hence no unrolled steps, whose addresses would be computed.
template <class P, class T, int kW, int kX>
EXN_SIMD void score_block(const SlotRows<T>& rows, const typename P::Query* query, int64_t stride,
                          int64_t dim, float* out, Ahead::Share* next) {
  const T* key[kW];
  for (int w = 0; w < kW; ++w) key[w] = rows[w];
  f32v acc[kX * kW];
  for (f32v& v : acc) v = zero();
  const auto step = [&](int64_t at, auto load_key) EXN_FLAT {
    next->prefetch<kStepLines<T, kW>>();
    decltype(load_key(key[0])) k[kW];
    for (int w = 0; w < kW; ++w) k[w] = load_key(key[w] + at);
    for (int turn = 0; turn < P::kTurns; ++turn) {
      for (int x = 0; x < kX; ++x) {
        const auto q = P::query(query + x * stride + at, turn);
        for (int w = 0; w < kW; ++w) acc[x * kW + w] = P::add(k[w], q, acc[x * kW + w], turn);
      }
    }
  };
  int64_t i = 0;
  for (; i + kPair <= dim; i += kPair) step(i, [](const T* p) EXN_FLAT { return P::key(p); });
  if (i < dim) {
    const int n = static_cast<int>(dim - i);
    step(i, [n](const T* p) EXN_FLAT { return P::key_n(p, n); });
  }
  float sums[kX * kW];
  fold_vectors(acc, sums);
  for (int x = 0; x < kX; ++x) {
    for (int w = 0; w < kW; ++w) out[x * kTile + w] = sums[x * kW + w];
  }
}

#if defined(EXN_HAS_BF16_DOT)
// Keys with which lines are asked for once: less work than with each, and as even.
constexpr int kKeysOfAPrefetch = 4;

// The same for two to four queries of kSteps pairs that stay in registers while keys pass by, one
// after another as they lie in memory. Takes sixteen keys at a time and returns how many it took.
template <int kX, int kSteps>
EXN_SIMD int score_held(const SlotRows<bf16>& key, int count, const bf16* query, int64_t stride,
                        float* out, Ahead* ahead) {
  const Held<kX, kSteps> held(query, stride);
  int w = 0;
  for (; w + kHeldKeys <= count; w += kHeldKeys) {
    int taken = 0;
    const auto next_key = [&]() EXN_FLAT {
      if (taken % kKeysOfAPrefetch == 0) ahead->prefetch();
      return key[w + taken++];
    };
    f32v sums[4];
    held.multiply(next_key, sums);
    for (int x = 0; x < kX; ++x) store(out + x * kTile + w, sums[x]);
  }
  return w;
}
#endif

#if defined(EXN_HAS_ODD_LOADS)
// sum[x][i] += p[x][t] V[t][i] for t in [begin, end), where i are the elements of the first or the
// second vectors of kV pairs from `column` on; slots in ascending order. Three vectors by four
// queries are twelve sums, so that no multiplication waits for the one before it; a vector of V is
// widened for four of them, a weight loaded for three.
template <class T, int kV, int kX, bool kSecond>
EXN_SIMD void weigh_chain(const SlotRows<T>& value, int begin, int end, const float* p, float* sum,
                          int64_t stride, int64_t column, Ahead* ahead) {
  float* const to = sum + column + (kSecond ? kLanes : 0);
  f32v acc[kX * kV];
  for (int x = 0; x < kX; ++x) {
    for (int d = 0; d < kV; ++d) acc[x * kV + d] = load(to + x * stride + d * kPair);
  }
  for (int partial = begin; partial < end; partial += kShareSlots) {
    const int last = partial + kShareSlots < end ? partial + kShareSlots : end;
    Ahead::Share next = ahead->share(kShareSlots * kStepLines<T, 1>);
    for (int t = partial; t < last; ++t) {
      next.prefetch<kStepLines<T, 1>>();
      const T* at = value[t] + column;
      f32v v[kV];
      load_halves<kSecond, T>([&](int d) EXN_FLAT { return at + d * kPair; }, t, v);
      for (int x = 0; x < kX; ++x) {
        const f32v weight = set1(p[x * kTile + t]);
        for (int d = 0; d < kV; ++d) acc[x * kV + d] = fma(weight, v[d], acc[x * kV + d]);
      }
    }
  }
  for (int x = 0; x < kX; ++x) {
    for (int d = 0; d < kV; ++d) store(to + x * stride + d * kPair, acc[x * kV + d]);
  }
}
#endif

// Keys of a block.
template <int kX>
constexpr int kKeys = kX == 1   ? kSums
                      : kX == 2 ? kSums / 2
                                : kSums / 4;

// Not inlined, like its sister below: on their own both have registers enough.
template <class P, class T, int kX>
__attribute__((noinline)) void score_keys(const SlotRows<T>& key, int count,
                                          const typename P::Query* query, int64_t stride,
                                          int64_t dim, float* out, Ahead* ahead) {
  constexpr int kW = kKeys<kX>;
  int w = 0;
#if defined(EXN_HAS_BF16_DOT)
  if constexpr (std::is_same_v<P, Pairs> && kX > 1) {
    if (dim == 4 * kPair) w = score_held<kX, 4>(key, count, query, stride, out, ahead);
    if (dim == 2 * kPair) w = score_held<kX, 2>(key, count, query, stride, out, ahead);
  }
#endif
  if constexpr (kX == 1) {
    for (; w + kW <= count; w += kW)
      score_single<P, T, kW>(key.from(w), query, dim, out + w, ahead);
  }
  if (w == count) return;
  const int64_t lines = (count - w) / kW * kStepLines<T, kW> + (count - w) % kW * kStepLines<T, 1>;
  Ahead::Share next = ahead->share(lines * ((dim + kPair - 1) / kPair));
  for (; w + kW <= count; w += kW)
    score_block<P, T, kW, kX>(key.from(w), query, stride, dim, out + w, &next);
  for (; w < count; ++w) score_block<P, T, 1, kX>(key.from(w), query, stride, dim, out + w, &next);
}

// sum[x][i] += p[x][t] V[t][i] for t in [begin, end) and kD pairs of vectors from `column` on, each
// of n elements; slots in ascending order.
template <class T, int kD, int kX>
EXN_SIMD void weigh_columns(const SlotRows<T>& value, int begin, int end, const float* p,
                            float* sum, int64_t stride, int64_t column, int n, Ahead* ahead) {
  constexpr int kLines = kStepLines<T, kD> + 1;  // more than keys, see Shares
  f32v acc[kX * kD * 2];
  for (int x = 0; x < kX; ++x) {
    for (int d = 0; d < 2 * kD; ++d) {
      acc[x * kD * 2 + d] = load(sum + x * stride + column + d * kLanes);
    }
  }
  const auto step = [&](int t) EXN_FLAT {
    f32v weight[kX];
    for (int x = 0; x < kX; ++x) weight[x] = set1(p[x * kTile + t]);
    const T* at = value[t] + column;
    for (int d = 0; d < kD; ++d) {
      f32v a, b;
      if (n == kPair) {
        load_pair(at + d * kPair, a, b);
      } else {
        load_pair_n(at + d * kPair, n, a, b);
      }
      for (int x = 0; x < kX; ++x) {
        f32v* to = acc + (x * kD + d) * 2;
        to[0] = add_product(weight[x], a, to[0]);
        to[1] = add_product(weight[x], b, to[1]);
      }
    }
  };
  for (int t = begin; kPrefetchesEach<kX> && t < end; ++t) {
    ahead->prefetch();
    step(t);
  }
  for (int partial = begin; !kPrefetchesEach<kX> && partial < end; partial += kShareSlots) {
    const int last = partial + kShareSlots < end ? partial + kShareSlots : end;
    Ahead::Share next = ahead->share(kShareSlots * kLines);
    for (int t = partial; t < last; ++t) {
      next.prefetch<kLines>();
      step(t);
    }
  }
  for (int x = 0; x < kX; ++x) {
    for (int d = 0; d < 2 * kD; ++d) {
      store(sum + x * stride + column + d * kLanes, acc[x * kD * 2 + d]);
    }
  }
}

// Pairs of columns whose sums stay in registers.
template <int kX>
constexpr int kColumns = kX == 1   ? 4
                         : kX == 2 ? kSums / 4
                                   : kSums / 8;

template <class T, int kX>
__attribute__((noinline)) void weigh_values(const SlotRows<T>& value, int begin, int end,
                                            const float* p, float* sum, int64_t stride, int64_t dim,
                                            Ahead* ahead) {
  constexpr int kD = kColumns<kX>;
  int64_t i = 0;
#if defined(EXN_HAS_ODD_LOADS)
  if constexpr (kX > 2) {
    const auto both = [&](auto pairs) EXN_FLAT {
      constexpr int kV = decltype(pairs)::value;
      weigh_chain<T, kV, kX, false>(value, begin, end, p, sum, stride, i, ahead);
      weigh_chain<T, kV, kX, true>(value, begin, end, p, sum, stride, i, ahead);
      i += kV * kPair;
    };
    while (i + 3 * kPair <= dim) both(std::integral_constant<int, 3>());
    if (i + 2 * kPair <= dim) both(std::integral_constant<int, 2>());
  }
#endif
  for (; i + kD * kPair <= dim; i += kD * kPair) {
    weigh_columns<T, kD, kX>(value, begin, end, p, sum, stride, i, kPair, ahead);
  }
  // Single pairs leave the multipliers waiting for their sums.
  if constexpr (kD > 2) {
    for (; i + 2 * kPair <= dim; i += 2 * kPair) {
      weigh_columns<T, 2, kX>(value, begin, end, p, sum, stride, i, kPair, ahead);
    }
  }
  for (; i + kPair <= dim; i += kPair) {
    weigh_columns<T, 1, kX>(value, begin, end, p, sum, stride, i, kPair, ahead);
  }
  if (i < dim) {
    weigh_columns<T, 1, kX>(value, begin, end, p, sum, stride, i, static_cast<int>(dim - i), ahead);
  }
}

// How often the two passes over `count` slots prefetch.
template <int kX>
int64_t score_prefetches(int count, [[maybe_unused]] bool held) {
#if defined(EXN_HAS_BF16_DOT)
  if (held && kX > 1)
    return count / kHeldKeys * (kHeldKeys / kKeysOfAPrefetch) + (count % kHeldKeys > 0 ? 1 : 0);
#endif
  return kX == 1 ? count / kKeys<kX> * kKeys<kX> + (count % kKeys<kX> > 0 ? 1 : 0) : 1;
}
template <int kX>
int64_t weigh_prefetches(int count, int64_t dim) {
  constexpr int64_t kWidest = kColumns<kX> * kPair, kDouble = 2 * kPair;
  const int64_t rest = dim % kWidest;
  int64_t passes = dim / kWidest + rest / kDouble + (rest % kDouble + kPair - 1) / kPair;
#if defined(EXN_HAS_ODD_LOADS)
  const int64_t pairs = dim / kPair, single = pairs % 3 == 1 ? 1 : 0;
  if (kX > 2) passes = (pairs + 1) / 3 * 2 + single + (dim % kPair > 0 ? 1 : 0);
#endif
  return (kPrefetchesEach<kX> ? count : (count + kShareSlots - 1) / kShareSlots) * passes;
}

// ---- softmax ------------------------------------------------------------------------------------

// Turns the scores of a tile, times `scale`, into weights against the running maximum, for kX heads
// side by side: each is a long chain of operations. `shrink` is what the sums so far shrink by.
// Prefetches once for each head.
template <int kX>
__attribute__((noinline)) void weigh_scores(float (*s)[kTile], const float* scale, float* top,
                                            float* total, float* shrink, Ahead* ahead) {
  constexpr int kVectors = kTile / kLanes;
  static_assert(kX <= kLanes);
  float now[kX], base[kX], drop[kLanes] = {};
  for (int x = 0; x < kX; ++x) {
    ahead->prefetch();
    f32v highest = set1(top[x]);
    for (int v = 0; v < kVectors; ++v) {
      const f32v scaled = mul(load(s[x] + v * kLanes), set1(scale[x]));
      highest = max(scaled, highest);  // a NaN is not the highest
      store(s[x] + v * kLanes, scaled);
    }
    now[x] = reduce_max(highest);
    base[x] = now[x] == kLowest ? 0 : now[x];  // -inf - -inf would be NaN
    drop[x] = top[x] - base[x];
  }
  store(drop, exp_negative(load(drop)));
  constexpr int kBeside = kGroup < kVectors ? kGroup : kVectors;
  for (int x = 0; x < kX; ++x) {
    f32v sum = zero();
    for (int v = 0; v < kVectors; v += kBeside)
      sum = weigh_vectors<kBeside>(s[x] + v * kLanes, set1(base[x]), sum);
    shrink[x] = drop[x];
    total[x] = total[x] * shrink[x] + reduce_add(sum);
    top[x] = now[x];
  }
}

EXN_SIMD void shrink_sums(float* sum, int64_t stride, float shrink) {
  if (shrink == 1) return;
  for (int64_t i = 0; i < stride; i += kLanes) store(sum + i, mul(load(sum + i), set1(shrink)));
}

// to += from, where `from` holds later slots.
void merge_states(const States& to, const States& from) {
  // What the state with the smaller maximum shrinks by; equal ones may both be -inf.
  const bool rises = *from.top > *to.top;
  const float gap = rises ? *to.top - *from.top : *from.top - *to.top;
  float lanes[kLanes];
  store(lanes, exp_negative(set1(*to.top == *from.top ? 0 : gap)));
  const float old_weight = rises ? lanes[0] : 1, new_weight = rises ? 1 : lanes[0];
  const float now = rises ? *from.top : *to.top;
  *to.top = now;
  *to.total = *to.total * old_weight + *from.total * new_weight;
  for (int64_t i = 0; i < to.stride; i += kLanes) {
    const f32v kept = mul(load(to.sum + i), set1(old_weight));
    store(to.sum + i, add(kept, mul(load(from.sum + i), set1(new_weight))));
  }
}

}  // namespace
}  // namespace exn::cpu::EXN_ISA
