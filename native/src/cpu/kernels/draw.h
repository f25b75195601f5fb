// SPDX-License-Identifier: Apache-2.0
// Draws from softmax(z / temperature): the largest z / temperature + noise, tile by tile.
//
// What costs most is the words of the generator. The noise takes two logarithms more, which are
// taken only where a bound of the score reaches the best that any thread has found in the row: a
// few times in a row, and the draw is the same whichever scores were left out.
#pragma once

#include <exeunt/row_stats.h>

#include <cfloat>

#include "../simd/noise.h"
#include "stats.h"

namespace exn::cpu::EXN_ISA {

// Ids that share blocks: id i of them has word i / 32 of block i % 32.
constexpr int64_t kNoiseIds = 128;

// A score and its id as one number, of which the larger is the better: of equal scores that of the
// smaller id.
static EXN_SIMD uint64_t rank_of(float score, int32_t id) {
  const uint32_t bits = float_to_bits(score + 0.0f);  // of zeros there is one
  const uint32_t ordered = bits ^ ((bits >> 31) != 0 ? 0xffffffffu : 0x80000000u);
  return uint64_t{ordered} << 32 | ~static_cast<uint32_t>(id);
}

static EXN_SIMD float score_of(uint64_t rank) {
  const auto ordered = static_cast<uint32_t>(rank >> 32);
  return bits_to_float(ordered ^ ((ordered >> 31) != 0 ? 0x80000000u : 0xffffffffu));
}

// What a row's draw depends on beside its logits, and the best that was found.
struct RowDraw {
  NoiseRow noise;
  float inverse;  // of the temperature; 0: the draw is the argmax
  uint64_t best;  // its rank; of several threads
};

static EXN_SIMD RowDraw row_draw(const StatsOut& out, int64_t row) {
  const float temperature = out.draw_temperature != nullptr ? out.draw_temperature[row] : 1;
  return {noise_row(static_cast<uint64_t>(out.draw_key[row]),
                    static_cast<uint64_t>(out.draw_counter[row])),
          temperature < 0x1p-126f ? 0 : 1 / temperature, rank_of(-FLT_MAX, -1)};
}

static EXN_SIMD exn_status check_draws(const char* op, const StatsOut& out, int64_t rows) {
  if (out.draw == nullptr || out.draw_temperature == nullptr) return EXN_OK;
  for (int64_t row = 0; row < rows; ++row) {
    const float t = out.draw_temperature[row];
    if (t >= 0 && t < INFINITY) continue;
    return fail(EXN_INVALID_ARGUMENT,
                "%s: out.draw_temperature[%lld] is %g, expected 0 or more, and finite", op,
                static_cast<long long>(row), static_cast<double>(t));
  }
  return EXN_OK;
}

// The best of a row as a thread knows it.
struct BestDraw {
  uint64_t* shared;
  uint64_t rank;
  float score;

  explicit EXN_SIMD BestDraw(RowDraw* row) : shared(&row->best) {
    rank = __atomic_load_n(shared, __ATOMIC_RELAXED);
    score = score_of(rank);
  }

  // Whether any score that is bounded so may be better.
  EXN_SIMD bool may_yield(f32v bound) const {
    return bits_of(less(bound, set1(score))) != (1u << kLanes) - 1;
  }

  // Scores of lanes; -inf is none.
  template <class Id>
  EXN_SIMD void take(f32v scores, Id&& id) {
    const float top = reduce_max(scores);
    if (!(top >= score)) return;
    for (uint32_t at = bits_of(equal(scores, set1(top))); at != 0; at &= at - 1) {
      const uint64_t other = rank_of(top, id(__builtin_ctz(at)));
      if (other > rank) rank = other;
    }
    score = top;
  }

