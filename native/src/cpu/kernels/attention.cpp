// SPDX-License-Identifier: Apache-2.0
// attention on the CPU: a pass over K and V in tiles of slots, with a running maximum.
//
// A sequence's slots fall into chunks of kChunk and those into tiles of kTile, both counted from
// slot 0. A head's state (maximum, sum, weighted sum of V) is carried through the tiles of a chunk,
// and the states of chunks are merged in ascending order, whoever computed them. Products and sums
// keep their order within a tile whatever rows they are computed beside. So a row has the same bits
// for every thread count and in every batch.
//
// Rows of one sequence pass over K and V together, with all query heads of a KV head; for a few
// rows the chunks of a sequence are work items of their own, so that threads share one long
// sequence.
#include <cmath>

#include "../ids.h"
#include "kv.h"
#include "products.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int kTile = 64;
constexpr int64_t kChunk = 512;
// Query heads of a work item that pass over a tile together.
constexpr int kSlab = 32;
// Up to so many rows, chunks are separate work items.
constexpr int64_t kFewRows = 16;
constexpr float kLowest = -HUGE_VALF;

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// States are padded to whole vectors of every kind.
int64_t state_stride(int64_t dim) { return (dim + 31) / 32 * 32; }

// What is known of some query heads over some slots: sum_t e^(s - top) and the same sum of V.
struct States {
  float* top = nullptr;
  float* total = nullptr;
  float* sum = nullptr;  // [heads, stride]
  int64_t stride = 0;

  States at(int64_t head) const { return {top + head, total + head, sum + head * stride, stride}; }
};

// Scratch and order of a call. Query heads are numbered [kv head][rank of the row][head of the
// group], so that those of a work item lie side by side.
struct Plan {
  const AttentionArgs& a;
  int64_t group, dim, stride, chunks;
  bool few;
  float* query = nullptr;    // [heads, stride], times scale
  int32_t* order = nullptr;  // rows by rank: those of one block lie side by side
  int32_t* first = nullptr;  // first rank of each block, and the end
  int64_t blocks = 0;
  int64_t kv_heads;    // of a work item
  States whole, part;  // few rows: `part` has a state for each chunk [chunk][head]

  explicit Plan(const AttentionArgs& args)
      : a(args),
        group(args.query.heads / args.cache.heads),
        dim(args.cache.dim),
        stride(state_stride(args.cache.dim)),
        chunks((args.cache.slots + kChunk - 1) / kChunk),
        few(args.query.rows <= kFewRows),
        kv_heads(few ? neighbours(args) : 1) {}

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
    query = ws.take<float>(heads() * stride);
    order = ws.take<int32_t>(a.query.rows);
    first = ws.take<int32_t>(a.query.rows + 1);
    whole = take_states(ws, heads());
    if (chunks > 1) part = take_states(ws, few ? heads() * chunks : heads());
  }
};

// ---- blocks of rows
// ----------------------------------------------------------------------------------

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
    for (int64_t head = 0; head < p.heads(); ++head) {
      const T* from = static_cast<const T*>(p.a.query.data) + p.row_of(head) * p.a.query.stride +
                      p.query_head_of(head) * p.dim;
      float* to = p.query + head * p.stride;
      for_vectors(p.dim, [&](int64_t i, int n) EXN_FLAT {
        store_part(to + i, mul(load_part(from + i, n, 0.0f), set1(p.a.scale)), n);
      });
      for (int64_t i = p.dim; i < p.stride; ++i) to[i] = 0;
      with_float_type(p.a.cache.dtype,
                      [&](auto cache) { order_pairs<EXN_TYPE_OF(cache)>(to, p.stride); });
    }
  });
}

// ---- one tile
// ----------------------------------------------------------------------------------------

