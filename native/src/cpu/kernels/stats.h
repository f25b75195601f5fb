// SPDX-License-Identifier: Apache-2.0
// The mergeable statistics of a piece of a row of logits, shared by row_stats and exit_head.
//
// A row is cut into tiles of fixed size, each tile is summarised on its own, and the
// summaries are merged in ascending order: the result depends neither on the number of
// threads nor on which of them did which tile.
//
// Per tile: m = max, then with e = exp(d), d = z - m (StableMax: e = s(z) / s(m), d = g(z) - g(m))
//   S = sum e, T = sum e d, and on demand S2 = sum e^2, T2 = sum e^2 d, Z = sum z.
// From the merged sums: lse = m + ln S, entropy = ln S - T / S, pow2 entropy = ln S2 - 2 T2 / S2.
#pragma once

#include <cmath>
#include <type_traits>

#include "../simd/prefetch.h"
#include "elements.h"

namespace exn::cpu::EXN_ISA {

// Half of a 32 KiB L1, so that the second pass over a tile finds it there. With 8 lanes that pass
// is limited by its arithmetic, which hides the way from L2, and what is done once for each tile
// weighs more: there twice as much. With 4 lanes each would add up too much.
constexpr int64_t kStatsTile = kLanes == 8 ? 8192 : 4096;

// Tiles that a thread takes at a time: a few pieces for each thread, but enough in
// one to hide the hand-over.
static EXN_SIMD int64_t tiles_per_piece(int64_t tiles, int64_t length) {
  const int64_t fair = tiles / (4 * static_cast<int64_t>(threads())), least = 8192 / length + 1;
  return fair > least ? fair : least;
}

// What happens to a raw logit before the normalizer.
struct LogitMap {
  float scale = 1;    // 1 / temperature
  float softcap = 0;  // 0: none
  bool identity = true;
  bool stablemax = false;
};

struct TileStats {
  double sum = 0;       // S
  double weighted = 0;  // T
  double sum2 = 0;
  double weighted2 = 0;
  double total = 0;  // sum of z (StableMax: of g(z)) itself
  double level = 0;  // m after the map; for StableMax g(m)
  float top1 = 0;    // largest and second largest raw logit
  float top2 = 0;
  int32_t index = -1;   // of top1, within the row
  bool broken = false;  // a NaN or +inf was seen
};

static EXN_SIMD f32v apply_map(const LogitMap& map, f32v z) {
  f32v mapped = z;
  if (map.softcap > 0) mapped = mul(set1(map.softcap), tanh(div(z, set1(map.softcap))));
  mapped = mul(mapped, set1(map.scale));
  // -inf is a mask, no logit: the cap does not lift it.
  return select(equal(z, set1(-INFINITY)), z, mapped);
}

// The same of one logit by the vector operations that its row goes through, so that the largest
// logit is where its row looks for it.
static EXN_SIMD float scalar_map(const LogitMap& map, float z) {
  if (map.identity || std::isinf(z)) return z;
  float lanes[kLanes];
  store(lanes, apply_map(map, set1(z)));
  return lanes[0];
}

// ln s(z) of StableMax.
static EXN_SIMD double log_s(float z) {
  return ::copysign(::log1p(::fabs(static_cast<double>(z))), static_cast<double>(z));
}

// The level of a raw logit: what tiles are merged by and probabilities taken from.
static EXN_SIMD double level_of(const LogitMap& map, float raw) {
  const float z = scalar_map(map, raw);
  return map.stablemax ? log_s(z) : static_cast<double>(z);
}

// The level that the terms of a tile refer to. With StableMax by the vector operations that its
// logits go through: the largest is then at its level exactly, or up to the rounding of g, which a
// group that holds an extreme logit takes another way.
static EXN_SIMD float tile_level(const LogitMap& map, float raw) {
  const float z = scalar_map(map, raw);
  if (!map.stablemax) return z;
  const f32v x[1] = {set1(z)};
  f32v s[1], g[1];
  stable_both(x, s, g);
  float lanes[kLanes];
  store(lanes, g[0]);
  return lanes[0];
}

// A group's sum, pairwise.
template <int N>
static EXN_SIMD f32v sum_of(const f32v (&v)[N]) {
  f32v all[N];
  for (int k = 0; k < N; ++k) all[k] = v[k];
  for (int half = N / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) all[k] = add(all[k], all[k + half]);
  }
  return all[0];
}

