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
#include "attention_score_keys.h"
#include "score_products.h"
#include "selection.h"

namespace exn::cpu::EXN_ISA {
namespace {

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
  Plan p(a, ws);
  p.take(ws);
  if (ws.counting()) return EXN_OK;
  const exn_status status = check_contents(a);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "attention_scores"));
  with_float_type(a.keys.dtype, [&](auto type) { run_steps<EXN_TYPE_OF(type)>(p); });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
