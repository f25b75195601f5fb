// SPDX-License-Identifier: Apache-2.0
#include "oracle_dense.h"

#include <cmath>
#include <limits>

#include "expected.h"

namespace exn::test {

namespace {

constexpr double kUnit = 0x1p-24;  // of f32, the precision of all sums
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

size_t at(int64_t i) { return static_cast<size_t>(i); }

std::vector<double> doubles_of(const HostTensor& t, int64_t row) {
  std::vector<double> values(at(t.cols));
  for (int64_t c = 0; c < t.cols; ++c) values[at(c)] = t.at(row, c);
  return values;
}

std::vector<std::vector<double>> rows_of(const HostTensor& t) {
  std::vector<std::vector<double>> rows;
  for (int64_t r = 0; r < t.rows; ++r) rows.push_back(doubles_of(t, r));
  return rows;
}

double element(const HostTensor& t, int64_t i) { return t.given() ? t.at(0, i) : 0; }

// What `type` stores of a value with an error.
Expected stored(Type type, double value, double error) {
  const double kept = rounded_to(type, value);
  if (!std::isfinite(kept)) return {kept, 0};
  return {value, error + rounding(type) * std::fabs(value) * 1.01 + smallest(type)};
}

// An exact value is rounded once.
Expected stored_exactly(Type type, double value) { return {rounded_to(type, value), 0}; }

// ---- rows of values with their errors -----------------------------------------------------------

// A value with an error of its own and one that it shares with the others of its row, in one
// direction or the other.
struct Value {
  double x = 0;
  double own = 0;
  double shared = 0;

  double error() const { return own + shared; }
};

using Values = std::vector<Value>;

Values exact_values(const HostTensor& t, int64_t row) {
  Values values(at(t.cols));
  for (int64_t c = 0; c < t.cols; ++c) values[at(c)].x = t.at(row, c);
  return values;
}

// The f32 normalisation of a row of exact values. What the scale and the mean are off is shared by
// all elements.
void normalise(Values* row, int32_t norm, double eps, const HostTensor& weight,
               const HostTensor& bias) {
  if (norm == EXN_NORM_NONE) return;
  const int64_t n = static_cast<int64_t>(row->size());
  const double count = static_cast<double>(n);
  double mean = 0, mean_error = 0;
  if (norm == EXN_NORM_LAYER) {
    double magnitude = 0;
    for (const Value& v : *row) {
      mean += v.x / count;
      magnitude += std::fabs(v.x) / count;
    }
    mean_error = kUnit * (sum_error(n) * magnitude + std::fabs(mean));
  }
  double square = 0, square_error = mean_error * mean_error;
  for (const Value& v : *row) {
    const double d = v.x - mean;
    square += d * d / count;
    square_error += kUnit * 2 * std::fabs(d) * (std::fabs(v.x) + std::fabs(mean)) / count;
  }
  const double scale = 1 / std::sqrt(square + eps);
  const double scale_error =
      scale * (0.5 * scale * scale * (square_error + kUnit * sum_error(n) * square) + 4 * kUnit);
  for (int64_t i = 0; i < n; ++i) {
    Value& v = (*row)[at(i)];
    const double w = element(weight, i), d = v.x - mean;
    const double scaled = d * scale * w;
    v.own =
        (norm == EXN_NORM_LAYER ? kUnit * (std::fabs(v.x) + std::fabs(mean)) * scale * std::fabs(w)
                                : 0) +
        4 * kUnit * std::fabs(scaled);
    v.shared = scale_error * std::fabs(d * w) + mean_error * scale * std::fabs(w);
    v.x = scaled + element(bias, i);
    v.own += kUnit * std::fabs(v.x);
  }
}

// <w, x> in f32.
Value dot(const std::vector<double>& w, const Values& x) {
  Value sum;
  double magnitude = 0, independent = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    const double term = w[i] * x[i].x;
    sum.x += term;
    magnitude += std::fabs(term);
    independent += w[i] * w[i] * x[i].own * x[i].own;
    sum.shared += std::fabs(w[i]) * x[i].shared;
  }
  sum.own = kUnit * sum_error(static_cast<int64_t>(w.size())) * magnitude +
            kIndependent * std::sqrt(independent);
  return sum;
}

// One more sum in f32.
Value plus(Value v, double term) {
  v.x += term;
  v.own += kUnit * std::fabs(v.x);
  return v;
}

}  // namespace

// ---- norm ---------------------------------------------------------------------------------------

