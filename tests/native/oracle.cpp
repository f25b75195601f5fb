// SPDX-License-Identifier: Apache-2.0
#include "oracle.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "distribution.h"

namespace exn::test {

std::vector<StatsExpected> row_stats_oracle(const RowStatsCase& c, const RowStatsInputs& in) {
  std::vector<StatsExpected> rows;
  for (int64_t r = 0; r < in.logits.rows; ++r) {
    const Logits row = {row_of<double>(in.logits, r), {}, {}};
    rows.push_back(stats_oracle(row, c.normalizer, c.temperature, c.softcap));
  }
  return rows;
}

// ---- exit head ----------------------------------------------------------------------------------

namespace {

// A hidden state on its way to the head. The error of x[i] is error[i] (independent of the others),
// plus a common factor (relative error `scale_error` of scaled[i]) and a common shift
// (`shift_error` times shifted[i]).
struct State {
  std::vector<double> x;
  std::vector<double> error;
  std::vector<double> scaled;
  std::vector<double> shifted;
  double scale_error = 0;
  double shift_error = 0;
};

double mean_square(const std::vector<double>& x) {
  double sum = 0;
  for (double v : x) sum += v * v;
  return sum / static_cast<double>(x.size());
}

// Relative error of 1 / sqrt(mean x^2 + eps) when x has independent errors.
double rms_error(const std::vector<double>& x, const std::vector<double>& error, double eps) {
  double cross = 0;
  for (size_t i = 0; i < x.size(); ++i) cross += x[i] * x[i] * error[i] * error[i];
  const double n = static_cast<double>(x.size());
  const double total = n * (mean_square(x) + eps);
  const double from_x = total > 0 ? kIndependent * std::sqrt(cross) / total : 0;
  return kUnit * (0.5 * sum_error(static_cast<int64_t>(x.size())) + 4) + from_x;
}

void translate(const ExitHeadCase& c, const ExitHeadInputs& in, State* s) {
  const size_t n = s->x.size();
  double scale_error = 0;
  if (c.translate == EXN_TRANSLATE_RMS) {
    const double eps = static_cast<double>(c.norm_eps);
    const double scale = 1 / std::sqrt(mean_square(s->x) + eps);
    scale_error = rms_error(s->x, s->error, eps);
    for (double& v : s->x) v *= scale;
  }
  std::vector<double> y(n), error(n);
  for (size_t i = 0; i < n; ++i) {
    double sum = 0, magnitude = 0;
    for (size_t j = 0; j < n; ++j) {
      const double term =
          in.translator.at(static_cast<int64_t>(i), static_cast<int64_t>(j)) * s->x[j];
      sum += term;
      magnitude += std::fabs(term);
    }
    const double bias =
        in.translator_bias.given() ? in.translator_bias.at(0, static_cast<int64_t>(i)) : 0;
    y[i] = sum + bias;
    error[i] = kUnit * (sum_error(static_cast<int64_t>(n)) * magnitude + std::fabs(y[i])) +
               scale_error * std::fabs(sum);
  }
  s->x = y;
  s->error = error;
}

void rms_norm(const ExitHeadCase& c, const ExitHeadInputs& in, State* s) {
  const double eps = static_cast<double>(c.norm_eps);
  const double scale = 1 / std::sqrt(mean_square(s->x) + eps);
  s->scale_error = rms_error(s->x, s->error, eps);
  for (size_t i = 0; i < s->x.size(); ++i) {
    const double w = in.norm_weight.at(0, static_cast<int64_t>(i));
    s->x[i] *= scale * w;
    s->error[i] = s->error[i] * scale * std::fabs(w) + 3 * kUnit * std::fabs(s->x[i]);
  }
  s->scaled = s->x;
}

void layer_norm(const ExitHeadCase& c, const ExitHeadInputs& in, State* s) {
  const size_t n = s->x.size();
  const double count = static_cast<double>(n);
  double sum = 0, magnitude = 0, errors = 0;
  for (size_t i = 0; i < n; ++i) {
    sum += s->x[i];
    magnitude += std::fabs(s->x[i]);
    errors += s->error[i] * s->error[i];
  }
  const double mean = sum / count;
  s->shift_error =
      kUnit * (sum_error(static_cast<int64_t>(n)) * magnitude / count + std::fabs(mean)) +
      kIndependent * std::sqrt(errors) / count;
  for (size_t i = 0; i < n; ++i) {
    s->error[i] += kUnit * (std::fabs(s->x[i]) + std::fabs(mean));
    s->x[i] -= mean;
  }
  const double eps = static_cast<double>(c.norm_eps);
  const double variance = mean_square(s->x) + eps;
  const double scale = 1 / std::sqrt(variance);
  s->scale_error = rms_error(s->x, s->error, eps) + s->shift_error * s->shift_error / variance;
  s->scaled.resize(n);
  s->shifted.resize(n);
  for (size_t i = 0; i < n; ++i) {
    const double w = in.norm_weight.at(0, static_cast<int64_t>(i));
    const double bias = in.norm_bias.given() ? in.norm_bias.at(0, static_cast<int64_t>(i)) : 0;
    s->scaled[i] = s->x[i] * scale * w;
    s->shifted[i] = scale * w;
    s->x[i] = s->scaled[i] + bias;
    s->error[i] = s->error[i] * scale * std::fabs(w) +
                  kUnit * (3 * std::fabs(s->scaled[i]) + std::fabs(s->x[i]));
  }
}

// Rounds the state to a 16-bit type. An element within its error of a rounding
// boundary may land on either side.
void round_state(Type type, State* s) {
  for (size_t i = 0; i < s->x.size(); ++i) {
    double e = s->error[i];
    if (!s->scaled.empty()) e += s->scale_error * std::fabs(s->scaled[i]);
    if (!s->shifted.empty()) e += s->shift_error * std::fabs(s->shifted[i]);
    const double rounded = rounded_to(type, s->x[i]);
    const double low = rounded_to(type, s->x[i] - e);
    const double high = rounded_to(type, s->x[i] + e);
    s->x[i] = rounded;
    s->error[i] = std::max(high - rounded, rounded - low);
  }
  s->scaled.clear();
  s->shifted.clear();
}

State prepared(const ExitHeadCase& c, const ExitHeadInputs& in, int64_t row) {
  State s;
  s.x = row_of<double>(in.hidden, row);
  s.error.assign(s.x.size(), 0);
  if (c.translator) translate(c, in, &s);
  if (c.norm == EXN_NORM_RMS) rms_norm(c, in, &s);
  if (c.norm == EXN_NORM_LAYER) layer_norm(c, in, &s);
  if (c.hidden.type == c.weight.type && is_16_bit(c.hidden.type)) round_state(c.hidden.type, &s);
  return s;
}

struct Dot {
  double value = 0;
  double error = 0;
};

Dot logit_of(const State& s, const std::vector<double>& w, bool exact) {
  Dot dot;
  double magnitude = 0, independent = 0, scaled = 0, shifted = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    const double term = w[i] * s.x[i];
    dot.value += term;
    magnitude += std::fabs(term);
    independent += w[i] * w[i] * s.error[i] * s.error[i];
    if (!s.scaled.empty()) scaled += w[i] * s.scaled[i];
    if (!s.shifted.empty()) shifted += w[i] * s.shifted[i];
  }
  if (exact) return dot;
  dot.error = kUnit * sum_error(static_cast<int64_t>(w.size())) * magnitude +
              kIndependent * std::sqrt(independent) + s.scale_error * std::fabs(scaled) +
              s.shift_error * std::fabs(shifted) + 1e-37;
  return dot;
}

std::vector<int64_t> listed(const ExitHeadInputs& in) {
  std::vector<int64_t> ids;
  if (!in.shortlist.given()) return ids;
  for (int64_t k = 0; k < in.shortlist.cols; ++k) ids.push_back(in.shortlist.integer_at(k));
  return ids;
}

}  // namespace

