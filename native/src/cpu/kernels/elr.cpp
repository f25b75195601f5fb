// SPDX-License-Identifier: Apache-2.0
// elr on the CPU: passes over a row for its largest logit, the sum of its terms, that of the
// clamped probabilities, the target, and the gradient. The terms of a row of one tile are made
// once, those of a longer one again in each pass.
#include <cmath>

#include "../ids.h"
#include "base/args/elr.h"
#include "labels.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int64_t kTile = 4096;
constexpr float kLeast = 1e-4f;
constexpr float kMost = 1 - 1e-4f;

struct ElrScratch {
  alignas(64) float terms[kTile];
};

// A sum in lanes of f64.
struct WideSum {
  f64v low = zero_f64(), high = zero_f64();

  EXN_SIMD void take(f32v v) {
    low = add(low, low_f64(v));
    high = add(high, high_f64(v));
  }
  EXN_SIMD void take_product(f32v a, f32v b) {
    low = add(low, mul(low_f64(a), low_f64(b)));
    high = add(high, mul(high_f64(a), high_f64(b)));
  }
  EXN_SIMD double total() const { return reduce_add(add(low, high)); }
};

// The first n lanes of v, and 0 in the others.
EXN_SIMD f32v keep_first(f32v v, int n) {
  if (n == kLanes) return v;
  float lanes[kLanes];
  store(lanes, v);
  return load_n(lanes, n, 0.0f);
}

// A row of logits and what becomes of it.
template <class T>
struct ElrRow {
  const T* z;
  int64_t columns;
  float* terms;
  float top = 0;
  double sum = 0;
  int64_t held = -1;  // the tile whose terms are in `terms`

  // False if the row is invalid.
  bool weigh() {
    f32v high = set1(-INFINITY);
    for_vectors(columns, [&](int64_t i, int lanes) EXN_FLAT {
      high = max(load_part(z + i, lanes, -INFINITY), high);  // passes a NaN by
    });
    top = reduce_max(high);
    if (!(top < INFINITY && top > -INFINITY)) return false;
    WideSum all;
    for_terms([&](int64_t, f32v e, int) EXN_FLAT { all.take(e); });
    sum = all.total();
    return sum >= 1;
  }

  // Calls f(column, e, lanes) for vectors of terms e^(z - top), which are 0 after the last.
  template <class F>
  EXN_SIMD void for_terms(F&& f) {
    for (int64_t first = 0; first < columns; first += kTile) {
      const int64_t n = columns - first < kTile ? columns - first : kTile;
      if (held != first) {
        for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
          const f32v x = load_part(z + first + i, lanes, -INFINITY);
          store(terms + i, exp_negative(sub(x, set1(top))));
        });
        held = first;
      }
      for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT { f(first + i, load(terms + i), lanes); });
    }
  }
};

EXN_SIMD f32v clamp(f32v p) { return min(max(p, set1(kLeast)), set1(kMost)); }

// a where the clamp does not hold p, else 0.
EXN_SIMD f32v where_free(f32v p, f32v a) { return select(equal(clamp(p), p), a, zero()); }

struct ElrPlan {
  float beta;
  double lambda;
  double scale;  // of the gradient
};