// Asks for the lines of the next tile while this one is worked on, a few at a time and in the order
// of addresses, into L2: a tile of several KV heads is larger than L1.
class Ahead {
 public:
  // Bytes at `begin` come next.
  EXN_SIMD void add(const char* begin, int64_t bytes) {
    if (runs_ > 0 && end_[runs_ - 1] == begin) {
      end_[runs_ - 1] += bytes;
    } else {
      begin_[runs_] = begin;
      end_[runs_++] = begin + bytes;
    }
    lines_ += (bytes + 63) / 64;
  }
  // There will be so many calls of ask().
  EXN_SIMD void spread(int64_t calls) { share_ = lines_ / (calls < 1 ? 1 : calls) + 1; }

  EXN_SIMD void ask() {
    for (int64_t left = share_; left > 0 && run_ < runs_; ++run_) {
      const char* at = begin_[run_];
      const char* last = at + left * 64 < end_[run_] ? at + left * 64 : end_[run_];
      left -= (last - at + 63) / 64;
      for (; at < last; at += 64) prefetch_far(at);
      begin_[run_] = at;
      if (at < end_[run_]) return;
    }
  }

 private:
  const char* begin_[kTile];
  const char* end_[kTile];
  int runs_ = 0, run_ = 0;
  int64_t lines_ = 0, share_ = 0;
};

// Accumulators that a block of scores or of weighted sums keeps in registers.
constexpr int kSums = kRegisters == 32 ? 16 : 8;

// Slots between two requests.
constexpr int kAskEvery = 4;

// out[w] = <key w, query> for a single query: one key after another, as they lie in memory.
template <class T, int kW>
EXN_SIMD void score_single(const T* const* key, const float* query, int64_t dim, float* out,
                           Ahead* ahead) {
  f32v acc[kW];
  for (int w = 0; w < kW; ++w) {
    if (w % kAskEvery == 0 && ahead != nullptr) ahead->ask();
    f32v sum = zero();
    int64_t i = 0;
    const auto step = [&](const f32v& a, const f32v& b) EXN_FLAT {
      sum = fma(a, load(query + i), sum);
      sum = fma(b, load(query + i + kLanes), sum);
    };
    f32v a, b;
    for (; i + kPair <= dim; i += kPair) {
      load_pair(key[w] + i, a, b);
      step(a, b);
    }
    if (i < dim) {
      load_pair_n(key[w] + i, static_cast<int>(dim - i), a, b);
      step(a, b);
    }
    acc[w] = sum;
  }
  float sums[kW];
  fold_vectors(acc, sums);
  for (int w = 0; w < kW; ++w) out[w] = sums[w];
}

// out[x * kTile + w] = <key w, query x>: one accumulator vector each, pairs of elements in
// ascending order.
template <class T, int kW, int kX>
EXN_SIMD void score_block(const T* const* key, const float* query, int64_t stride, int64_t dim,
                          float* out, Ahead* ahead) {
  f32v acc[kX * kW];
  for (f32v& v : acc) v = zero();
  int64_t i = 0;
  const auto step = [&](auto load_key) EXN_FLAT {
    if (ahead != nullptr) ahead->ask();
    f32v a[kW], b[kW];
    for (int w = 0; w < kW; ++w) load_key(key[w] + i, a[w], b[w]);
    for (int x = 0; x < kX; ++x) {
      const f32v p = load(query + x * stride + i), q = load(query + x * stride + i + kLanes);
      for (int w = 0; w < kW; ++w) {
        f32v& sum = acc[x * kW + w];
        sum = fma(a[w], p, sum);
        sum = fma(b[w], q, sum);
      }
    }
  };
  for (; i + kPair <= dim; i += kPair) {
    step([](const T* p, f32v& a, f32v& b) EXN_FLAT { load_pair(p, a, b); });
  }
  if (i < dim) {
    const int n = static_cast<int>(dim - i);
    step([n](const T* p, f32v& a, f32v& b) EXN_FLAT { load_pair_n(p, n, a, b); });
  }
  float sums[kX * kW];
  fold_vectors(acc, sums);
  for (int x = 0; x < kX; ++x) {
    for (int w = 0; w < kW; ++w) out[x * kTile + w] = sums[x * kW + w];
  }
}