std::vector<StatsExpected> exit_head_oracle(const ExitHeadCase& c, const ExitHeadInputs& in) {
  const std::vector<int64_t> ids = listed(in);
  const int64_t count = ids.empty() ? in.weight.rows : static_cast<int64_t>(ids.size());
  std::vector<State> states;
  for (int64_t r = 0; r < in.hidden.rows; ++r) states.push_back(prepared(c, in, r));
  std::vector<Logits> logits(states.size());
  for (Logits& row : logits) {
    row.z.resize(at(count));
    row.error.resize(at(count));
    row.ids = ids;
  }
  for (int64_t k = 0; k < count; ++k) {
    const int64_t v = ids.empty() ? k : ids[at(k)];
    const std::vector<double> w = row_of<double>(in.weight, v);
    const double bias = in.bias.given() ? in.bias.at(0, v) : 0;
    for (size_t r = 0; r < states.size(); ++r) {
      const Dot dot = logit_of(states[r], w, c.exact);
      const double z = dot.value + bias;
      logits[r].z[at(k)] = z;
      logits[r].error[at(k)] = c.exact || std::isinf(z) ? 0 : dot.error + kUnit * std::fabs(z);
    }
  }
  std::vector<StatsExpected> rows;
  for (const Logits& row : logits) {
    rows.push_back(stats_oracle(row, c.normalizer, c.temperature, c.softcap));
  }
  return rows;
}

