// SPDX-License-Identifier: Apache-2.0
// stablemax and cross_entropy on the CPU. A row is read from memory once and written once: R * V *
// (read + write) bytes. Within a tile of L1 or L2 the passes are: largest logit (out of place
// StableMax does without, and softmax of f32 where it can); terms e relative to it, kept where the
// output is f32: in it, or beside it if it goes past the caches; then, when the whole row's sum is
// known, one multiplication (16-bit outputs: the terms once more, so that a result is rounded
// once).
#include <cmath>
#include <cstring>

#include "base/args/stablemax.h"
#include "labels.h"
#include "moves.h"
#include "stats.h"

namespace exn::cpu::EXN_ISA {
namespace {

// What becomes of a row; the modes share all but the last step.
enum class Mode { kProbability, kLog, kGradient };

struct RowPlan {
  Mode mode;
  bool stablemax;
  double scale;  // of the gradient
};

// Sum and level of a row, and what a tile's terms must be multiplied with.
struct RowSum {
  double level = 0;
  double sum = 0;
  bool broken = false;
};

RowSum row_sum(const TileStats* tiles, int64_t count) {
  const TileStats all = merge(tiles, count);
  RowSum r;
  r.broken = all.broken || all.top1 == -INFINITY;
  r.level = all.level;
  r.sum = all.sum;
  return r;
}

// e relative to `level` (softmax) or to s(top) (StableMax).
template <bool kStable, bool kScaled, int N>
static EXN_SIMD void terms(const f32v (&x)[N], f32v level, f32v over_s, f32v (&e)[N]) {
  if (kStable) {
    for (int k = 0; k < N; ++k) e[k] = stable_s(x[k]);
    for (int k = 0; kScaled && k < N; ++k) e[k] = mul(e[k], over_s);
    return;
  }
  f32v d[N];
  for (int k = 0; k < N; ++k) d[k] = max(set1(kExpFloor), sub(x[k], level));
  exp_floored(d, e);
}

static EXN_SIMD float reciprocal_s(float top) {
  return top >= 0 ? 1.0f / (1.0f + top) : 1.0f - top;
}

// dz/dx of StableMax's g: 1 / (1 + |x|).
static EXN_SIMD f32v slope(f32v x) { return div(set1(1.0f), add(set1(1.0f), abs(x))); }

// The sum of a tile's terms, which are left in `out` if kKeep. Takes a look at the next
// tile for its peaks. kScaled: the terms are relative to `top`; otherwise `top` is 0, of
// which that is so as well.
template <class T, bool kStable, bool kKeep, bool kScaled>
static __attribute__((noinline)) double sum_terms(const T* z, T* out, int64_t n, Mode mode,
                                                  float top, const Span<T>& next, Peaks* peaks) {
  const f32v level = set1(top), over_s = set1(kStable ? reciprocal_s(top) : 1.0f);
  Sums<1> sums;
  const auto visit = [&](auto& x, int64_t at, int rest) EXN_FLAT {
    constexpr int N = sizeof(x) / sizeof(x[0]);
    f32v e[N];
    terms<kStable, kScaled>(x, level, over_s, e);
    f32v& sum = sums.at(at)[0];
    sum = add(sum, sum_of(e));
    if (!kKeep) return;
    for (int k = 0; k < N; ++k) {
      store_part(out + at + k * kLanes,
                 kStable && mode == Mode::kGradient ? mul(e[k], slope(x[k])) : e[k], rest);
    }
  };
  const auto group = [&](int64_t i) EXN_FLAT {
    f32v x[kGroup];
    for (int k = 0; k < kGroup; ++k) x[k] = load(z + i + k * kLanes);
    visit(x, i, kLanes);
  };
  pass_over<0>(n, next, peaks, group, [&]() EXN_FLAT { sums.settle(); });
  const int64_t i = n / (kGroup * kLanes) * (kGroup * kLanes);
  for_vectors(n - i, [&](int64_t j, int rest) EXN_FLAT {
    f32v x[1] = {load_part(z + i + j, rest, -INFINITY)};
    visit(x, i + j, rest);
  });
  return sums.total(0);
}

// First half: summarises a tile and, for f32 outputs that are a multiple of the terms, leaves the
// terms there. Takes the tile's peaks and leaves those of the next.
template <class T, bool kStable, bool kKeep>
TileStats first_half(const T* z, T* out, int64_t n, Mode mode, const Span<T>& next, Peaks* peaks) {
  TileStats tile;
  f32v high = peaks->at[0];
  for (int64_t p = 1; p * kPiece < n; ++p) high = max(high, peaks->at[p]);
  tile.top1 = reduce_max(high);
  tile.broken = !(tile.top1 < INFINITY);
  // With nothing but -inf in the tile any level gives terms of exactly 0.
  const float top = tile.top1 == -INFINITY ? 0 : tile.top1;
  tile.level = tile.top1 == -INFINITY ? -HUGE_VAL : kStable ? log_s(top) : static_cast<double>(top);
  tile.sum = sum_terms<T, kStable, kKeep, true>(z, out, n, mode, top, next, peaks);
  tile.broken = tile.broken || !(tile.sum >= 0);
  return tile;
}

// StableMax for an output that is not its input: s grows like x itself, so the largest logit need
// not be known beforehand, unless the sum then turns out to be too large, too small or none at all.
// Level 0 is that of a logit of 0. A gradient's terms are s times the slope, which is as small:
// with a sum below 1 they could leave f32's range though their quotient does not.
template <class T, bool kKeep>
TileStats stable_half(const T* z, T* out, int64_t n, Mode mode) {
  constexpr double kMost = 0x1p100;
  Peaks peaks;
  TileStats tile;
  tile.sum = sum_terms<T, true, kKeep, false>(z, out, n, mode, 0.0f, Span<T>{}, &peaks);
  const double least = mode == Mode::kGradient ? 1 : 1 / kMost;
  if (tile.sum > least && tile.sum < kMost) return tile;
  find_peaks(Span<T>{z, n}, 0, &peaks);
  return first_half<T, true, kKeep>(z, out, n, mode, Span<T>{}, &peaks);
}

// What a tile's terms must be multiplied with.
float factor_of(const TileStats& tile, const RowSum& row, const RowPlan& plan) {
  if (tile.top1 == -INFINITY) return 0;
  const double scale = plan.mode == Mode::kGradient ? plan.scale : 1;
  return static_cast<float>(scale * ::exp(tile.level - row.level) / row.sum);
}

// A tile whose terms wait for that until those of the next row are made: memory is busy meanwhile.
struct Due {
  const float* terms = nullptr;
  float* out = nullptr;
  float factor = 0;
  bool past = false;  // the caches