// Keys of a block.
template <int kX>
constexpr int kKeys = kX == 1 ? kSums : kX == 2 ? kSums / 2 : kSums / 4;

// Not inlined, like its sister below: on their own both have registers enough.
template <class T, int kX>
__attribute__((noinline)) void score_keys(const T* const* key, int count, const float* query,
                                          int64_t stride, int64_t dim, float* out, Ahead* ahead) {
  constexpr int kW = kKeys<kX>;
  int w = 0;
  for (; w + kW <= count; w += kW) {
    if constexpr (kX == 1) {
      score_single<T, kW>(key + w, query, dim, out + w, ahead);
    } else {
      score_block<T, kW, kX>(key + w, query, stride, dim, out + w, ahead);
    }
  }
  for (; w < count; ++w) score_block<T, 1, kX>(key + w, query, stride, dim, out + w, nullptr);
}

// sum[x][i] += p[x][t] V[t][i] for t in [begin, end) and kD pairs of vectors from `column` on, each
// of n elements; slots in ascending order.
template <class T, int kD, int kX>
EXN_SIMD void weigh_columns(const T* const* value, int begin, int end, const float* p, float* sum,
                            int64_t stride, int64_t column, int n, Ahead* ahead) {
  f32v acc[kX * kD * 2];
  for (int x = 0; x < kX; ++x) {
    for (int d = 0; d < 2 * kD; ++d) {
      acc[x * kD * 2 + d] = load(sum + x * stride + column + d * kLanes);
    }
  }
  for (int t = begin; t < end; ++t) {
    if (t % kAskEvery == 0 && ahead != nullptr) ahead->ask();
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
        to[0] = fma(weight[x], a, to[0]);
        to[1] = fma(weight[x], b, to[1]);
      }
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
constexpr int kColumns = kX == 1 ? 4 : kSums / 4;

template <class T, int kX>
__attribute__((noinline)) void weigh_values(const T* const* value, int begin, int end,
                                            const float* p, float* sum, int64_t stride, int64_t dim,
                                            Ahead* ahead) {
  constexpr int kD = kColumns<kX>;
  int64_t i = 0;
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
    weigh_columns<T, 1, kX>(value, begin, end, p, sum, stride, i, static_cast<int>(dim - i),
                            ahead);
  }
}

// How often the two passes over `count` slots ask.
template <int kX>
int64_t score_asks(int count, int64_t dim) {
  constexpr int kW = kKeys<kX>;
  return kX == 1 ? count / kW * (kW / kAskEvery) : count / kW * ((dim + kPair - 1) / kPair);
}
template <int kX>
int64_t weigh_asks(int count, int64_t dim) {
  constexpr int64_t kWidest = kColumns<kX> * kPair, kDouble = 2 * kPair;
  const int64_t rest = dim % kWidest;
  const int64_t passes = dim / kWidest + rest / kDouble + (rest % kDouble + kPair - 1) / kPair;
  return (count + kAskEvery - 1) / kAskEvery * passes;
}

// ---- softmax
// -----------------------------------------------------------------------------------------

// Turns the scores of a tile into weights against the running maximum; returns what the sums so far
// shrink by.
float weigh_scores(float* s, float* top, float* total) {
  constexpr int kVectors = kTile / kLanes;
  f32v highest = set1(*top);
  for (int v = 0; v < kVectors; ++v)
    highest = max(load(s + v * kLanes), highest);  // a NaN is not the highest
  const float now = reduce_max(highest);
  const float base = now == kLowest ? 0 : now;  // -inf - -inf would be NaN
  constexpr int kAtOnce = kGroup < kVectors ? kGroup : kVectors;
  f32v sum = zero();
  for (int v = 0; v < kVectors; v += kAtOnce) {
    f32v x[kAtOnce], e[kAtOnce];
    for (int k = 0; k < kAtOnce; ++k) x[k] = sub(load(s + (v + k) * kLanes), set1(base));
    exp_clamped(x, e);
    for (int k = 0; k < kAtOnce; ++k) {
      store(s + (v + k) * kLanes, e[k]);
      sum = add(sum, e[k]);
    }
  }
  float shrink = 1;
  if (*top != base) {
    float lanes[kLanes];
    store(lanes, exp_negative(set1(*top - base)));
    shrink = lanes[0];
  }
  *total = *total * shrink + reduce_add(sum);
  *top = now;
  return shrink;
}