// ---- rows to rows -------------------------------------------------------------------------------

namespace {

// x = z or ln s(z), with the error that computing it in `u` gives each element.
template <typename Real>
struct Scores {
  std::vector<Real> x;
  Real error = 0;  // largest, of a logarithm
  Distribution<Real> d;
  Real sum_bound = 0;  // relative, of sum exp
};

template <typename Real>
Scores<Real> scores_of(const std::vector<Real>& z, int32_t normalizer, Real u) {
  Scores<Real> s;
  s.x = z;
  if (normalizer == EXN_STABLEMAX) {
    for (Real& v : s.x) {
      if (v == -kInf) continue;
      v = log_s(v);
      s.error = std::max(s.error, 2 * u * (std::fabs(v) + 1));
    }
  }
  s.d = distribution_of(s.x);
  // In f64 the weights of StableMax are taken from their logarithms.
  s.sum_bound = std::is_same_v<Real, Wide>
                    ? u * (sum_error(static_cast<int64_t>(z.size())) + 2 * s.d.spread) + 2 * s.error
                    : static_cast<Real>(kStatsError);
  return s;
}

template <typename Real>
Real probability_bound(const Scores<Real>& s, size_t j, Real u) {
  if (s.x[j] == -kInf) return 0;
  const Real operations = std::is_same_v<Real, Wide> ? 4 : 0;  // of the promise, if there is one
  return s.d.p[j] * (s.sum_bound + u * (operations + 2 * (s.d.top - s.x[j])));
}

template <typename Real>
Real log_bound(const Scores<Real>& s, size_t j, Real u) {
  return s.sum_bound + 2 * s.error +
         u * 2 * (std::fabs(s.x[j] - s.d.top) + std::fabs(s.x[j] - s.d.lse));
}

template <typename Real>
std::vector<Expected> stablemax_in(const StableMaxCase& c, const StableMaxInputs& in) {
  const Type type = in.logits.type;
  const Real u = static_cast<Real>(arithmetic(type));
  std::vector<Expected> out;
  for (int64_t r = 0; r < in.logits.rows; ++r) {
    const std::vector<Real> z = row_of<Real>(in.logits, r);
    if (!valid_logits(z)) {
      out.insert(out.end(), z.size(), nan());
      continue;
    }
    const Scores<Real> s = scores_of(z, c.normalizer, u);
    for (size_t j = 0; j < z.size(); ++j) {
      out.push_back(c.log ? stored(type, s.x[j] - s.d.lse, log_bound(s, j, u))
                          : stored(type, s.d.p[j], probability_bound(s, j, u)));
    }
  }
  return out;
}

}  // namespace

std::vector<Expected> stablemax_oracle(const StableMaxCase& c, const StableMaxInputs& in) {
  return in.logits.type == Type::kF64 ? stablemax_in<Wide>(c, in) : stablemax_in<double>(c, in);
}