  EXN_SIMD void settle(int64_t at) const {
    f32v e[kGroup];
    for (int k = 0; k < kGroup; ++k) e[k] = mul(load(terms + at + k * kLanes), set1(factor));
    if (past) {
      vector_t vectors[sizeof e / kVectorBytes];
      std::memcpy(vectors, e, sizeof e);
      for (size_t p = 0; p < sizeof e / kVectorBytes; ++p)
        stream_vector(reinterpret_cast<char*>(out + at) + p * kVectorBytes, vectors[p]);
    } else {
      for (int k = 0; k < kGroup; ++k) store(out + at + k * kLanes, e[k]);
    }
  }
  // From there to n.
  EXN_SIMD void settle_rest(int64_t at, int64_t n) const {
    for (; at + kGroup * kLanes <= n; at += kGroup * kLanes) settle(at);
    for_vectors(n - at, [&](int64_t j, int rest) EXN_FLAT {
      store_part(out + at + j, mul(load_part(terms + at + j, rest, 0.0f), set1(factor)), rest);
    });
  }
};

#if defined(EXN_HAS_POWER_TABLE)
constexpr bool kNear = true;
// Softmax of f32 for an output that is not its input: the level need not be the largest logit, as
// long as that is not much larger. False if it is, or if something is NaN. ExpFrom's error far from
// the level cancels in quotients; of a loss it leaves ln kMost 2^-26.
template <bool kKeep, bool kDue>
static __attribute__((noinline)) bool near_half(const float* z, float* out, int64_t n, float level,
                                                const Due& due, TileStats* tile) {
  constexpr double kMost = 0x1p40;
  const ExpFrom exp(level);
  f32v joined = zero();
  Sums<1> sums;
  const auto visit = [&](auto& x, int64_t at, int rest) EXN_FLAT {
    constexpr int N = sizeof(x) / sizeof(x[0]);
    f32v e[N];
    exp(x, e, &joined);
    f32v& sum = sums.at(at)[0];
    sum = add(sum, sum_of(e));
    for (int k = 0; kKeep && k < N; ++k) store_part(out + at + k * kLanes, e[k], rest);
  };
  const auto group = [&](int64_t i) EXN_FLAT {
    f32v x[kGroup];
    for (int k = 0; k < kGroup; ++k) x[k] = load(z + i + k * kLanes);
    if (kDue) due.settle(i);
    visit(x, i, kLanes);
  };
  pass_over<0>(n, Span<float>{}, nullptr, group, [&]() EXN_FLAT { sums.settle(); });
  const int64_t i = n / (kGroup * kLanes) * (kGroup * kLanes);
  if (kDue) due.settle_rest(i, n);
  for_vectors(n - i, [&](int64_t j, int rest) EXN_FLAT {
    f32v x[1] = {load_part(z + i + j, rest, -INFINITY)};
    visit(x, i + j, rest);
  });
  tile->top1 = level;
  tile->level = static_cast<double>(level);
  tile->sum = sums.total(0);
  return !any_beyond(joined) && tile->sum < kMost;
}

// The same for any level of the tile's row.
template <bool kKeep>
TileStats any_half(const float* z, float* out, int64_t n, float level, const Due& due) {
  TileStats tile;
  const bool wanted = level >= -kMostLevel && level <= kMostLevel;
  if (wanted && (due.terms != nullptr ? near_half<kKeep, true>(z, out, n, level, due, &tile)
                                      : near_half<kKeep, false>(z, out, n, level, due, &tile)))
    return tile;
  if (!wanted && due.terms != nullptr) due.settle_rest(0, n);
  Peaks peaks;
  find_peaks(Span<float>{z, n}, 0, &peaks);
  return first_half<float, false, kKeep>(z, out, n, Mode::kProbability, Span<float>{}, &peaks);
}
#else
constexpr bool kNear = false;
#endif

// Calls visit(x, i, lanes) for all vectors x of logits, kGroup at a time as far as that goes; what
// is missing in the last one is `none`.
template <class T, class F>
static EXN_SIMD void for_groups_of(const T* z, int64_t n, float none, F&& visit) {
  int64_t i = 0;
  for (; i + kGroup * kLanes <= n; i += kGroup * kLanes) {
    f32v x[kGroup];
    for (int k = 0; k < kGroup; ++k) x[k] = load(z + i + k * kLanes);
    visit(x, i, kLanes);
  }
  for_vectors(n - i, [&](int64_t j, int rest) EXN_FLAT {
    f32v x[1] = {load_part(z + i + j, rest, none)};
    visit(x, i + j, rest);
  });
}

// In two steps: near the largest logit the first is exact, however large both are.
template <class T, bool kStable>
static EXN_SIMD void write_logs(const T* z, T* out, int64_t n, const RowSum& row) {
  const f32v level = set1(static_cast<float>(row.level));
  const f32v log_sum = set1(static_cast<float>(::log(row.sum)));
  for_groups_of(z, n, 0.0f, [&](auto& x, int64_t at, int rest) EXN_FLAT {
    constexpr int N = sizeof(x) / sizeof(x[0]);
    f32v s[N], g[N];
    if (kStable) stable_both(x, s, g);
    // Rounding must not lift a certain outcome above probability 1.
    for (int k = 0; k < N; ++k) {
      const f32v log_p = sub(sub(kStable ? g[k] : x[k], level), log_sum);
      store_part(out + at + k * kLanes, min(log_p, zero()), rest);
    }
  });
}

// Multiplying terms takes nothing from memory; meanwhile `next`, n logits that a first half will
// read (or null), come into L2: one line of each pair, with which the processor takes the other.
template <class T>
static EXN_SIMD void multiply_terms(T* out, int64_t n, f32v factor, const T* next) {
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int k = 0; k < 4; ++k)
      store(out + i + k * kLanes, mul(load(out + i + k * kLanes), factor));
    for (int64_t k = 0; next != nullptr && k < 4 * kLanes; k += 2 * kLineOf<T>)
      prefetch_l2(next + i + k);
  }
  for_vectors(n - i, [&](int64_t j, int rest) EXN_FLAT {
    store_part(out + i + j, mul(load_part(out + i + j, rest, 0.0f), factor), rest);
  });
}