void shrink_sums(float* sum, int64_t stride, float shrink) {
  if (shrink == 1) return;
  for (int64_t i = 0; i < stride; i += kLanes) store(sum + i, mul(load(sum + i), set1(shrink)));
}

// to += from, where `from` holds later slots.
void merge_states(const States& to, const States& from) {
  const float now = *to.top > *from.top ? *to.top : *from.top;
  const float base = now == kLowest ? 0 : now;
  float lanes[kLanes];
  store(lanes, exp_negative(set1(*to.top - base)));
  const float old_part = lanes[0];
  store(lanes, exp_negative(set1(*from.top - base)));
  const float new_part = lanes[0];
  *to.top = now;
  *to.total = *to.total * old_part + *from.total * new_part;
  for (int64_t i = 0; i < to.stride; i += kLanes) {
    const f32v kept = mul(load(to.sum + i), set1(old_part));
    store(to.sum + i, add(kept, mul(load(from.sum + i), set1(new_part))));
  }
}

// ---- one chunk
// ---------------------------------------------------------------------------------------

// Up to kSlab query heads of one KV head and one sequence.
struct Slab {
  int heads = 0;
  int64_t kv_head = 0;
  const float* query = nullptr;
  States state;
  int64_t visible[kSlab];
  float* scores[kSlab];  // of slot 0; null if not asked for
};

// The slots that a head of the slab sees of a tile.
int seen_of(int64_t visible, int64_t tile) {
  return static_cast<int>(visible <= tile ? 0 : smaller(visible - tile, kTile));
}