  EXN_SIMD void publish() const {
    uint64_t known = __atomic_load_n(shared, __ATOMIC_RELAXED);
    while (known < rank && !__atomic_compare_exchange_n(shared, &known, rank, true,
                                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
  }
};

static EXN_SIMD word_v load_noise_words(const uint32_t* words) {
  word_v w;
  std::memcpy(&w, words, sizeof w);
  return w;
}

// Takes what is better of kNoiseIds scores, one of which may be.
static __attribute__((noinline)) void take_best(const float* z, const uint32_t* words,
                                                int32_t first, f32v inverse, BestDraw* best) {
  for (int i = 0; i < kNoiseIds; i += kLanes) {
    const word_v w = load_noise_words(words + i);
    const f32v scaled = mul(load(z + i), inverse);
    if (!best->may_yield(add(scaled, gumbel_bound(w)))) continue;
    best->take(add(scaled, gumbel_of(w)), [=](int lane) EXN_FLAT { return first + i + lane; });
  }
  best->publish();
}

// Draws from z[0, n), the ids of which follow `first`, a multiple of kLanes. A function of its own
// keeps its arrays from the stack of all that a head does.
template <class T>
static __attribute__((noinline)) void draw_tile(const T* z, int64_t n, int64_t first,
                                                const LogitMap& map, RowDraw* row) {
  if (row->inverse == 0) return;
  alignas(64) uint32_t words[kNoiseIds];
  alignas(64) float mapped[kNoiseIds];
  const f32v inverse = set1(row->inverse);
  BestDraw best(row);
  for (int64_t at = -(first % kNoiseIds); at < n; at += kNoiseIds) {
    for (int i = 0; i < 32; i += kLanes) {
      const auto block = static_cast<uint32_t>((first + at) / 4 + i);
      const NoiseWords all = noise_words(lane_numbers() + block, row->noise);
      for (int k = 0; k < 4; ++k) std::memcpy(words + 32 * k + i, &all.words[k], sizeof(word_v));
    }
    const float* logits = mapped;
    bool plain = false;
    if constexpr (std::is_same_v<T, float>) {
      plain = map.identity && at >= 0 && at + kNoiseIds <= n;
      if (plain) logits = z + at;
    }
    for (int64_t i = 0; i < kNoiseIds && !plain; i += kLanes) {
      const int64_t place = at + i, rest = place < 0 || n < place ? 0 : n - place;
      const int lanes = static_cast<int>(rest < kLanes ? rest : kLanes);
      store(mapped + i, apply_map(map, load_part(z + (lanes > 0 ? place : 0), lanes, -INFINITY)));
    }
    // The largest logit and the smallest word of each lane: it may be that no score reaches so far.
    f32v high = load(logits);
    word_v least = load_noise_words(words);
    for (int64_t i = kLanes; i < kNoiseIds; i += kLanes) {
      high = max(high, load(logits + i));
      least = smaller(least, load_noise_words(words + i));
    }
    if (best.may_yield(add(mul(high, inverse), gumbel_bound(least))))
      take_best(logits, words, static_cast<int32_t>(first + at), inverse, &best);
  }
}

// The same of ids in any order.
[[maybe_unused]] static __attribute__((noinline)) void draw_listed(const float* z, int64_t n,
                                                                   const int32_t* ids,
                                                                   const LogitMap& map,
                                                                   RowDraw* row) {
  if (row->inverse == 0) return;
  BestDraw best(row);
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    word_v id = {};
    std::memcpy(&id, ids + i, sizeof(int32_t) * static_cast<size_t>(lanes));
    const NoiseWords all = noise_words(id / 128 * 32 + id % 32, row->noise);
    const word_v word = id / 32 % 4;
    const word_v low = word == 0 ? all.words[0] : all.words[1];
    const word_v w = word < 2 ? low : word == 2 ? all.words[2] : all.words[3];
    const f32v scaled = mul(apply_map(map, load_part(z + i, lanes, -INFINITY)), set1(row->inverse));
    if (!best.may_yield(add(scaled, gumbel_bound(w)))) return;
    best.take(add(scaled, gumbel_of(w)), [=](int lane) EXN_FLAT { return ids[i + lane]; });
  });
  best.publish();
}

// Of a row whose argmax is known; -1 where it is invalid.
static EXN_SIMD int32_t draw_of(const RowDraw& row, int32_t argmax) {
  const float score = score_of(row.best);
  const auto id = static_cast<int32_t>(~static_cast<uint32_t>(row.best));
  // Where no score is finite, the temperature is so low that the largest logit has all weight.
  return argmax < 0 || id < 0 || !(std::fabs(score) < INFINITY) ? argmax : id;
}

}  // namespace exn::cpu::EXN_ISA