// Sums of thousands of terms. One chain of f32 additions in each lane would drift: where most of a
// row's logits are equal, so are the errors of adding their terms, and beside a term of 1 each may
// be off by 2^-24. So the groups take turns at kTurns sums, each of which takes in kChain groups;
// then all of them move on to lanes of f64. Small groups afford to do so less often.
constexpr int kTurns = kGroup == 2 ? 8 : 4, kChain = 8;
constexpr int64_t kRun = int64_t{kTurns} * kChain * kGroup * kLanes;

// N sums side by side.
template <int N>
struct Sums {
  f32v acc[kTurns][N];
  f64v low[N], high[N];

  EXN_SIMD Sums() {
    for (auto& turn : acc) {
      for (f32v& p : turn) p = zero();
    }
    for (int k = 0; k < N; ++k) low[k] = high[k] = zero_f64();
  }

  // Those that the group at element i adds to.
  EXN_SIMD f32v (&at(int64_t i)) [N] { return acc[i / (kGroup * kLanes) % kTurns]; }

  // What the lanes of f32 hold.
  EXN_SIMD f32v turns_sum(int k) const {
    f32v all[kTurns];
    for (int turn = 0; turn < kTurns; ++turn) all[turn] = acc[turn][k];
    return sum_of(all);
  }

  // Moves that on.
  EXN_SIMD void settle() {
    for (int k = 0; k < N; ++k) {
      const f32v sum = turns_sum(k);
      for (int turn = 0; turn < kTurns; ++turn) acc[turn][k] = zero();
      low[k] = add(low[k], low_f64(sum));
      high[k] = add(high[k], high_f64(sum));
    }
  }

  EXN_SIMD double total(int k) const {
    const f32v sum = turns_sum(k);
    return reduce_add(add(add(low[k], low_f64(sum)), add(high[k], high_f64(sum))));
  }
};

// What a tile's second pass adds up.
enum { kSumE, kSumED, kSumE2, kSumE2D, kSumZ, kAllSums };

template <bool kFull, int N, int M>
static EXN_SIMD void add_terms(f32v (&sums)[M], const f32v (&e)[N], const f32v (&d)[N],
                               const f32v (&z)[N]) {
  sums[kSumE] = add(sums[kSumE], sum_of(e));
  f32v t = sums[kSumED];
  for (int k = 0; k < N; ++k) t = fma(e[k], d[k], t);
  sums[kSumED] = t;
  if constexpr (kFull) {
    f32v e2[N];
    for (int k = 0; k < N; ++k) e2[k] = mul(e[k], e[k]);
    sums[kSumE2] = add(sums[kSumE2], sum_of(e2));
    f32v t2 = sums[kSumE2D];
    for (int k = 0; k < N; ++k) t2 = fma(e2[k], d[k], t2);
    sums[kSumE2D] = t2;
    sums[kSumZ] = add(sums[kSumZ], sum_of(z));
  }
}

// Pieces of a tile whose lane maxima the first look at it keeps: the two largest are then looked
// for in one piece alone.
constexpr int64_t kPiece = 256;
constexpr int64_t kMaxPieces = kStatsTile / kPiece;

template <class T>
static EXN_SIMD f32v lane_max(const T* z, int64_t n) {
  f32v hi[4];
  for (f32v& h : hi) h = set1(-INFINITY);
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int k = 0; k < 4; ++k) hi[k] = max(hi[k], load(z + i + k * kLanes));
  }
  for_vectors(n - i, [&](int64_t j, int rest) EXN_FLAT {
    hi[0] = max(hi[0], load_part(z + i + j, rest, -INFINITY));
  });
  return max(max(hi[0], hi[1]), max(hi[2], hi[3]));
}