// Scores of the tile's slots, capped, -inf where a head sees nothing; and out with them if they are
// asked for.
void finish_scores(const AttentionArgs& a, const Slab& slab, int head, int64_t tile, int seen,
                   float* s) {
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

template <class T, int kX>
EXN_SIMD void score_heads(const Plan& p, const Slab& slab, int head, const T* const* key,
                          const int* seen, float (*s)[kTile], Ahead* ahead) {
  int most = 0;
  for (int x = 0; x < kX; ++x) most = seen[head + x] > most ? seen[head + x] : most;
  score_keys<T, kX>(key, most, slab.query + head * p.stride, p.stride, p.dim, s[head], ahead);
}

template <class T, int kX>
EXN_SIMD void weigh_heads(const Plan& p, const Slab& slab, int head, const T* const* value,
                          const int* seen, const float (*s)[kTile], Ahead* ahead) {
  int common = kTile;
  for (int x = 0; x < kX; ++x) common = seen[head + x] < common ? seen[head + x] : common;
  float* sum = slab.state.sum + head * p.stride;
  weigh_values<T, kX>(value, 0, common, s[head], sum, p.stride, p.dim, ahead);
  for (int x = 0; kX > 1 && x < kX; ++x) {
    if (seen[head + x] == common) continue;
    weigh_values<T, 1>(value, common, seen[head + x], s[head + x], sum + x * p.stride, p.stride,
                       p.dim, nullptr);
  }
}

// Calls f(head, kX) for the heads of a slab, kMost at a time while there are so many.
template <int kMost, class F>
EXN_SIMD void for_head_groups(int heads, F&& f) {
  int head = 0;
  for (; head + kMost <= heads; head += kMost) f(head, std::integral_constant<int, kMost>());
  if constexpr (kMost > 3) {
    if (heads - head == 3) f(head, std::integral_constant<int, 3>());
  }
  if constexpr (kMost > 2) {
    if (heads - head == 2) f(head, std::integral_constant<int, 2>());
  }
  if (heads - head == 1) f(head, std::integral_constant<int, 1>());
}

// Query heads that share one load of a key, and of a value.
constexpr int kScoreHeads = 4;
constexpr int kWeighHeads = 2;

// What is asked for while the scores are made, and while values are weighed. The first group of a
// slab's heads asks.
struct Requests {
  Ahead keys, values;

  void spread(int heads, int slabs, int count, int64_t dim) {
    for_head_groups<kScoreHeads>(heads < kScoreHeads ? heads : kScoreHeads,
                                 [&](int, auto group) EXN_FLAT {
      keys.spread(slabs * score_asks<decltype(group)::value>(count, dim));
    });
    for_head_groups<kWeighHeads>(heads < kWeighHeads ? heads : kWeighHeads,
                                 [&](int, auto group) EXN_FLAT {
      values.spread(slabs * weigh_asks<decltype(group)::value>(count, dim));
    });
  }
};

// `offset` says where the rows of KV head 0 lie. The first group of heads asks for what comes next.
template <class T>
void pass_over_tile(const Plan& p, const Slab& slab, int64_t tile, int count, const int64_t* offset,
                    Requests* ahead) {
  const T* row[kTile];
  const int64_t head_at = slab.kv_head * p.a.cache.head_stride;
  for (int t = 0; t < count; ++t) row[t] = static_cast<const T*>(p.a.cache.k) + head_at + offset[t];
  int seen[kSlab];
  for (int head = 0; head < slab.heads; ++head) seen[head] = seen_of(slab.visible[head], tile);
  alignas(64) float s[kSlab][kTile];
  for_head_groups<kScoreHeads>(slab.heads, [&](int head, auto heads) EXN_FLAT {
    score_heads<T, decltype(heads)::value>(p, slab, head, row, seen, s,
                                           head == 0 ? &ahead->keys : nullptr);
  });
  for (int head = 0; head < slab.heads; ++head) {
    if (seen[head] == 0) continue;
    finish_scores(p.a, slab, head, tile, seen[head], s[head]);
    const float shrink = weigh_scores(s[head], slab.state.top + head, slab.state.total + head);
    shrink_sums(slab.state.sum + head * p.stride, p.stride, shrink);
  }
  for (int t = 0; t < count; ++t) row[t] = static_cast<const T*>(p.a.cache.v) + head_at + offset[t];
  for_head_groups<kWeighHeads>(slab.heads, [&](int head, auto heads) EXN_FLAT {
    weigh_heads<T, decltype(heads)::value>(p, slab, head, row, seen, s,
                                           head == 0 ? &ahead->values : nullptr);
  });
}

// Slabs of neighbouring KV heads, whose rows lie side by side in a slot.
constexpr int kSlabs = 8;
struct Slabs {
  int count = 0;
  int64_t sequence = 0;
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

void forget(const Slab& slab, int64_t stride) {
  for (int head = 0; head < slab.heads; ++head) {
    slab.state.top[head] = kLowest;
    slab.state.total[head] = 0;
    float* sum = slab.state.sum + head * stride;
    for (int64_t i = 0; i < stride; ++i) sum[i] = 0;
  }
}

// The states of the slabs' heads over the slots of one chunk.
template <class T>
void pass_over_chunk(const Plan& p, const Slabs& slabs, int64_t chunk) {
  const KvCache& c = p.a.cache;
  for (int i = 0; i < slabs.count; ++i) forget(slabs.slab[i], p.stride);
  // What follows the chunk is asked for as well: the same thread takes it as a rule.
  const int64_t visible = slabs.visible(), end = smaller(visible, (chunk + 1) * kChunk);
  int64_t offset[2][kTile];
  const auto find = [&](int64_t tile, int64_t* at) EXN_FLAT {
    const int count = static_cast<int>(visible <= tile ? 0 : smaller(visible - tile, kTile));
    for (int t = 0; t < count; ++t) at[t] = kv_offset(c, slabs.sequence, 0, tile + t);
    return count;
  };
  const int64_t head_at = slabs.slab[0].kv_head * c.head_stride;
  const int64_t bytes =
      ((slabs.slab[slabs.count - 1].kv_head - slabs.slab[0].kv_head) * c.head_stride + p.dim) *
      static_cast<int64_t>(sizeof(T));
  const bool runs_on =
      c.blocks == nullptr && c.slot_stride * static_cast<int64_t>(sizeof(T)) == bytes;
  int64_t tile = chunk * kChunk;
  int count = find(tile, offset[0]);
  for (int which = 0; tile < end; which ^= 1) {
    const int next = find(tile + kTile, offset[which ^ 1]);
    Requests ahead;
    const auto add = [&](const void* side, const int64_t* at, int rows, Ahead* to) EXN_FLAT {
      const T* base = static_cast<const T*>(side) + head_at;
      if (runs_on && rows > 0) to->add(reinterpret_cast<const char*>(base + at[0]), rows * bytes);
      for (int t = 0; !runs_on && t < rows; ++t)
        to->add(reinterpret_cast<const char*>(base + at[t]), bytes);
    };
    add(c.k, offset[which ^ 1], next, &ahead.keys);
    add(c.v, offset[which ^ 1], next, &ahead.values);
    ahead.spread(slabs.slab[0].heads, slabs.count, count, p.dim);
    for (int i = 0; i < slabs.count; ++i)
      pass_over_tile<T>(p, slabs.slab[i], tile, count, offset[which], &ahead);
    tile += kTile;
    count = next;
  }
}

// ---- work items
// --------------------------------------------------------------------------------------

// Query heads of a block that pass over the cache together: for each of the KV heads of an item up
// to kSlab.
Slabs slabs_of(const Plan& p, int64_t block, int64_t first_kv_head, int64_t first_head) {
  Slabs s;
  s.sequence = sequence_of(p.a.sequence, p.order[p.first[block]]);
  const int64_t heads = (p.first[block + 1] - p.first[block]) * p.group;
  for (int64_t kv = first_kv_head; kv < p.a.cache.heads && kv < first_kv_head + p.kv_heads; ++kv) {
    Slab& slab = s.slab[s.count++];
    const int64_t head = p.number(kv, p.first[block]) + first_head;
    slab.heads = static_cast<int>(smaller(heads - first_head, kSlab));
    slab.kv_head = kv;
    slab.query = p.query + head * p.stride;
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
  return s;
}

// The same heads with their states in `part`.
void move_states(const Plan& p, const States& part, Slabs* s) {
  for (int i = 0; i < s->count; ++i)
    s->slab[i].state = part.at((s->slab[i].query - p.query) / p.stride);
}

int64_t chunks_seen(int64_t visible) { return (visible + kChunk - 1) / kChunk; }

// One chunk, for few rows. The first chunk's state is that of the whole to begin with.
template <class T>
void run_chunk(const Plan& p, Slabs slabs, int64_t chunk) {
  if (chunk > 0 && chunk >= chunks_seen(slabs.visible())) return;
  if (chunk > 0) move_states(p, p.part.at(chunk * p.heads()), &slabs);
  pass_over_chunk<T>(p, slabs, chunk);
}

// All chunks, one after another.
template <class T>
void run_block(const Plan& p, const Slabs& whole) {
  pass_over_chunk<T>(p, whole, 0);
  if (p.chunks < 2) return;
  Slabs part = whole;
  move_states(p, p.part, &part);
  for (int64_t chunk = 1; chunk < chunks_seen(whole.visible()); ++chunk) {
    pass_over_chunk<T>(p, part, chunk);
    for (int i = 0; i < whole.count; ++i) {
      const Slab& slab = whole.slab[i];
      for (int head = 0; head < slab.heads; ++head) {
        if (chunks_seen(slab.visible[head]) > chunk)
          merge_states(slab.state.at(head), part.slab[i].state.at(head));
      }
    }
  }
}

// An item is a block of rows, some neighbouring KV heads and, for few rows, a chunk.
template <class T>
void run_items(const Plan& p) {
  const int64_t kv_items = (p.a.cache.heads + p.kv_heads - 1) / p.kv_heads;
  const int64_t chunks = p.few ? p.chunks : 1;
  parallel_for(p.blocks * kv_items * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t chunk = item % chunks, kv_head = item / chunks % kv_items * p.kv_heads,
                    block = item / chunks / kv_items;
      const int64_t heads = (p.first[block + 1] - p.first[block]) * p.group;
      for (int64_t head = 0; head < heads; head += kSlab) {
        const Slabs slabs = slabs_of(p, block, kv_head, head);
        p.few ? run_chunk<T>(p, slabs, chunk) : run_block<T>(p, slabs);
      }
    }
  });
}

// ---- results
// -----------------------------------------------------------------------------------------

void write_hidden_scores(const Plan& p, int64_t row, int64_t query_head) {
  if (p.a.scores == nullptr) return;
  float* scores = p.a.scores + (row * p.a.query.heads + query_head) * p.a.score_slots;
  for (int64_t t = p.a.visible[row]; t < p.a.score_slots; ++t) scores[t] = kLowest;
}

template <class T>
void write_results(const Plan& p) {
  parallel_for(p.heads(), 64, [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; ++head) {
      const int64_t row = p.row_of(head), query_head = p.query_head_of(head),
                    visible = p.a.visible[row];
      const States state = p.whole.at(head);
      for (int64_t chunk = 1; p.few && chunk < chunks_seen(visible); ++chunk) {
        merge_states(state, p.part.at(chunk * p.heads() + head));
      }
      with_float_type(p.a.cache.dtype,
                      [&](auto cache) { reorder_pairs<EXN_TYPE_OF(cache)>(state.sum, p.stride); });
      const float total = visible > 0 ? *state.total : 1;  // sees nothing: zeros
      T* out = static_cast<T*>(p.a.out.data) + row * p.a.out.stride + query_head * p.dim;
      for_vectors(p.dim, [&](int64_t i, int n) EXN_FLAT {
        store_part(out + i, visible > 0 ? div(load(state.sum + i), set1(total)) : zero(), n);
      });
      write_hidden_scores(p, row, query_head);
    }
  });
}