// Second half: from terms (or logits) to the result, once the row's sum is known. `next`: see
// multiply_terms.
template <class T, bool kStable, bool kKeep>
void second_half(const T* z, T* out, int64_t n, const TileStats& tile, const RowSum& row,
                 const RowPlan& plan, const T* next) {
  if (row.broken) {
    for_vectors(n, [&](int64_t i, int rest) EXN_FLAT { store_part(out + i, set1(NAN), rest); });
    return;
  }
  if (plan.mode == Mode::kLog) return write_logs<T, kStable>(z, out, n, row);
  const f32v factor = set1(factor_of(tile, row, plan));
  if (kKeep) return multiply_terms(out, n, factor, next);
  const float top = tile.top1 == -INFINITY ? 0 : tile.top1;
  const f32v level = set1(top), over_s = set1(kStable ? reciprocal_s(top) : 1.0f);
  for_groups_of(z, n, -INFINITY, [&](auto& x, int64_t at, int rest) EXN_FLAT {
    constexpr int N = sizeof(x) / sizeof(x[0]);
    f32v e[N];
    terms<kStable, true>(x, level, over_s, e);
    for (int k = 0; k < N; ++k) {
      if (kStable && plan.mode == Mode::kGradient) e[k] = mul(e[k], slope(x[k]));
      store_part(out + at + k * kLanes, mul(e[k], factor), rest);
    }
  });
}