// The second largest of z[0, n), the largest of which is `top`.
template <class T>
static EXN_SIMD float second_largest(const T* z, int64_t n, float top) {
  const f32v lowest = set1(-INFINITY);
  f32v hi = lowest, lo = lowest;
  for_vectors(n, [&](int64_t i, int rest) EXN_FLAT {
    const f32v x = load_part(z + i, rest, -INFINITY);
    lo = max(lo, min(hi, x));
    hi = max(hi, x);
  });
  const maskv is_top = equal(hi, set1(top));
  const uint32_t lanes = bits_of(is_top);
  if ((lanes & (lanes - 1)) != 0) return top;
  return reduce_max(max(lo, select(is_top, lowest, hi)));
}

// A piece of a row that a thread summarises after the present one; n = 0: there is none.
template <class T>
struct Span {
  const T* z = nullptr;
  int64_t n = 0;
};

// Lane maxima of a tile, piece by piece.
struct Peaks {
  f32v at[kMaxPieces];
};

// Those of the pieces from `first` on.
template <class T>
static EXN_SIMD void find_peaks(const Span<T>& tile, int64_t first, Peaks* peaks) {
  for (int64_t p = first; p * kPiece < tile.n; ++p) {
    const int64_t rest = tile.n - p * kPiece;
    peaks->at[p] = lane_max(tile.z + p * kPiece, rest < kPiece ? rest : kPiece);
  }
}

// A pass over a tile, whose last, incomplete group is left to the caller: visit(i) for each group
// of vectors, and rest() after each kRun elements. Meanwhile it finds the peaks of the tile that
// comes next: maxima and multiplications keep different units busy, and the memory is read at an
// even pace. Where the pass itself writes nothing, it prefetches kReach bytes farther on, into L2:
// the processor's own prefetching stops at each page, and in L1 what is asked for that early would
// be evicted before its use.
template <int kReach, class T, class F, class G>
static EXN_SIMD void pass_over(int64_t n, const Span<T>& next, Peaks* peaks, F&& visit, G&& rest) {
  const int64_t both = (n < next.n ? n : next.n) / kPiece;
  constexpr int64_t kStep = kGroup * kLanes;
  static_assert(kPiece % kStep == 0 && kRun % kPiece == 0, "a run is pieces, a piece whole groups");
  constexpr int kSize = static_cast<int>(sizeof(T));
  constexpr int kLines = (kStep * kSize + kLine - 1) / kLine;
  for (int64_t p = 0; p < both; ++p) {
    f32v high[kGroup];
    for (f32v& h : high) h = set1(-INFINITY);
    for (int64_t i = p * kPiece; i < (p + 1) * kPiece; i += kStep) {
      if constexpr (kReach > 0) prefetch_lines<kLines>(next.z + i + kReach / kSize);
      // Or Zen 4 waits for memory. With fewer registers the compiler stores all sums there.
      if constexpr (kReach > 0 && kLanes == 16) in_order();
      for (int k = 0; k < kGroup; ++k) high[k] = max(high[k], load(next.z + i + k * kLanes));
      visit(i);
    }
    for (int k = 1; k < kGroup; ++k) high[0] = max(high[0], high[k]);
    peaks->at[p] = high[0];
    if ((p + 1) % (kRun / kPiece) == 0) rest();
  }
  for (int64_t i = both * kPiece; i + kStep <= n; i += kStep) {
    visit(i);
    if ((i + kStep) % kRun == 0) rest();
  }
  find_peaks(next, both, peaks);
}

// The two largest of a tile and where the largest is. A NaN may hide the
// largest; the sums then tell.
template <class T>
static EXN_SIMD void find_top(const T* z, int64_t n, int64_t offset, const Peaks& peaks,
                              TileStats* out) {
  const f32v* high = peaks.at;
  f32v all = set1(-INFINITY);
  const int64_t pieces = (n + kPiece - 1) / kPiece;
  for (int64_t p = 0; p < pieces; ++p) all = max(all, high[p]);
  out->top1 = reduce_max(all);
  out->top2 = -INFINITY;
  out->broken = out->broken || out->top1 == INFINITY;
  const f32v wanted = set1(out->top1);
  int64_t winner = 0;
  while (winner < pieces && bits_of(equal(high[winner], wanted)) == 0) ++winner;
  if (winner == pieces) return;
  f32v others = set1(-INFINITY);
  for (int64_t p = 0; p < pieces; ++p) {
    if (p != winner) others = max(others, high[p]);
  }
  const int64_t first = winner * kPiece;
  const int64_t length = n - first < kPiece ? n - first : kPiece;
  const float here = second_largest(z + first, length, out->top1), elsewhere = reduce_max(others);
  out->top2 = here > elsewhere ? here : elsewhere;
  for (int64_t j = first; j < first + length; j += kLanes) {
    const int rest = static_cast<int>(n - j < kLanes ? n - j : kLanes);
    const uint32_t lanes = bits_of(equal(load_part(z + j, rest, NAN), wanted));
    if (lanes != 0) {
      const int64_t at = j + __builtin_ctz(lanes);
      out->index = static_cast<int32_t>(offset + at);
      out->top1 = to_float(z[at]);  // its own sign, where +0 and -0 tie
      return;
    }
  }
}