std::vector<Expected> norm_oracle(const NormCase& c, const NormInputs& in) {
  std::vector<Expected> out;
  for (int64_t r = 0; r < in.input.rows; ++r) {
    Values row = exact_values(in.input, r);
    normalise(&row, c.norm, static_cast<double>(c.eps), in.weight, in.bias);
    for (const Value& v : row) {
      if (c.norm == EXN_NORM_NONE) {
        out.push_back(stored_exactly(c.out_type, v.x));
      } else {  // where the row has an infinity, a finite value is exact
        out.push_back(stored(c.out_type, v.x, std::isfinite(v.error()) ? v.error() : 0));
      }
    }
  }
  return out;
}

// ---- rope ---------------------------------------------------------------------------------------

std::vector<Expected> rope_table_oracle(const RopeTableCase& c) {
  using Real = long double;
  const Real n = 2 * static_cast<Real>(c.pairs), factor = static_cast<Real>(c.factor);
  Real base = static_cast<Real>(c.base);
  if (c.scaling == EXN_ROPE_SCALING_NTK) base *= std::pow(factor, n / (n - 2));
  std::vector<Real> frequencies;
  for (int64_t i = 0; i < c.pairs; ++i)
    frequencies.push_back(std::pow(base, -2 * static_cast<Real>(i) / n));
  std::vector<Expected> out;
  for (int64_t t = 0; t < c.positions; ++t) {
    const Real position =
        static_cast<Real>(t) / (c.scaling == EXN_ROPE_SCALING_LINEAR ? factor : 1);
    for (const Real frequency : frequencies) {
      const Real angle = position * frequency;
      // Functions of a long double are slow on ARM, so: of the next double, and what is left.
      const double near = static_cast<double>(angle);
      const double rest = static_cast<double>(angle - static_cast<Real>(near));
      const double cosine = std::cos(near), sine = std::sin(near);
      // The angle in f64 is off by a few units of its own size.
      const double error = 16 * 0x1p-53 * (near + 1);
      out.push_back(stored(Type::kF32, cosine - rest * sine, error));
      out.push_back(stored(Type::kF32, sine + rest * cosine, error));
    }
  }
  return out;
}

namespace {

// Rotates one head by the entries of a table at `position`.
void rotate(Value* head, const HostTensor& table, int64_t pairs, int64_t position, int32_t style) {
  for (int64_t i = 0; i < pairs; ++i) {
    Value& a = head[style == EXN_ROPE_HALF ? i : 2 * i];
    Value& b = head[style == EXN_ROPE_HALF ? i + pairs : 2 * i + 1];
    const double cosine = table.at(0, (position * pairs + i) * 2),
                 sine = table.at(0, (position * pairs + i) * 2 + 1);
    const auto turned = [](const Value& p, double u, const Value& q, double v) {
      Value out;
      out.x = p.x * u + q.x * v;
      out.own = p.own * std::fabs(u) + q.own * std::fabs(v) +
                2 * kUnit * (std::fabs(p.x * u) + std::fabs(q.x * v) + std::fabs(out.x));
      out.shared = p.shared * std::fabs(u) + q.shared * std::fabs(v);
      return out;
    };
    const Value first = turned(a, cosine, b, -sine), second = turned(b, cosine, a, sine);
    a = first;
    b = second;
  }
}

}  // namespace

std::vector<Expected> rope_oracle(const RopeCase& c, const RopeInputs& in) {
  std::vector<Expected> out;
  for (int64_t r = 0; r < in.input.rows; ++r) {
    Values row = exact_values(in.input, r);
    for (int64_t h = 0; h < c.heads; ++h) {
      rotate(&row[at(h * c.dim)], in.table, c.pairs, in.position.integer_at(r), c.style);
    }
    for (int64_t i = 0; i < c.heads * c.dim; ++i) {
      const Value& v = row[at(i)];
      const bool copied = i % c.dim >= 2 * c.pairs;
      out.push_back(c.exact || copied ? stored_exactly(c.input.type, v.x)
                                      : stored(c.input.type, v.x, v.error()));
    }
  }
  return out;
}

// ---- linear -------------------------------------------------------------------------------------