// A row's terms on their way past the caches.
struct Terms {
  static constexpr int64_t kMost = int64_t{32} << 10;
  alignas(64) float e[kMost];
};
constexpr int64_t kSizeOfF32 = sizeof(float);
// Bytes of results from which on they may go past the caches.
constexpr int64_t kPastFrom = int64_t{16} << 20;

// Null where nothing goes past the caches, wherever the output is.
Terms* take_terms(const Matrix& logits, Workspace& ws) {
  const bool wanted = kNear && logits.dtype == DType::kF32 && logits.cols <= Terms::kMost &&
                      logits.rows >= 16 && logits.rows * logits.cols >= kPastFrom / kSizeOfF32;
  return wanted ? ws.take<Terms>(1) : nullptr;
}

// Lines of the logits and of the results, in the chunk that this thread begins with.
Look look_at(const Matrix& logits, const Matrix& out) {
  Look look;
  for (; look.count < kLooked; ++look.count) {
    const int64_t row = logits.rows * look.count / (kLooked * threads());
    look.from[look.count] =
        reinterpret_cast<const char*>(row_of<float>(logits, row) + logits.cols / 2);
    look.to[look.count] = reinterpret_cast<const char*>(row_of<float>(out, row) + out.cols / 2);
  }
  return look;
}

int64_t tile_length(int64_t columns, int64_t tile) {
  const int64_t rest = columns - tile * kStatsTile;
  return rest < kStatsTile ? rest : kStatsTile;
}

// Both halves of a matrix of logits. `out` may be null: then only the sums are wanted. `sums`, one
// for each row, may be null too.
template <class T, bool kStable>
struct Transform {
  static constexpr bool kKeep = std::is_same_v<T, float>;

  const Matrix& logits;
  const Matrix& out;
  TileStats* stats;
  const RowPlan& plan;
  RowSum* sums;
  const int64_t tiles = (logits.cols + kStatsTile - 1) / kStatsTile;  // of a row
  T* const out_data = static_cast<T*>(out.data);

  const bool apart = out.data != logits.data;
  const bool logs = plan.mode == Mode::kLog;

  // Of most types both are known to be false.
  EXN_SIMD bool blind() const { return kStable && apart; }
  EXN_SIMD bool near() const { return kNear && kKeep && !kStable && apart && !logs; }

  EXN_SIMD Span<T> tile_at(int64_t item) const {
    const int64_t t = item % tiles;
    return {row_of<T>(logits, item / tiles) + t * kStatsTile, tile_length(logits.cols, t)};
  }