namespace {

// One row of a cross-entropy: loss and gradient before the division by the count.
template <typename Real>
struct LossRow {
  Real loss = 0;
  Real loss_bound = 0;
  std::vector<Real> grad;
  std::vector<Real> grad_bound;
};

template <typename Real>
LossRow<Real> loss_row(const std::vector<Real>& z, size_t label, int32_t normalizer, Real u) {
  LossRow<Real> row;
  row.grad.resize(z.size());
  row.grad_bound.resize(z.size());
  if (!valid_logits(z)) {
    row.loss = static_cast<Real>(kNaN);
    row.grad.assign(z.size(), static_cast<Real>(kNaN));
    return row;
  }
  const Scores<Real> s = scores_of(z, normalizer, u);
  row.loss = s.d.lse - s.x[label];
  row.loss_bound = log_bound(s, label, u);
  for (size_t j = 0; j < z.size(); ++j) {
    const Real hot = j == label ? 1 : 0;
    const Real slope = normalizer == EXN_STABLEMAX ? 1 / (1 + std::fabs(z[j])) : 1;
    row.grad[j] = slope * (s.d.p[j] - hot);
    row.grad_bound[j] = slope * (probability_bound(s, j, u) + 4 * u * (s.d.p[j] + hot));
  }
  return row;
}

template <typename Real>
CrossEntropyExpected cross_entropy_in(const CrossEntropyCase& c, const CrossEntropyInputs& in) {
  const Type type = in.logits.type;
  const Type loss_type = type == Type::kF64 ? Type::kF64 : Type::kF32;
  const Real u = static_cast<Real>(arithmetic(type));
  const bool mean = c.reduction == EXN_REDUCE_MEAN;
  const int64_t rows = in.logits.rows;
  int64_t counted = 0;
  for (int64_t r = 0; r < rows; ++r) counted += in.labels.integer_at(r) != c.ignore_index;
  const Real divisor = mean && counted > 0 ? static_cast<Real>(counted) : 1;

  CrossEntropyExpected out;
  Real total = 0, magnitude = 0, bound = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t label = in.labels.integer_at(r);
    const std::vector<Real> z = row_of<Real>(in.logits, r);
    if (label == c.ignore_index) {
      if (!mean) out.loss.push_back({0, 0});
      out.grad.insert(out.grad.end(), z.size(), Expected{0, 0});
      continue;
    }
    const LossRow<Real> row = loss_row(z, at(label), c.normalizer, u);
    total += row.loss;
    magnitude += std::fabs(row.loss);
    bound += row.loss_bound;
    if (!mean) out.loss.push_back(stored(loss_type, row.loss, row.loss_bound));
    for (size_t j = 0; j < z.size(); ++j) {
      const Real g = row.grad[j] / divisor;
      out.grad.push_back(stored(type, g, row.grad_bound[j] / divisor + 2 * u * std::fabs(g)));
    }
  }
  if (mean) {
    const Real n = static_cast<Real>(counted);
    out.loss.push_back(counted == 0 ? nan()
                                    : stored(loss_type, total / n,
                                             (bound + u * sum_error(counted) * magnitude) / n));
  }
  return out;
}

}  // namespace

CrossEntropyExpected cross_entropy_oracle(const CrossEntropyCase& c, const CrossEntropyInputs& in) {
  return in.logits.type == Type::kF64 ? cross_entropy_in<Wide>(c, in)
                                      : cross_entropy_in<double>(c, in);
}

namespace {

template <typename Real>
PerpGradExpected perp_grad_in(const PerpGradCase& c, const PerpGradInputs& in) {
  const Type type = in.weight.type;
  const Real u = static_cast<Real>(arithmetic(type));
  const std::vector<Real> w = row_of<Real>(in.weight, 0);
  const std::vector<Real> g = row_of<Real>(in.grad, 0);
  const size_t n = w.size();
  PerpGradExpected out;
  if (!all_finite(w) || !all_finite(g)) {
    out.out.assign(n, nan());
    return out;
  }
  Real wg = 0, ww = 0, gg = 0, wg_magnitude = 0;
  for (size_t i = 0; i < n; ++i) {
    wg += w[i] * g[i];
    wg_magnitude += std::fabs(w[i] * g[i]);
    ww += w[i] * w[i];
    gg += g[i] * g[i];
  }
  const Real divisor = ww + static_cast<Real>(1e-30L);
  const Real alpha = wg / divisor;
  const Real sum_bound = u * static_cast<Real>(sum_error(static_cast<int64_t>(n)));
  const Real alpha_error = sum_bound * (wg_magnitude / divisor + std::fabs(alpha));
  std::vector<Real> perp(n), error(n);
  Real pp = 0, cross = 0;
  for (size_t i = 0; i < n; ++i) {
    perp[i] = g[i] - alpha * w[i];
    const Real rounding_error = 2 * u * (std::fabs(g[i]) + std::fabs(alpha * w[i]));
    error[i] = rounding_error + alpha_error * std::fabs(w[i]);
    pp += perp[i] * perp[i];
    cross += perp[i] * perp[i] * rounding_error * rounding_error;
  }
  const Real length = std::sqrt(pp), full = std::sqrt(gg);
  const Real guard = static_cast<Real>(rounding(type)) * (type == Type::kF64 ? 8 : 1) * full;
  out.norm = as_double(c.form == EXN_PERP_CODE ? full : 8 * guard);
  if (length <= guard / 8) {
    out.out.assign(n, Expected{0, 0});
    return out;
  }
  out.noise = length <= guard * 8;
  Real scale = 1, scale_error = 0;
  if (c.form == EXN_PERP_CODE) {
    scale = full / (length + static_cast<Real>(1e-30L));
    scale_error =
        sum_bound + kIndependent * std::sqrt(cross) / pp + alpha_error * alpha_error * ww / pp;
  }
  for (size_t i = 0; i < n; ++i) {
    const Real v = perp[i] * scale;
    out.out.push_back(stored(type, v, error[i] * scale + (scale_error + 3 * u) * std::fabs(v)));
  }
  return out;
}

}  // namespace