std::vector<Expected> linear_oracle(const LinearCase& c, const LinearInputs& in) {
  const std::vector<std::vector<double>> weight = rows_of(in.weight);
  std::vector<Expected> out;
  for (int64_t r = 0; r < in.input.rows; ++r) {
    const Values x = exact_values(in.input, r);
    for (int64_t w = 0; w < in.weight.rows; ++w) {
      Value v = dot(weight[at(w)], x);
      if (in.bias.given()) v = plus(v, in.bias.at(0, w));
      if (in.residual.given()) v = plus(v, in.residual.at(r, w));
      out.push_back(c.exact ? stored_exactly(c.out_type, v.x) : stored(c.out_type, v.x, v.error()));
    }
  }
  return out;
}

// ---- ffn ----------------------------------------------------------------------------------------

namespace {

double activate(int32_t activation, double z) {
  switch (activation) {
    case EXN_ACT_SILU:
      return z / (1 + std::exp(-z));
    case EXN_ACT_GELU:
      return z / 2 * (1 + std::erf(z / std::sqrt(2.0)));
    default:
      return z / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
  }
}

// No slope of an activation exceeds 1.13. The terms of z are what its exponent, erf or tanh may be
// off: 1e-6 relative to z.
Value activated(int32_t activation, const Value& z) {
  Value a;
  a.x = activate(activation, z.x);
  a.own = 1.13 * z.own + 16 * kUnit * std::fabs(z.x);
  a.shared = 1.13 * z.shared;
  return a;
}

Value product(const Value& a, const Value& b) {
  Value p;
  p.x = a.x * b.x;
  p.own = std::fabs(a.x) * b.own + std::fabs(b.x) * a.own + a.error() * b.error() +
          kUnit * std::fabs(p.x);
  p.shared = std::fabs(a.x) * b.shared + std::fabs(b.x) * a.shared;
  return p;
}

// The cosine of an exact row and one with errors.
Expected cosine_of(const Values& a, const Values& b) {
  double aa = 0, bb = 0, ab = 0, magnitude = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    aa += a[i].x * a[i].x;
    bb += b[i].x * b[i].x;
    ab += a[i].x * b[i].x;
    magnitude += std::fabs(a[i].x * b[i].x);
  }
  if (std::isnan(ab)) return {kNaN, 0};
  if (aa == 0 || bb == 0) return {0, 0};
  const double norm_a = std::sqrt(aa), norm_b = std::sqrt(bb), norms = norm_a * norm_b;
  const double cosine = ab / norms;
  double independent = 0, moved = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double slope = (a[i].x / norm_a - cosine * b[i].x / norm_b) / norm_b;
    independent += slope * slope * b[i].own * b[i].own;
    moved += std::fabs(slope) * b[i].shared;
  }
  moved += kIndependent * std::sqrt(independent);
  const double sums =
      kUnit * sum_error(static_cast<int64_t>(a.size())) * (magnitude / norms + std::fabs(cosine));
  return {cosine, moved + sums + 4 * kUnit * std::fabs(cosine) + smallest(Type::kF32)};
}

struct FfnWeights {
  explicit FfnWeights(const FfnInputs& in)
      : gate(rows_of(in.gate_weight)), up(rows_of(in.up_weight)), down(rows_of(in.down_weight)) {}
  std::vector<std::vector<double>> gate, up, down;
};

Values branch_of(const FfnCase& c, const FfnInputs& in, const FfnWeights& weights,
                 const Values& x) {
  Values a(weights.up.size());
  for (size_t i = 0; i < a.size(); ++i) {
    const int64_t at_bias = static_cast<int64_t>(i);
    const Value up = plus(dot(weights.up[i], x), element(in.up_bias, at_bias));
    if (c.gate) {
      const Value gate = plus(dot(weights.gate[i], x), element(in.gate_bias, at_bias));
      a[i] = product(activated(c.activation, gate), up);
    } else {
      a[i] = activated(c.activation, up);
    }
  }
  Values f(weights.down.size());
  for (size_t i = 0; i < f.size(); ++i) {
    f[i] = plus(dot(weights.down[i], a), element(in.down_bias, static_cast<int64_t>(i)));
  }
  return f;
}

}  // namespace

FfnExpected ffn_oracle(const FfnCase& c, const FfnInputs& in) {
  const FfnWeights weights(in);
  FfnExpected expected;
  for (int64_t r = 0; r < in.hidden.rows; ++r) {
    const Values hidden = exact_values(in.hidden, r);
    if (in.skip.given() && in.skip.integer_at(r) != 0) {
      for (const Value& h : hidden) expected.out.push_back({h.x, 0});
      expected.cosine.push_back({kNaN, 0});
      expected.branch_cosine.push_back({kNaN, 0});
      continue;
    }
    Values x = hidden;
    normalise(&x, c.norm, static_cast<double>(c.norm_eps), in.norm_weight, in.norm_bias);
    const Values branch = branch_of(c, in, weights, x);
    Values out = branch;
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = plus(out[i], hidden[i].x);
      expected.out.push_back(stored(c.hidden.type, out[i].x, out[i].error()));
    }
    expected.cosine.push_back(cosine_of(hidden, out));
    expected.branch_cosine.push_back(cosine_of(hidden, branch));
  }
  return expected;
}