  // The largest of a row's first logits or, where they are masked, of some from all over it, which
  // core and memory take longer to find.
  float near_level(int64_t row) const {
    constexpr int64_t kSome = 16;
    const int64_t columns = logits.cols;
    const T* const z = row_of<T>(logits, row);
    const float level = reduce_max(lane_max(z, columns < kPiece ? columns : kPiece));
    if (level != -INFINITY || columns <= kPiece) return level;
    f32v high = set1(-INFINITY);
    for (int64_t k = 1; k <= kSome; ++k) high = max(high, load(z + (columns - kLanes) * k / kSome));
    return reduce_max(high);
  }

  // `peaks` are those of this tile, and then of the next, item + 1, if that is before `end`.
  void first(int64_t row, int64_t t, int64_t end, Peaks* peaks, [[maybe_unused]] float level,
             [[maybe_unused]] const Due& due, T* terms) const {
    const int64_t item = row * tiles + t;
    const Span<T> tile = tile_at(item), next = item + 1 < end ? tile_at(item + 1) : Span<T>{};
    T* to = out_data == nullptr ? nullptr : out_data + row * out.stride + t * kStatsTile;
    if (terms != nullptr) to = terms + t * kStatsTile;
    // The logarithm is no multiple of the terms, and its logits must survive
    // when it is taken in place.
    const bool keep = kKeep && to != nullptr && !logs;
#if defined(EXN_HAS_POWER_TABLE)
    if constexpr (kKeep && !kStable) {
      if (near()) {
        stats[item] = keep ? any_half<true>(tile.z, to, tile.n, level, due)
                           : any_half<false>(tile.z, to, tile.n, level, due);
        return;
      }
    }
#endif
    if (blind()) {
      stats[item] = keep ? stable_half<T, kKeep>(tile.z, to, tile.n, plan.mode)
                         : stable_half<T, false>(tile.z, to, tile.n, plan.mode);
      return;
    }
    stats[item] = keep ? first_half<T, kStable, kKeep>(tile.z, to, tile.n, plan.mode, next, peaks)
                       : first_half<T, kStable, false>(tile.z, to, tile.n, plan.mode, next, peaks);
  }

  // `next` is the row whose logits will be read after this, or -1. In place there is no second
  // stream to fill the time of: the processor's own prefetching is faster then.
  void second(int64_t row, int64_t t, const RowSum& sum, int64_t next) const {
    if (out_data == nullptr) return;
    const T* z = row_of<T>(logits, row) + t * kStatsTile;
    T* to = out_data + row * out.stride + t * kStatsTile;
    const bool ahead = next >= 0 && apart && tuning().prefetch_streams;
    const T* after = ahead ? row_of<T>(logits, next) + t * kStatsTile : nullptr;
    second_half<T, kStable, kKeep>(z, to, tile_length(logits.cols, t), stats[row * tiles + t], sum,
                                   plan, after);
  }

  // Each thread makes whole rows.
  EXN_SIMD void run_rows(Terms* own) const {
    const int64_t rows = logits.rows, columns = logits.cols;
    // Where the multiplication is not the time to prefetch the next row, it waits for that one.
    const bool late = near() && out_data != nullptr && !tuning().prefetch_streams;
    const bool looks = late && own != nullptr && tuning().cached_ticks > 0 &&
                       out.stride * kSizeOfF32 % kLine == 0 &&
                       reinterpret_cast<uintptr_t>(out.data) % kLine == 0;
    const Look look = looks ? look_at(logits, out) : Look();
    const bool past = looks && way_of(look, 2 * rows * columns * kSizeOfF32 / threads()).past;
    Terms* const scratch = own != nullptr ? own : reinterpret_cast<Terms*>(stats);  // not used then
    parallel_for(rows, 16384 / columns + 1, scratch, [&](int64_t begin, int64_t end, Terms& terms) {
      Peaks peaks;
      RowSum sum;
      int64_t waits = -1;  // the row that is multiplied next
      const auto due_at = [&](int64_t t) {
        if (waits < 0) return Due{};
        float* to = static_cast<float*>(out.data) + waits * out.stride + t * kStatsTile;
        return Due{past ? terms.e + t * kStatsTile : to, to,
                   factor_of(stats[waits * tiles + t], sum, plan), past};
      };
      if (!blind() && !near()) find_peaks(tile_at(begin * tiles), 0, &peaks);
      for (int64_t row = begin; row < end; ++row) {
        const float level = near() ? near_level(row) : 0;
        for (int64_t t = 0; t < tiles; ++t)
          first(row, t, end * tiles, &peaks, level, due_at(t),
                past ? reinterpret_cast<T*>(terms.e) : nullptr);
        sum = row_sum(stats + row * tiles, tiles);
        waits = late && !sum.broken ? row : -1;
        const int64_t next = row + 1 < end ? row + 1 : -1;
        for (int64_t t = 0; waits < 0 && t < tiles; ++t) second(row, t, sum, next);
        if (sums != nullptr) sums[row] = sum;
      }
      for (int64_t t = 0; waits >= 0 && t < tiles; ++t)
        due_at(t).settle_rest(0, tile_length(columns, t));
      if (past) end_stream();
    });
    for (int k = 0; past && k < look.count; ++k) prefetch_l2(look.to[k]);  // for way_of
  }