// The loss of a row; NaN if it is invalid.
template <class T>
double elr_row(const T* z, int64_t columns, int64_t label, float* target, T* grad,
               const ElrPlan& plan, ElrScratch* scratch) {
  ElrRow<T> row{z, columns, scratch->terms};
  if (!row.weigh()) {
    for (int64_t i = 0; grad != nullptr && i < columns; ++i)
      from_float(grad + i, __builtin_nanf(""));
    return __builtin_nan("");
  }
  const double label_logit = static_cast<double>(to_float(z[label]));
  const f32v inverse = set1(static_cast<float>(1 / row.sum));
  WideSum clamped;
  row.for_terms([&](int64_t, f32v e, int lanes) EXN_FLAT {
    const f32v c = clamp(mul(e, inverse));
    clamped.take(keep_first(c, lanes));
  });
  const f32v keeps = set1(plan.beta);
  const f32v takes =
      set1(static_cast<float>((1 - static_cast<double>(plan.beta)) / clamped.total()));
  WideSum seen, passed;  // <t, c>; the sum over free p of t p
  row.for_terms([&](int64_t i, f32v e, int lanes) EXN_FLAT {
    const f32v p = mul(e, inverse), c = clamp(p);
    const f32v t = fma(takes, c, mul(keeps, load_part(target + i, lanes, 0.0f)));
    store_part(target + i, t, lanes);
    const f32v known = keep_first(t, lanes);
    seen.take_product(known, c);
    passed.take_product(where_free(p, known), p);
  });
  const double rest = 1 - seen.total();
  const double unclamped = label_logit - static_cast<double>(row.top) - ::log(row.sum);
  const double log_p = unclamped > 0 ? 0 : unclamped;  // rounding must not lift p above 1
  if (grad != nullptr) {
    const double pull = plan.lambda / rest, mean = passed.total();
    const f32v scale = set1(static_cast<float>(plan.scale));
    const f32v base = set1(static_cast<float>(1 + pull * mean)),
               by = set1(static_cast<float>(pull));
    row.for_terms([&](int64_t i, f32v e, int lanes) EXN_FLAT {
      const f32v p = mul(e, inverse), t = where_free(p, load_part(target + i, lanes, 0.0f));
      store_part(grad + i, mul(scale, mul(p, sub(base, mul(by, t)))), lanes);
    });
    // p - 1 through expm1, which keeps its digits when p is near 1.
    const double p = ::exp(log_p);
    const bool is_free = p >= static_cast<double>(kLeast) && p <= static_cast<double>(kMost);
    const double t = is_free ? static_cast<double>(target[label]) : 0;
    from_float(grad + label,
               static_cast<float>(plan.scale * (::expm1(log_p) + pull * p * (mean - t))));
  }
  return -log_p + plan.lambda * ::log(rest);
}

}  // namespace

exn_status elr(const ElrArgs& args, Workspace& ws) {
  const ElrArgs a = args;  // a copy that no store can alias
  const int64_t rows = a.logits.rows, columns = a.logits.cols;
  double* losses = ws.take<double>(rows);
  ElrScratch* own = ws.take<ElrScratch>(1);
  if (ws.counting()) return EXN_OK;
  int64_t counted = 0;
  exn_status status = check_labels("exn_elr", a.labels, columns, a.ignore_index, &counted);
  if (status == EXN_OK)
    status = check_distinct_ids("exn_elr", "index", a.index, rows, a.targets.rows - 1);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "elr"));
  const bool mean = a.reduction == EXN_REDUCE_MEAN;
  const ElrPlan plan = {a.beta, static_cast<double>(a.lambda),
                        mean && counted > 0 ? 1 / static_cast<double>(counted) : 1};
  with_float_type(a.logits.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    parallel_for(
        rows, 8192 / columns + 1, own, [&](int64_t begin, int64_t end, ElrScratch& scratch) {
          for (int64_t row = begin; row < end; ++row) {
            const int64_t label = label_at(a.labels, row);
            losses[row] = 0;
            if (label == a.ignore_index) {
              if (a.grad.data != nullptr) clear_row(a.grad, row);
              continue;
            }
            float* target = static_cast<float*>(a.targets.data) + a.index[row] * a.targets.stride;
            T* grad = a.grad.data == nullptr ? nullptr
                                             : static_cast<T*>(a.grad.data) + row * a.grad.stride;
            losses[row] =
                elr_row(row_of<T>(a.logits, row), columns, label, target, grad, plan, &scratch);
          }
        });
  });
  put_losses(losses, rows, counted, mean, a.loss);
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