// ---- kv_propagate -------------------------------------------------------------------------------

namespace {

// Where a cache keeps element 0 of a head in a slot.
int64_t place_of(const KvPropagateCase& c, const KvLayerInputs& layer, int64_t sequence,
                 int64_t head, int64_t slot) {
  if (c.layout == EXN_KV_HEAD_MAJOR) {
    return ((sequence * c.heads + head) * c.slots + slot) * c.head_dim;
  }
  if (c.layout == EXN_KV_TOKEN_MAJOR) {
    return ((sequence * c.slots + slot) * c.heads + head) * c.head_dim;
  }
  const int64_t page = layer.block_table.integer_at(sequence * (c.slots / c.page) + slot / c.page);
  return ((page * c.page + slot % c.page) * c.heads + head) * c.head_dim;
}

std::vector<Expected> unchanged(const HostTensor& t) {
  std::vector<Expected> values;
  for (int64_t i = 0; i < t.cols; ++i) values.push_back({t.at(0, i), 0});
  return values;
}

// Rounded to a 16-bit type, an element within its error of a boundary to either side.
void round_values(Type type, Values* values) {
  for (Value& v : *values) {
    const double rounded = rounded_to(type, v.x);
    const double low = rounded_to(type, v.x - v.error());
    const double high = rounded_to(type, v.x + v.error());
    v = {rounded, std::max(high - rounded, rounded - low), 0};
  }
}

Values projected(const std::vector<std::vector<double>>& weight, const HostTensor& bias,
                 const Values& x) {
  Values y(weight.size());
  for (size_t i = 0; i < y.size(); ++i) {
    y[i] = dot(weight[i], x);
    if (bias.given()) y[i] = plus(y[i], bias.at(0, static_cast<int64_t>(i)));
  }
  return y;
}

}  // namespace

std::vector<KvLayerExpected> kv_propagate_oracle(const KvPropagateCase& c,
                                                 const KvPropagateInputs& in) {
  std::vector<KvLayerExpected> expected;
  for (size_t j = 0; j < in.layers.size(); ++j) {
    const KvLayerInputs& layer = in.layers[j];
    const std::vector<std::vector<double>> k_weight = rows_of(layer.k_weight),
                                           v_weight = rows_of(layer.v_weight);
    KvLayerExpected cache = {unchanged(layer.k), unchanged(layer.v)};
    for (int64_t r = 0; r < c.hidden.rows; ++r) {
      const int64_t exit = in.exit_layer.integer_at(r);
      const int64_t slot =
          in.slot.integer_at(c.slot_per_layer ? static_cast<int64_t>(j) * c.hidden.rows + r : r);
      if (exit < 0 || exit > layer.index || slot < 0) continue;
      Values x = exact_values(in.hidden, r);
      normalise(&x, c.norm, static_cast<double>(c.norm_eps), layer.norm_weight, layer.norm_bias);
      if (c.hidden.type == c.weight.type && is_16_bit(c.hidden.type)) {
        round_values(c.hidden.type, &x);
      }
      Values k = projected(k_weight, layer.k_bias, x);
      const Values v = projected(v_weight, layer.v_bias, x);
      for (int64_t h = 0; c.pairs > 0 && h < c.heads; ++h) {
        rotate(&k[at(h * c.head_dim)], in.table, c.pairs, in.position.integer_at(r), c.rope_style);
      }
      const int64_t sequence = in.sequence.given() ? in.sequence.integer_at(r) : 0;
      for (int64_t i = 0; i < c.heads * c.head_dim; ++i) {
        const int64_t to = place_of(c, layer, sequence, i / c.head_dim, slot) + i % c.head_dim;
        const auto kept = [&](const Value& value) {
          return c.exact ? stored_exactly(c.cache_type, value.x)
                         : stored(c.cache_type, value.x, value.error());
        };
        cache.k[at(to)] = kept(k[at(i)]);
        cache.v[at(to)] = kept(v[at(i)]);
      }
    }
    expected.push_back(cache);
  }
  return expected;
}

}  // namespace exn::test