// The sum of a tile's logits, of which that in f32 is -inf: one of them is, or they are very large.
template <class T>
__attribute__((noinline)) double sum_apart(const T* z, int64_t n) {
  f32v most = zero();
  for_vectors(n, [&](int64_t i, int rest) EXN_FLAT {
    most = max(sub(zero(), load_part(z + i, rest, 0)), most);
  });
  if (reduce_max(most) == INFINITY) return -INFINITY;
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(to_float(z[i]));
  return sum;
}

// Second pass, over mapped logits. kFull: S2, T2 and Z too.
template <class T, bool kStable, bool kFull>
__attribute__((noinline)) void sum_up(const T* z, int64_t n, const LogitMap& map,
                                      const Span<T>& next, Peaks* peaks, TileStats* out) {
  const float level = tile_level(map, out->top1);
  const f32v minus_level = set1(-level);  // an addition takes its other operand from memory
  // s(m) > 0 may be subnormal or near FLT_MAX; its reciprocal is taken branch
  // by branch and stays finite.
  const float top = scalar_map(map, out->top1);
  const f32v over_s = set1(top >= 0 ? 1.0f / (1.0f + top) : 1.0f - top);
  Sums<kFull ? kAllSums : 2> sums;

  const auto visit = [&](auto& x, int64_t at, int rest) EXN_FLAT {
    constexpr int N = sizeof(x) / sizeof(x[0]);
    f32v e[N], d[N], total[N];
    if (kStable) {
      stable_both(x, e, total);
      for (int k = 0; k < N; ++k) {
        e[k] = mul(e[k], over_s);
        total[k] = add(minus_level, total[k]);
      }
      for (int k = 0; k < N; ++k) d[k] = max(set1(-200.0f), total[k]);
    } else {
      // e is 0 at the floor; -inf times that 0 would be NaN.
      for (int k = 0; k < N; ++k) total[k] = add(minus_level, x[k]);
      for (int k = 0; k < N; ++k) d[k] = max(set1(kExpFloor), total[k]);
      exp_floored(d, e);
    }
    if (kFull && rest < kLanes) {
      float lanes[kLanes];
      store(lanes, total[0]);
      for (int l = rest; l < kLanes; ++l) lanes[l] = 0;
      total[0] = load(lanes);
    }
    add_terms<kFull>(sums.at(at), e, d, total);
  };
  const auto group = [&](int64_t i) EXN_FLAT {
    f32v x[kGroup];
    for (int k = 0; k < kGroup; ++k) x[k] = load(z + i + k * kLanes);
    visit(x, i, kLanes);
  };
  pass_over<16384>(n, next, peaks, group, [&]() EXN_FLAT { sums.settle(); });
  const int64_t i = n / (kGroup * kLanes) * (kGroup * kLanes);
  for_vectors(n - i, [&](int64_t j, int rest) EXN_FLAT {
    f32v x[1] = {load_part(z + i + j, rest, -INFINITY)};
    visit(x, i, rest);
  });
  out->sum = sums.total(kSumE);
  out->weighted = sums.total(kSumED);
  if constexpr (kFull) {
    out->sum2 = sums.total(kSumE2);
    out->weighted2 = sums.total(kSumE2D);
    out->total = sums.total(kSumZ) + static_cast<double>(n) * static_cast<double>(level);
    if (!kStable && out->total == -HUGE_VAL) out->total = sum_apart(z, n);
  }
  out->broken = out->broken || !(out->sum >= 0);
}