exn_status check_indices(const AttentionArgs& a) {
  const int64_t rows = a.query.rows;
  exn_status status =
      check_ids("exn_attention", "sequence", a.sequence, rows, 0, a.cache.sequences - 1);
  if (status == EXN_OK)
    status = check_ids("exn_attention", "visible", a.visible, rows, 0, a.cache.slots);
  if (status == EXN_OK && rows > 0 && a.cache.sequences == 0) {
    status = fail(EXN_INVALID_ARGUMENT,
                  "exn_attention: query has %lld rows, but the cache has 0 sequences",
                  static_cast<long long>(rows));
  }
  return status == EXN_OK
             ? check_visible_pages("exn_attention", a.cache, a.sequence, a.visible, rows)
             : status;
}

}  // namespace

exn_status attention(const AttentionArgs& a, Workspace& ws) {
  Plan plan(a);
  plan.take(ws);
  if (ws.counting()) return EXN_OK;
  const exn_status status = check_indices(a);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH("attention"));
  if (a.query.rows == 0) return EXN_OK;
  order_rows(&plan);
  load_queries(plan);
  with_float_type(a.cache.dtype, [&](auto type) { run_items<EXN_TYPE_OF(type)>(plan); });
  with_float_type(a.out.dtype, [&](auto type) { write_results<EXN_TYPE_OF(type)>(plan); });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