PerpGradExpected perp_grad_oracle(const PerpGradCase& c, const PerpGradInputs& in) {
  return in.weight.type == Type::kF64 ? perp_grad_in<Wide>(c, in) : perp_grad_in<double>(c, in);
}

// ---- gates --------------------------------------------------------------------------------------

namespace {

double sigmoid(double x) {
  return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}

// v = M y + bias with the errors of y carried along. `first` is the row of
// `m` where the matrix begins.
void affine(const HostTensor& m, int64_t first, int64_t rows, const HostTensor& bias,
            int64_t bias_at, const std::vector<double>& y, const std::vector<double>& y_error,
            std::vector<double>* v, std::vector<double>* v_error) {
  const int64_t n = static_cast<int64_t>(y.size());
  v->assign(at(rows), 0);
  v_error->assign(at(rows), 0);
  for (int64_t i = 0; i < rows; ++i) {
    double sum = 0, magnitude = 0, independent = 0;
    for (int64_t j = 0; j < n; ++j) {
      const double w = m.at(0, (first + i) * n + j);
      const double term = w * y[at(j)];
      sum += term;
      magnitude += std::fabs(term);
      independent += w * w * y_error[at(j)] * y_error[at(j)];
    }
    if (bias.given()) sum += bias.at(0, bias_at + i);
    (*v)[at(i)] = sum;
    (*v_error)[at(i)] =
        kUnit * (sum_error(n) * magnitude + std::fabs(sum)) + kIndependent * std::sqrt(independent);
  }
}

// A view of a matrix as one long row, so that [D,D] and [repeats,D,D] are addressed alike.
HostTensor flat(const HostTensor& t) {
  HostTensor view = t;
  view.cols = t.size();
  view.rows = 1;
  view.stride = view.cols;
  return view;
}

Expected probability_of(const std::vector<double>& o, const std::vector<double>& o_error) {
  const double x = o.size() == 1 ? o[0] : o[1] - o[0];
  const double e = o.size() == 1 ? o_error[0] : o_error[0] + o_error[1] + 2 * kUnit * std::fabs(x);
  const double p = sigmoid(x);
  const double moved = std::max(sigmoid(x + e) - p, p - sigmoid(x - e));
  return {p, moved + (8 + std::fabs(x) * (1 - p)) * kUnit * p + smallest(Type::kF32)};
}

Expected gate_row(const GateCase& c, const GateInputs& in, const HostTensor& hidden,
                  const HostTensor& head, int64_t row) {
  std::vector<double> y = row_of<double>(in.features, row), y_error(y.size(), 0), v, v_error;
  const bool nan_input = std::any_of(y.begin(), y.end(), [](double x) { return std::isnan(x); });
  const bool inf_input = std::any_of(y.begin(), y.end(), [](double x) { return std::isinf(x); });
  if (nan_input) return nan();
  if (inf_input) return {0, std::numeric_limits<double>::infinity()};
  const int64_t d = in.features.cols;
  const int32_t repeats = c.kind == EXN_GATE_LINEAR ? 0 : c.repeats;
  for (int32_t k = 0; k < repeats; ++k) {
    const bool tanh = c.kind == EXN_GATE_TANH;
    affine(hidden, tanh ? k * d : 0, d, in.hidden_bias, tanh ? k * d : 0, y, y_error, &v, &v_error);
    for (size_t i = 0; i < y.size(); ++i) {
      if (tanh) {
        y[i] = std::tanh(v[i]);
        y_error[i] = std::min(v_error[i], 1.0) + 4 * kUnit * std::fabs(y[i]);
      } else {
        const double silu = v[i] * sigmoid(v[i]);
        y[i] += silu;
        y_error[i] += 1.1 * v_error[i] + kUnit * (6 * std::fabs(silu) + std::fabs(y[i]));
      }
    }
  }
  affine(head, 0, c.classes, in.out_bias, 0, y, y_error, &v, &v_error);
  return probability_of(v, v_error);
}

}  // namespace