// Compiled in row_stats.cpp alone.
#define EXN_SUM_UP(T, stable, full)                                                         \
  template void sum_up<T, stable, full>(const T*, int64_t, const LogitMap&, const Span<T>&, \
                                        Peaks*, TileStats*);
#define EXN_SUMS_UP(prefix, T)                                         \
  prefix EXN_SUM_UP(T, false, false) prefix EXN_SUM_UP(T, false, true) \
      prefix EXN_SUM_UP(T, true, false) prefix EXN_SUM_UP(T, true, true)
EXN_SUMS_UP(extern, float)
EXN_SUMS_UP(extern, f16)
EXN_SUMS_UP(extern, bf16)

// The second pass that the caller asks for.
template <class T>
static EXN_SIMD void sum_up_as(const T* z, int64_t n, const LogitMap& map, bool full,
                               const Span<T>& next, Peaks* peaks, TileStats* out) {
  if (map.stablemax) {
    full ? sum_up<T, true, true>(z, n, map, next, peaks, out)
         : sum_up<T, true, false>(z, n, map, next, peaks, out);
  } else {
    full ? sum_up<T, false, true>(z, n, map, next, peaks, out)
         : sum_up<T, false, false>(z, n, map, next, peaks, out);
  }
}

// Scratch for a tile's logits after a map that changes them.
struct MappedTile {
  alignas(64) float z[kStatsTile];
};

// Summarises z[0, n), which starts at `offset` in its row. Takes its peaks and
// leaves those of the next tile.
template <class T>
static EXN_SIMD TileStats summarise(const T* z, int64_t n, int64_t offset, const LogitMap& map,
                                    bool full, const Span<T>& next, Peaks* peaks,
                                    MappedTile& scratch) {
  TileStats out;
  find_top(z, n, offset, *peaks, &out);
  out.level = level_of(map, out.top1);
  if (out.top1 == -INFINITY) {  // nothing but -inf, or NaN among it
    for (int64_t i = 0; i < n; ++i) out.broken = out.broken || std::isnan(to_float(z[i]));
    out.total = -INFINITY;
  }
  if (out.broken || out.top1 == -INFINITY) {
    find_peaks(next, 0, peaks);
    return out;
  }
  if (map.identity) {
    sum_up_as(z, n, map, full, next, peaks, &out);
    return out;
  }
  // A mapped tile is laid down once, so that the passes are compiled for plain logits alone.
  float* const mapped = scratch.z;
  for_vectors(n, [&](int64_t i, int rest) EXN_FLAT {
    store_part(mapped + i, apply_map(map, load_part(z + i, rest, -INFINITY)), rest);
  });
  if constexpr (std::is_same_v<T, float>) {
    sum_up_as(mapped, n, map, full, next, peaks, &out);
  } else {
    sum_up_as(mapped, n, map, full, Span<float>{}, peaks, &out);
    find_peaks(next, 0, peaks);
  }
  return out;
}

// The same for a tile on its own.
template <class T>
static EXN_SIMD TileStats summarise(const T* z, int64_t n, int64_t offset, const LogitMap& map,
                                    bool full, MappedTile& scratch) {
  Peaks peaks;
  find_peaks(Span<T>{z, n}, 0, &peaks);
  return summarise(z, n, offset, map, full, Span<T>{}, &peaks, scratch);
}

// The tiles of one row merged, all sums relative to the level of the largest logit.
static EXN_SIMD TileStats merge(const TileStats* tiles, int64_t count) {
  TileStats all = tiles[0];
  for (int64_t t = 1; t < count; ++t) {
    const TileStats& x = tiles[t];
    all.broken = all.broken || x.broken;
    if (x.top1 > all.top1) {
      all.top2 = all.top1 > x.top2 ? all.top1 : x.top2;
      all.top1 = x.top1;
      all.index = x.index;
      all.level = x.level;
    } else {
      // Tiles of a shortlist need not be in ascending order of ids.
      if (x.top1 == all.top1 && x.index < all.index) {
        all.index = x.index;
        all.top1 = x.top1;  // +0 and -0 tie
      }
      all.top2 = x.top1 > all.top2 ? x.top1 : all.top2;
    }
  }
  all.sum = all.weighted = all.sum2 = all.weighted2 = all.total = 0;
  for (int64_t t = 0; t < count; ++t) {
    const TileStats& x = tiles[t];
    all.total += x.total;
    if (x.top1 == -INFINITY) continue;
    const double shift = x.level - all.level;
    const double f = shift == 0 ? 1 : ::exp(shift);
    all.sum += f * x.sum;
    all.weighted += f * (x.weighted + shift * x.sum);
    all.sum2 += f * f * x.sum2;
    all.weighted2 += f * f * (x.weighted2 + shift * x.sum2);
  }
  return all;
}