  // Few long rows: the tiles themselves are shared out, with a meeting point where the sums are
  // complete.
  EXN_SIMD void run_tiles() const {
    const int64_t rows = logits.rows, chunk = tiles_per_piece(rows * tiles, kStatsTile);
    parallel_for(rows * tiles, chunk, [&](int64_t begin, int64_t end) {
      Peaks peaks;
      float level = 0;
      if (!blind() && !near()) find_peaks(tile_at(begin), 0, &peaks);
      for (int64_t item = begin; item < end; ++item) {
        if (near() && (item == begin || item % tiles == 0)) level = near_level(item / tiles);
        first(item / tiles, item % tiles, end, &peaks, level, Due{}, nullptr);
      }
    });
    parallel_for(rows * tiles, chunk, [&](int64_t begin, int64_t end) {
      int64_t known = -1;
      RowSum sum;
      for (int64_t item = begin; item < end; ++item) {
        if (item / tiles != known) {
          known = item / tiles;
          sum = row_sum(stats + known * tiles, tiles);
        }
        second(known, item % tiles, sum, -1);
      }
    });
    for (int64_t row = 0; sums != nullptr && row < rows; ++row) {
      sums[row] = row_sum(stats + row * tiles, tiles);
    }
  }
};

template <class T, bool kStable>
void transform(const Matrix& logits, const Matrix& out, TileStats* stats, Terms* own,
               const RowPlan& plan, RowSum* sums) {
  const Transform<T, kStable> both = {logits, out, stats, plan, sums};
  if (both.tiles == 1 || logits.rows >= 16) {
    both.run_rows(own);
  } else {
    both.run_tiles();
  }
}

// ---- f64: plain loops, one row after another on each thread -------------------------------------

constexpr double kNan = __builtin_nan("");
constexpr double kInfinity = __builtin_inf();

double g_f64(double x) { return ::copysign(::log1p(::fabs(x)), x); }

// In four interleaved sums, as much for accuracy as for speed.
RowSum row_sum_f64(const double* z, int64_t n, bool stablemax) {
  double top = -kInfinity;
  RowSum r;
  for (int64_t i = 0; i < n; ++i) {
    r.broken = r.broken || !(z[i] < kInfinity);
    top = z[i] > top ? z[i] : top;
  }
  r.broken = r.broken || top == -kInfinity;
  r.level = stablemax ? g_f64(top) : top;
  double sums[4] = {0, 0, 0, 0};
  for (int64_t i = 0; i < n; ++i) sums[i % 4] += ::exp((stablemax ? g_f64(z[i]) : z[i]) - r.level);
  r.sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  return r;
}

void result_f64(const double* z, double* out, int64_t n, const RowSum& row, const RowPlan& plan) {
  const double log_sum = ::log(row.sum);
  for (int64_t i = 0; i < n; ++i) {
    if (row.broken) {
      out[i] = kNan;
      continue;
    }
    const double x = z[i];
    const double unclamped = (plan.stablemax ? g_f64(x) : x) - row.level - log_sum;
    const double log_p = unclamped > 0 ? 0 : unclamped;
    switch (plan.mode) {
      case Mode::kLog:
        out[i] = log_p;
        break;
      case Mode::kProbability:
        out[i] = ::exp(log_p);
        break;
      case Mode::kGradient:
        out[i] = ::exp(log_p) * plan.scale / (plan.stablemax ? 1 + ::fabs(x) : 1);
        break;
    }
  }
}