std::vector<Expected> gate_oracle(const GateCase& c, const GateInputs& in) {
  const HostTensor hidden = flat(in.hidden_weight), head = flat(in.out_weight);
  GateInputs flattened = in;
  if (in.hidden_bias.given()) flattened.hidden_bias = flat(in.hidden_bias);
  std::vector<Expected> out;
  for (int64_t r = 0; r < in.features.rows; ++r) {
    out.push_back(gate_row(c, flattened, hidden, head, r));
  }
  return out;
}

// ---- exit rules ---------------------------------------------------------------------------------

namespace {

float decayed(const ExitRuleCall& call, const ExitRuleInputs& in, int64_t row) {
  if (call.decay == EXN_DECAY_NONE) return call.threshold;
  const float t = in.step.given() ? static_cast<float>(in.step.integer_at(row))
                                  : static_cast<float>(call.step_index);
  const float fade = std::exp(-call.tau * t / call.horizon);
  if (call.decay == EXN_DECAY_CALM_CODE) {
    return 0.9f * call.threshold + 0.1f * call.threshold * fade;
  }
  return std::min(1.0f, std::max(0.0f, 0.9f * call.threshold + 0.1f * fade));
}

bool usable(const ExitRuleInputs& in, int64_t row) {
  const bool valid = !in.valid.given() || in.valid.integer_at(row) != 0;
  return valid && !(in.score.given() && std::isnan(in.score.at(0, row)));
}

}  // namespace

ExitRuleOracle::Verdict ExitRuleOracle::against(float value, int32_t comparator, float threshold,
                                                double band) {
  const double distance = std::fabs(static_cast<double>(value) - static_cast<double>(threshold));
  if (distance > 0 && distance <= band * std::fabs(static_cast<double>(threshold))) {
    return Verdict::kEither;
  }
  const bool leave = comparator == EXN_COMPARE_GE   ? value >= threshold
                     : comparator == EXN_COMPARE_GT ? value > threshold
                                                    : value <= threshold;
  return leave ? Verdict::kLeave : Verdict::kStay;
}

ExitRuleOracle::Verdict ExitRuleOracle::over_threshold(const ExitRuleCall& call,
                                                       const ExitRuleInputs& in, int64_t row) {
  const double band = call.decay == EXN_DECAY_NONE ? 0 : kDecisionBand;
  return against(static_cast<float>(in.score.at(0, row)), call.comparator, decayed(call, in, row),
                 band);
}

ExitRuleOracle::Verdict ExitRuleOracle::patience(const ExitRuleCall& call, const ExitRuleInputs& in,
                                                 int64_t row, RowState* s) {
  bool same = false;
  if (in.label.given()) {
    same = s->has_previous && in.label.integer_at(row) == s->previous_label;
    s->previous_label = in.label.integer_at(row);
  } else {
    const float score = static_cast<float>(in.score.at(0, row));
    same = s->has_previous && std::fabs(score - s->previous_score) < call.threshold;
    s->previous_score = score;
  }
  s->has_previous = true;
  s->counter = same ? s->counter + 1 : 0;
  return call.patience > 0 && s->counter >= call.patience ? Verdict::kLeave : Verdict::kStay;
}

ExitRuleOracle::Verdict ExitRuleOracle::quantile(const ExitRuleCall& call, float lambda,
                                                 RowState* s) {
  s->product *= 1 - lambda;
  return against(1 - s->product, EXN_COMPARE_GT, call.threshold, kDecisionBand);
}

