// SPDX-License-Identifier: Apache-2.0
// stablemax and cross_entropy on the CPU. A row is read from memory once and written once: R * V *
// (read + write) bytes. Within a tile of L1 or L2 the passes are: largest logit (StableMax out of
// place does without); terms e relative to it, kept in the output where that is f32; then, when the
// whole row's sum is known, one multiplication (16-bit outputs: the terms once more, so that a
// result is rounded once).
#include <cmath>
#include <cstring>

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

// Second half: from terms (or logits) to the result, once the row's sum is known. Multiplying terms
// takes nothing from memory; meanwhile `next`, n logits that a first half will read (or null), come
// into L2: one line of each pair, with which the processor takes the other.
template <class T, bool kStable, bool kKeep>
void second_half(const T* z, T* out, int64_t n, const TileStats& tile, const RowSum& row,
                 const RowPlan& plan, const T* next) {
  if (row.broken) {
    for_vectors(n, [&](int64_t i, int rest) EXN_FLAT { store_part(out + i, set1(NAN), rest); });
    return;
  }
  if (plan.mode == Mode::kLog) {
    // In two steps: near the largest logit the first is exact, however large both are.
    const f32v level = set1(static_cast<float>(row.level));
    const f32v log_sum = set1(static_cast<float>(::log(row.sum)));
    const auto visit = [&](auto& x, int64_t at, int rest) EXN_FLAT {
      constexpr int N = sizeof(x) / sizeof(x[0]);
      f32v s[N], g[N];
      if (kStable) stable_both(x, s, g);
      // Rounding must not lift a certain outcome above probability 1.
      for (int k = 0; k < N; ++k) {
        const f32v log_p = sub(sub(kStable ? g[k] : x[k], level), log_sum);
        store_part(out + at + k * kLanes, min(log_p, zero()), rest);
      }
    };
    int64_t i = 0;
    for (; i + kGroup * kLanes <= n; i += kGroup * kLanes) {
      f32v x[kGroup];
      for (int k = 0; k < kGroup; ++k) x[k] = load(z + i + k * kLanes);
      visit(x, i, kLanes);
    }
    for_vectors(n - i, [&](int64_t j, int rest) EXN_FLAT {
      f32v x[1] = {load_part(z + i + j, rest, 0.0f)};
      visit(x, i + j, rest);
    });
    return;
  }
  const double scale = plan.mode == Mode::kGradient ? plan.scale : 1;
  const bool empty = tile.top1 == -INFINITY;
  const double shift = empty ? 0 : tile.level - row.level;
  const f32v factor = set1(empty ? 0.0f : static_cast<float>(scale * ::exp(shift) / row.sum));
  if (kKeep) {
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
    return;
  }
  const float top = empty ? 0 : tile.top1;
  const f32v level = set1(top), over_s = set1(kStable ? reciprocal_s(top) : 1.0f);
  const auto visit = [&](auto& x, int64_t at, int rest) EXN_FLAT {
    constexpr int N = sizeof(x) / sizeof(x[0]);
    f32v e[N];
    terms<kStable, true>(x, level, over_s, e);
    for (int k = 0; k < N; ++k) {
      if (kStable && plan.mode == Mode::kGradient) e[k] = mul(e[k], slope(x[k]));
      store_part(out + at + k * kLanes, mul(e[k], factor), rest);
    }
  };
  int64_t i = 0;
  for (; i + kGroup * kLanes <= n; i += kGroup * kLanes) {
    f32v x[kGroup];
    for (int k = 0; k < kGroup; ++k) x[k] = load(z + i + k * kLanes);
    visit(x, i, kLanes);
  }
  for_vectors(n - i, [&](int64_t j, int rest) EXN_FLAT {
    f32v x[1] = {load_part(z + i + j, rest, -INFINITY)};
    visit(x, i + j, rest);
  });
}

int64_t tile_length(int64_t columns, int64_t tile) {
  const int64_t rest = columns - tile * kStatsTile;
  return rest < kStatsTile ? rest : kStatsTile;
}