// Every label names a column, or is -1: the row has none.
static EXN_SIMD exn_status check_labels(const char* op, const StatsOut& out, int64_t rows,
                                        int64_t columns) {
  for (int64_t row = 0; row < rows && out.labels != nullptr; ++row) {
    if (out.labels[row] >= -1 && out.labels[row] < columns) continue;
    return fail(EXN_INVALID_ARGUMENT, "%s: out.labels[%lld] is %d, expected -1..%lld (V is %lld)",
                op, static_cast<long long>(row), out.labels[row],
                static_cast<long long>(columns - 1), static_cast<long long>(columns));
  }
  return EXN_OK;
}

template <class T>
static EXN_SIMD void put(T* out, int64_t row, double value) {
  if (out != nullptr) out[row] = static_cast<T>(value);
}

// Writes the outputs of one row of `columns` logits from its tiles. `label` is the raw logit of its
// label, NaN if it has none. Returns the row's argmax.
static EXN_SIMD int32_t write_row(const TileStats* tiles, int64_t count, int64_t columns,
                                  const LogitMap& map, const StatsOut& out, int64_t row,
                                  float label = NAN) {
  const TileStats all = merge(tiles, count);
  const bool valid = !all.broken && all.top1 > -INFINITY;
  const double nothing = static_cast<double>(NAN);
  // The largest logit alone adds 1, which StableMax's quotient may miss by its rounding.
  const double sum = all.sum > 1 ? all.sum : 1, sum2 = all.sum2 > 1 ? all.sum2 : 1;
  const double log_sum = ::log(sum);
  const double lse = all.level + log_sum;
  const double p1 = 1 / sum;
  const double p2 = all.top2 == -INFINITY ? 0 : ::exp(level_of(map, all.top2) - lse);
  put(out.valid, row, valid ? 1 : 0);
  put(out.argmax, row, valid ? all.index : -1);
  put(out.max_logit, row, valid ? static_cast<double>(scalar_map(map, all.top1)) : nothing);
  put(out.lse, row, valid ? lse : nothing);
  put(out.p1, row, valid ? p1 : nothing);
  put(out.p2, row, valid ? (p2 < p1 ? p2 : p1) : nothing);
  put(out.margin, row, valid ? (p2 < p1 ? p1 - p2 : 0) : nothing);
  // An entropy is not negative, whatever its last rounding did.
  const auto entropy = [&](double h) EXN_FLAT { return !valid ? nothing : h > 0 ? h : 0; };
  put(out.entropy, row, entropy(log_sum - all.weighted / sum));
  if (out.pow2_entropy != nullptr)
    put(out.pow2_entropy, row, entropy(::log(sum2) - 2 * all.weighted2 / sum2));
  put(out.mean_log_p, row, valid ? all.total / static_cast<double>(columns) - lse : nothing);
  const bool labelled = valid && !std::isnan(label);
  put(out.label_log_p, row, labelled ? level_of(map, label) - all.level - log_sum : nothing);
  return valid ? all.index : -1;
}

static EXN_SIMD LogitMap logit_map(int32_t normalizer, float temperature, float softcap) {
  LogitMap map;
  map.scale = 1 / temperature;
  map.softcap = softcap;
  map.identity = temperature == 1 && softcap == 0;
  map.stablemax = normalizer == EXN_STABLEMAX;
  return map;
}

// Whether some output needs the sums beyond S and T.
static EXN_SIMD bool needs_full(const StatsOut& out) {
  return out.pow2_entropy != nullptr || out.mean_log_p != nullptr;
}

}  // namespace exn::cpu::EXN_ISA