ExitRuleOracle::Verdict ExitRuleOracle::jei(const ExitRuleCall& call, float g, RowState* s) {
  const float p = std::max(0.0f, std::min(g, 1 - s->sum));
  // When nothing is left the exit was certain before: 1, and not 0 / 0.
  const float ratio = s->product > 0 ? p / s->product : 1.0f;
  const float a = std::min(1.0f, std::max(0.0f, ratio));
  // p and the product come from differences to 1: the smaller the rest, the
  // larger their relative error.
  const double band =
      s->product > 0 ? kDecisionBand * (1 + 1 / static_cast<double>(s->product)) : 0;
  s->sum += g;
  s->product *= 1 - a;
  return against(a, EXN_COMPARE_GE, call.threshold, band);
}

ExitRuleOracle::Verdict ExitRuleOracle::specdec(const ExitRuleCall& call, float p, RowState* s) {
  ++s->calls;
  if (s->calls > 1) s->product *= p;
  if (call.max_steps > 0 && s->calls >= call.max_steps) return Verdict::kLeave;
  if (s->calls < call.min_steps) return Verdict::kStay;
  return against(1 - s->product, EXN_COMPARE_GT, call.threshold, kDecisionBand);
}

ExitRuleOracle::Verdict ExitRuleOracle::verdict(const ExitRuleCall& call, const ExitRuleInputs& in,
                                                int64_t row, RowState* s) {
  if (!usable(in, row)) return Verdict::kStay;
  const float score = in.score.given() ? static_cast<float>(in.score.at(0, row)) : 0;
  switch (call.rule) {
    case EXN_RULE_THRESHOLD:
      return over_threshold(call, in, row);
    case EXN_RULE_PATIENCE:
      return patience(call, in, row, s);
    case EXN_RULE_QUANTILE:
      return quantile(call, score, s);
    case EXN_RULE_JEI:
      return jei(call, score, s);
    default:
      return specdec(call, score, s);
  }
}

ExitRuleOracle::Verdict ExitRuleOracle::scoped(const ExitRuleCall& call,
                                               const std::vector<Verdict>& verdicts,
                                               size_t row) const {
  if (call.scope == EXN_SCOPE_EACH) return verdicts[row];
  if (call.scope == EXN_SCOPE_LAST) return rows_.back().left ? Verdict::kStay : verdicts.back();
  Verdict all = Verdict::kLeave;
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (rows_[r].left || verdicts[r] == Verdict::kLeave) continue;
    if (verdicts[r] == Verdict::kStay) return Verdict::kStay;
    all = Verdict::kEither;
  }
  return all;
}

bool ExitRuleOracle::step(const ExitRuleCall& call, const ExitRuleInputs& in,
                          const std::vector<uint8_t>* observed_mask) {
  if (call.first) rows_.assign(rows_.size(), RowState{});
  std::vector<Verdict> verdicts(rows_.size(), Verdict::kStay);
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (!rows_[r].left) verdicts[r] = verdict(call, in, static_cast<int64_t>(r), &rows_[r]);
  }
  bool permitted = true;
  mask_.assign(rows_.size(), 0);
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (rows_[r].left) continue;
    const bool valid = !in.valid.given() || in.valid.integer_at(static_cast<int64_t>(r)) != 0;
    Verdict outcome = valid ? scoped(call, verdicts, r) : Verdict::kStay;
    if (call.force) outcome = Verdict::kLeave;
    ++decisions_;
    if (outcome == Verdict::kEither) {
      ++band_hits_;
      mask_[r] = observed_mask != nullptr ? (*observed_mask)[r] : 0;
    } else {
      mask_[r] = outcome == Verdict::kLeave ? 1 : 0;
    }
  }
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (observed_mask != nullptr && (*observed_mask)[r] != mask_[r]) permitted = false;
    if (mask_[r] == 0) continue;
    rows_[r].left = true;
    rows_[r].exit_layer = call.layer;
  }
  return permitted;
}

std::vector<int32_t> ExitRuleOracle::active() const {
  std::vector<int32_t> rows;
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (!rows_[r].left) rows.push_back(static_cast<int32_t>(r));
  }
  return rows;
}

}  // namespace exn::test