// Both halves of a matrix of logits. `out` may be null: then only the sums are wanted. `sums`, one
// for each row, may be null too.
template <class T, bool kStable>
void transform(const Matrix& logits, const Matrix& out, TileStats* stats, const RowPlan& plan,
               RowSum* sums) {
  const int64_t rows = logits.rows, columns = logits.cols;
  const int64_t tiles = (columns + kStatsTile - 1) / kStatsTile;
  constexpr bool kKeep = std::is_same_v<T, float>;
  T* out_data = static_cast<T*>(out.data);
  const bool blind = kStable && out.data != logits.data;
  const auto tile_at = [&](int64_t item) {
    const int64_t t = item % tiles;
    return Span<T>{row_of<T>(logits, item / tiles) + t * kStatsTile, tile_length(columns, t)};
  };
  // `peaks` are those of this tile, and then of the next, item + 1, if that is before `end`.
  const auto first = [&](int64_t row, int64_t t, int64_t end, Peaks* peaks) {
    const int64_t item = row * tiles + t;
    const Span<T> tile = tile_at(item), next = item + 1 < end ? tile_at(item + 1) : Span<T>{};
    T* to = out_data == nullptr ? nullptr : out_data + row * out.stride + t * kStatsTile;
    // The logarithm is no multiple of the terms, and its logits must survive
    // when it is taken in place.
    const bool keep = kKeep && to != nullptr && plan.mode != Mode::kLog;
    if (blind) {
      stats[item] = keep ? stable_half<T, kKeep>(tile.z, to, tile.n, plan.mode)
                         : stable_half<T, false>(tile.z, to, tile.n, plan.mode);
      return;
    }
    stats[item] = keep ? first_half<T, kStable, kKeep>(tile.z, to, tile.n, plan.mode, next, peaks)
                       : first_half<T, kStable, false>(tile.z, to, tile.n, plan.mode, next, peaks);
  };
  // `next` is the row whose logits will be read after this, or -1. In place there is no second
  // stream to fill the time of: the processor's own prefetching is faster then.
  const auto second = [&](int64_t row, int64_t t, const RowSum& sum, int64_t next) {
    if (out_data == nullptr) return;
    const T* z = row_of<T>(logits, row) + t * kStatsTile;
    T* to = out_data + row * out.stride + t * kStatsTile;
    const bool ahead = next >= 0 && out.data != logits.data && tuning().prefetch_streams;
    const T* after = ahead ? row_of<T>(logits, next) + t * kStatsTile : nullptr;
    second_half<T, kStable, kKeep>(z, to, tile_length(columns, t), stats[row * tiles + t], sum,
                                   plan, after);
  };
  if (tiles == 1 || rows >= 16) {
    parallel_for(rows, 16384 / columns + 1, [&](int64_t begin, int64_t end) {
      Peaks peaks;
      if (!blind) find_peaks(tile_at(begin * tiles), 0, &peaks);
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t t = 0; t < tiles; ++t) first(row, t, end * tiles, &peaks);
        const RowSum sum = row_sum(stats + row * tiles, tiles);
        const int64_t next = row + 1 < end ? row + 1 : -1;
        for (int64_t t = 0; t < tiles; ++t) second(row, t, sum, next);
        if (sums != nullptr) sums[row] = sum;
      }
    });
    return;
  }
  // Few long rows: the tiles themselves are shared out, with a meeting point
  // where the sums are complete.
  const int64_t chunk = tiles_per_piece(rows * tiles, kStatsTile);
  parallel_for(rows * tiles, chunk, [&](int64_t begin, int64_t end) {
    Peaks peaks;
    if (!blind) find_peaks(tile_at(begin), 0, &peaks);
    for (int64_t item = begin; item < end; ++item) first(item / tiles, item % tiles, end, &peaks);
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

void transform_any(const Matrix& logits, const Matrix& out, TileStats* stats, const RowPlan& plan,
                   RowSum* sums) {
  if (logits.dtype == DType::kF64) {
    transform_f64(logits, out, plan, sums);
    return;
  }
  with_float_type(logits.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    if (plan.stablemax) {
      transform<T, true>(logits, out, stats, plan, sums);
    } else {
      transform<T, false>(logits, out, stats, plan, sums);
    }
  });
}

TileStats* take_tiles(const Matrix& logits, Workspace& ws) {
  const int64_t tiles = (logits.cols + kStatsTile - 1) / kStatsTile;
  return ws.take<TileStats>(logits.dtype == DType::kF64 ? 0 : logits.rows * tiles);
}

double element(const Matrix& m, int64_t row, int64_t column) {
  if (m.dtype == DType::kF64) return row_of<double>(m, row)[column];
  double value = 0;
  with_float_type(m.dtype, [&](auto type) {
    value = static_cast<double>(to_float(row_of<EXN_TYPE_OF(type)>(m, row)[column]));
  });
  return value;
}

void set_element(const Matrix& m, int64_t row, int64_t column, double value) {
  if (m.dtype == DType::kF64) {
    static_cast<double*>(m.data)[row * m.stride + column] = value;
    return;
  }
  with_float_type(m.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    from_float(static_cast<T*>(m.data) + row * m.stride + column, static_cast<float>(value));
  });
}

