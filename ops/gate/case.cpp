// SPDX-License-Identifier: Apache-2.0
#include "gate/case.h"

#include "judge.h"
#include "maker.h"
#include "reals.h"

namespace exn::test {

namespace {

void read_case(const Row& row, GateCase* c) {
  c->features = read_matrix(row, "dim");
  c->weight_type = row.type("weight_dtype");
  c->weight_scale = row.number("weight_scale");
  c->kind = row.choice("kind", {"linear", "residual", "tanh"});
  c->repeats = static_cast<int32_t>(row.integer("repeats"));
  c->hidden_bias = row.flag("hidden_bias");
  c->classes = row.integer("classes");
  c->out_bias = row.flag("out_bias");
}

GateInputs make_inputs(const GateCase& c) {
  const int64_t d = c.features.cols;
  GateInputs in;
  in.features = make_matrix(c.features, c.seed, 0);
  if (c.kind == EXN_GATE_RESIDUAL) {
    in.hidden_weight = make_bell(c.weight_type, {d, d}, c.seed, 1, c.weight_scale);
    if (c.hidden_bias) in.hidden_bias = make_bell(Type::kF32, {d}, c.seed, 2, 0.125f);
  }
  if (c.kind == EXN_GATE_TANH) {
    in.hidden_weight = make_bell(c.weight_type, {c.repeats, d, d}, c.seed, 1, c.weight_scale);
    if (c.hidden_bias) in.hidden_bias = make_bell(Type::kF32, {c.repeats, d}, c.seed, 2, 0.125f);
  }
  in.out_weight = make_bell(c.weight_type, {c.classes, d}, c.seed, 3, c.weight_scale);
  if (c.out_bias) in.out_bias = make_bell(Type::kF32, {c.classes}, c.seed, 4, 0.125f);
  return in;
}

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

namespace {

Case make_case(const GateCase& c) {
  Case result;
  const auto inputs = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, inputs](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const GateInputs& in = inputs();
    const DLTensor* features = instance->input(in.features);
    const DLTensor* hidden_weight = instance->input(in.hidden_weight);
    const DLTensor* hidden_bias = instance->input(in.hidden_bias);
    const DLTensor* out_weight = instance->input(in.out_weight);
    const DLTensor* out_bias = instance->input(in.out_bias);
    const DLTensor* prob = instance->output("prob", Type::kF32, {c.features.rows});
    const exn_gate_params params = {sizeof params, features,        hidden_weight,  hidden_bias,
                                    out_weight,    out_bias,        prob,           c.kind,
                                    c.repeats,     EXN_BLOCKS_NONE, EXN_BLOCKS_NONE};
    instance->call(EXN_TEST_OP(gate), params);
    return instance;
  };
  const auto oracle = lazily([c, inputs] { return gate_oracle(c, inputs()); });
  result.judge = [oracle](const Outputs& got) {
    return first_of({compare("prob", oracle(), got[0]), compare_range("prob", 0, 1, got[0])});
  };
  const int64_t dim = c.features.cols;
  const int64_t hidden = c.kind == EXN_GATE_LINEAR || c.repeats == 0 ? 0
                         : c.kind == EXN_GATE_TANH                   ? c.repeats * dim * dim
                                                                     : dim * dim;
  result.compulsory_bytes =
      passes_over_weights(c.features.rows) * bytes_of(hidden + c.classes * dim, c.weight_type) +
      bytes_of(c.features.rows * dim, c.features.type) + bytes_of(c.features.rows, Type::kF32);
  result.description = {{"rows", text(c.features.rows)},
                        {"dim", text(dim)},
                        {"dtype", quoted(name_of(c.features.type))},
                        {"kind", text(c.kind)},
                        {"weight_dtype", quoted(name_of(c.weight_type))},
                        {"repeats", text(c.repeats)},
                        {"classes", text(c.classes)}};
  return result;
}

void describe(Maker& m, exn_gate_params& p) {
  const Dim rows = m.dim("rows", 0, 4, 66), columns = m.dim("columns", 1, 30, 130),
            outputs = m.dim("outputs", 1, 2, 2);
  m.in(FIELD(features), m.type(kFloats), {rows, columns}, kRows);
  const int32_t kind = m.choice(FIELD(kind), EXN_GATE_LINEAR, EXN_GATE_TANH);
  const Dim repeats = m.dim("repeats", 0, 3, 5);
  m.integer(FIELD(repeats), repeats.size, kind == EXN_GATE_LINEAR ? kAny64 : 0,
            kind == EXN_GATE_LINEAR ? INT64_MAX : 64);
  const unsigned needed = repeats.size > 0 ? kPlain : kOptional;
  if (kind == EXN_GATE_LINEAR) {
    m.none(FIELD(hidden_weight));
    m.none(FIELD(hidden_bias));
  } else if (kind == EXN_GATE_RESIDUAL) {
    m.in(FIELD(hidden_weight), m.type(kFloats), {columns, columns}, needed);
    m.in(FIELD(hidden_bias), kF32, {columns}, kOptional);
  } else {
    m.in(FIELD(hidden_weight), m.type(kFloats), {repeats, columns, columns}, needed);
    m.in(FIELD(hidden_bias), kF32, {repeats, columns}, kOptional);
  }
  m.in(FIELD(out_weight), m.type(kFloats), {outputs, columns}, kRows);
  m.in(FIELD(out_bias), kF32, {outputs}, kOptional);
  m.zero(FIELD(hidden_blocks));
  m.zero(FIELD(out_blocks));
  m.out(FIELD(prob), kF32, {rows});
}

const Described kDescribed = EXN_DESCRIBED(gate);

const Room kRoom("gate",
                 [] { return listed("gate", read_cases<GateCase>("gate", read_case), make_case); });

}  // namespace

}  // namespace exn::test