void transform_f64(const Matrix& logits, const Matrix& out, const RowPlan& plan, RowSum* sums) {
  double* out_data = static_cast<double*>(out.data);
  parallel_for(logits.rows, 2048 / logits.cols + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const double* z = row_of<double>(logits, row);
      const RowSum sum = row_sum_f64(z, logits.cols, plan.stablemax);
      if (out_data != nullptr) result_f64(z, out_data + row * out.stride, logits.cols, sum, plan);
      if (sums != nullptr) sums[row] = sum;
    }
  });
}

void transform_any(const Matrix& logits, const Matrix& out, TileStats* stats, Terms* own,
                   const RowPlan& plan, RowSum* sums) {
  if (logits.dtype == DType::kF64) {
    transform_f64(logits, out, plan, sums);
    return;
  }
  with_float_type(logits.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    if (plan.stablemax) {
      transform<T, true>(logits, out, stats, own, plan, sums);
    } else {
      transform<T, false>(logits, out, stats, own, plan, sums);
    }
  });
}

TileStats* take_tiles(const Matrix& logits, Workspace& ws) {
  const int64_t tiles = (logits.cols + kStatsTile - 1) / kStatsTile;
  return ws.take<TileStats>(logits.dtype == DType::kF64 ? 0 : logits.rows * tiles);
}

}  // namespace

exn_status stablemax(const StableMaxArgs& a, Workspace& ws) {
  TileStats* stats = take_tiles(a.logits, ws);
  Terms* own = take_terms(a.logits, ws);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH(ws, "stablemax"));
  const RowPlan plan = {a.log ? Mode::kLog : Mode::kProbability, a.normalizer == EXN_STABLEMAX, 1};
  transform_any(a.logits, a.out, stats, own, plan, nullptr);
  return EXN_OK;
}

exn_status cross_entropy(const CrossEntropyArgs& a, Workspace& ws) {
  const int64_t rows = a.logits.rows, columns = a.logits.cols;
  TileStats* stats = take_tiles(a.logits, ws);
  Terms* own = take_terms(a.logits, ws);
  RowSum* sums = ws.take<RowSum>(rows);
  double* losses = ws.take<double>(rows);
  double* label_logits = ws.take<double>(rows);
  if (ws.counting()) return EXN_OK;

  int64_t counted = 0;
  const exn_status status =
      check_labels("exn_cross_entropy", a.labels, columns, a.ignore_index, &counted);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "cross_entropy"));
  const bool stable = a.normalizer == EXN_STABLEMAX;
  const bool mean = a.reduction == EXN_REDUCE_MEAN;
  const double scale = mean && counted > 0 ? 1 / static_cast<double>(counted) : 1;
  // In place the gradient takes the logits' memory: what the label needs is kept aside.
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t label = label_at(a.labels, row);
    label_logits[row] = label == a.ignore_index ? 0 : element(a.logits, row, label);
  }
  const RowPlan plan = {Mode::kGradient, stable, scale};
  transform_any(a.logits, a.grad, stats, own, plan, sums);
  parallel_for(rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const RowSum& sum = sums[row];
      const int64_t label = label_at(a.labels, row);
      losses[row] = 0;
      if (label == a.ignore_index) {
        if (a.grad.data != nullptr) clear_row(a.grad, row);
        continue;
      }
      const double x = label_logits[row];
      const double unclamped = (stable ? g_f64(x) : x) - sum.level - ::log(sum.sum);
      const double log_p = unclamped > 0 ? 0 : unclamped;  // rounding must not lift p above 1
      losses[row] = sum.broken ? kNan : -log_p;
      if (a.grad.data == nullptr || sum.broken) continue;
      // p - 1 through expm1, which keeps its digits when p is near 1.
      const double slope = stable ? 1 / (1 + ::fabs(x)) : 1;
      set_element(a.grad, row, label,
                  std::isinf(x) ? -scale * (stable ? 0 : 1) : scale * slope * ::expm1(log_p));
    }
  });
  put_losses(losses, rows, counted, mean, a.loss);
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