void clear_row(const Matrix& m, int64_t row) {
  const int64_t size = size_of(m.dtype);
  std::memset(static_cast<char*>(m.data) + row * m.stride * size, 0,
              static_cast<size_t>(m.cols * size));
}

int64_t label_at(const Vector& labels, int64_t row) {
  return labels.dtype == DType::kI64 ? static_cast<const int64_t*>(labels.data)[row]
                                     : static_cast<const int32_t*>(labels.data)[row];
}

}  // namespace

exn_status stablemax(const StableMaxArgs& a, Workspace& ws) {
  TileStats* stats = take_tiles(a.logits, ws);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH("stablemax"));
  const RowPlan plan = {a.log ? Mode::kLog : Mode::kProbability, a.normalizer == EXN_STABLEMAX, 1};
  transform_any(a.logits, a.out, stats, plan, nullptr);
  return EXN_OK;
}

exn_status cross_entropy(const CrossEntropyArgs& a, Workspace& ws) {
  const int64_t rows = a.logits.rows, columns = a.logits.cols;
  TileStats* stats = take_tiles(a.logits, ws);
  RowSum* sums = ws.take<RowSum>(rows);
  double* losses = ws.take<double>(rows);
  double* label_logits = ws.take<double>(rows);
  if (ws.counting()) return EXN_OK;

  int64_t counted = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t label = label_at(a.labels, row);
    if (label == a.ignore_index) continue;
    if (label < 0 || label >= columns) {
      return fail(EXN_INVALID_ARGUMENT,
                  "exn_cross_entropy: labels[%lld] is %lld, expected 0..%lld or ignore_index %lld",
                  static_cast<long long>(row), static_cast<long long>(label),
                  static_cast<long long>(columns - 1), static_cast<long long>(a.ignore_index));
    }
    ++counted;
  }
  ran(EXN_CPU_PATH("cross_entropy"));
  const bool stable = a.normalizer == EXN_STABLEMAX;
  const bool mean = a.reduction == EXN_REDUCE_MEAN;
  const double scale = mean && counted > 0 ? 1 / static_cast<double>(counted) : 1;
  // In place the gradient takes the logits' memory: what the label needs is kept aside.
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t label = label_at(a.labels, row);
    label_logits[row] = label == a.ignore_index ? 0 : element(a.logits, row, label);
  }
  const RowPlan plan = {Mode::kGradient, stable, scale};
  transform_any(a.logits, a.grad, stats, plan, sums);
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
  if (a.loss.data == nullptr) return EXN_OK;
  const bool wide = a.loss.dtype == DType::kF64;
  const auto put_loss = [&](int64_t i, double value) {
    if (wide) {
      static_cast<double*>(a.loss.data)[i] = value;
    } else {
      static_cast<float*>(a.loss.data)[i] = static_cast<float>(value);
    }
  };
  double total = 0;
  for (int64_t row = 0; row < rows; ++row) {
    total += losses[row];
    if (!mean) put_loss(row, losses[row]);
  }
  if (mean) put_loss(0, counted > 0 ? total / static_cast<double>(counted) : kNan);
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
