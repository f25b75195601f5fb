// SPDX-License-Identifier: Apache-2.0
#include "gate/case.h"

#include "dense.h"
#include "judge.h"
#include "maker.h"

namespace exn::test {
inline namespace gate_op {

namespace {

void read_case(const Row& row, GateCase* c) {
  c->features = read_matrix(row, "dim");
  c->weights = read_matrices(row, "weight", true);
  c->kind = row.choice("kind", {"linear", "residual", "tanh"});
  c->repeats = static_cast<int32_t>(row.integer("repeats"));
  c->hidden_bias = row.flag("hidden_bias");
  c->classes = row.integer("classes");
  c->out_bias = row.flag("out_bias");
}

// A view of a matrix as one long row, so that [D,D] and [repeats,D,D] are addressed alike.
HostTensor flat(const HostTensor& t) {
  HostTensor view = t;
  view.cols = t.size();
  view.rows = 1;
  view.stride = view.cols;
  return view;
}

GateInputs make_inputs(const GateCase& c) {
  const int64_t d = c.features.cols;
  GateInputs in;
  in.features = make_matrix(c.features, c.seed, 0);
  if (c.kind != EXN_GATE_LINEAR) in.hidden_weight = make_matrix(c.hidden_weight(), c.seed, 1);
  if (c.kind == EXN_GATE_RESIDUAL) {
    if (c.hidden_bias) in.hidden_bias = make_bell(Type::kF32, {d}, c.seed, 2, 0.125f);
  }
  if (c.kind == EXN_GATE_TANH) {
    in.hidden_weight.shape = {c.repeats, d, in.hidden_weight.cols};
    in.hidden_weight = flat(in.hidden_weight);
    if (c.hidden_bias) in.hidden_bias = make_bell(Type::kF32, {c.repeats, d}, c.seed, 2, 0.125f);
  }
  in.out_weight = make_matrix(c.out_weight(), c.seed, 3);
  if (c.out_bias) in.out_bias = make_bell(Type::kF32, {c.classes}, c.seed, 4, 0.125f);
  return in;
}

double sigmoid(double x) {
  return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}

// v = M y + bias with the errors of y carried along. `first` is the row of
// `m` where the matrix begins.
void affine(const Matrix& m, int64_t first, int64_t rows, const HostTensor& bias, int64_t bias_at,
            const std::vector<double>& y, const std::vector<double>& y_error,
            std::vector<double>* v, std::vector<double>* v_error) {
  const RoundedInput rounded(y, y_error);
  const int64_t n = static_cast<int64_t>(y.size());
  v->assign(at(rows), 0);
  v_error->assign(at(rows), 0);
  for (int64_t i = 0; i < rows; ++i) {
    const auto begin = m.rows[0].begin() + (first + i) * n;
    const std::vector<double> w(begin, begin + n);
    double sum = 0, magnitude = 0, independent = 0;
    for (size_t j = 0; j < w.size(); ++j) {
      const double term = w[j] * y[j];
      sum += term;
      magnitude += std::fabs(term);
      independent += w[j] * w[j] * y_error[j] * y_error[j];
    }
    if (bias.given()) sum += bias.at(0, bias_at + i);
    (*v)[at(i)] = sum;
    (*v_error)[at(i)] =
        kUnit * (sum_error(n) * magnitude + std::fabs(sum)) + kIndependent * std::sqrt(independent);
    if (m.quantised) rounded.meet(w, &(*v)[at(i)], &(*v_error)[at(i)]);
  }
}

Expected probability_of(const std::vector<double>& o, const std::vector<double>& o_error) {
  const double x = o.size() == 1 ? o[0] : o[1] - o[0];
  const double e = o.size() == 1 ? o_error[0] : o_error[0] + o_error[1] + 2 * kUnit * std::fabs(x);
  const double p = sigmoid(x);
  const double moved = std::max(sigmoid(x + e) - p, p - sigmoid(x - e));
  return {p, moved + (8 + std::fabs(x) * (1 - p)) * kUnit * p + smallest(Type::kF32)};
}

// What comes of an infinity depends on the order of operations.
const Expected kAnyProbability = {0, kInf};

Expected gate_row(const GateCase& c, const GateInputs& in, const Matrix& hidden, const Matrix& head,
                  int64_t row) {
  std::vector<double> y = row_of<double>(in.features, row), y_error(y.size(), 0), v, v_error;
  const bool nan_input = std::any_of(y.begin(), y.end(), [](double x) { return std::isnan(x); });
  const bool inf_input = std::any_of(y.begin(), y.end(), [](double x) { return std::isinf(x); });
  const int64_t d = in.features.cols;
  const int32_t repeats = c.hidden_layers();
  if (nan_input || (inf_input && (repeats > 0 ? hidden : head).quantised)) return nan();
  if (inf_input) return kAnyProbability;
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
  const Matrix hidden = matrix_of(flat(in.hidden_weight)), head = matrix_of(flat(in.out_weight));
  GateInputs flattened = in;
  if (in.hidden_bias.given()) flattened.hidden_bias = flat(in.hidden_bias);
  const auto has = [&](const char* fill) {
    return (c.hidden_layers() > 0 && c.hidden_weight().fill == fill) || c.out_weight().fill == fill;
  };
  const auto rows = static_cast<size_t>(in.features.rows);
  if (has("nan")) return std::vector<Expected>(rows, nan());
  if (has("pinf") || has("ninf")) return std::vector<Expected>(rows, kAnyProbability);
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
    const exn_gate_params params = {sizeof params,
                                    features,
                                    hidden_weight,
                                    hidden_bias,
                                    out_weight,
                                    out_bias,
                                    prob,
                                    c.kind,
                                    c.repeats,
                                    in.hidden_weight.blocks,
                                    in.out_weight.blocks};
    instance->call(EXN_TEST_OP(gate), params);
    return instance;
  };
  const auto oracle = lazily([c, inputs] { return gate_oracle(c, inputs()); });
  result.judge = [oracle](const Outputs& got) {
    return first_of({compare("prob", oracle(), got[0]), compare_range("prob", 0, 1, got[0])});
  };
  const int64_t dim = c.features.cols;
  const double hidden = c.hidden_layers() > 0 ? weight_bytes(c.hidden_weight()) : 0;
  result.compulsory_bytes =
      passes_over_weights(c.features.rows) * (hidden + weight_bytes(c.out_weight())) +
      bytes_of(c.features.rows * dim, c.features.type) + bytes_of(c.features.rows, Type::kF32);
  result.description = {{"rows", text(c.features.rows)},
                        {"dim", text(dim)},
                        {"dtype", quoted(name_of(c.features.type))},
                        {"kind", text(c.kind)},
                        {"weight_dtype", quoted(weight_name(c.weights[0]))},
                        {"repeats", text(c.repeats)},
                        {"classes", text(c.classes)}};
  return result;
}

void describe(Maker& m, exn_gate_params& p) {
  const Dim rows = m.dim("rows", 0, 4, 66), outputs = m.dim("outputs", 1, 2, 2);
  const BlockFormat* const hidden = m.blocks(FIELD(hidden_blocks));
  const BlockFormat* const out = m.blocks(FIELD(out_blocks));
  const Dim columns = m.columns({hidden, out}, "columns", 1, 30, 130);
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
    m.weights(FIELD(hidden_weight), hidden, m.type(kFloats), {columns, columns}, needed);
    m.in(FIELD(hidden_bias), kF32, {columns}, kOptional);
  } else {
    m.weights(FIELD(hidden_weight), hidden, m.type(kFloats), {repeats, columns, columns}, needed);
    m.in(FIELD(hidden_bias), kF32, {repeats, columns}, kOptional);
  }
  m.weights(FIELD(out_weight), out, m.type(kFloats), {outputs, columns}, kPlain);
  m.in(FIELD(out_bias), kF32, {outputs}, kOptional);
  m.out(FIELD(prob), kF32, {rows});
}

const Described kDescribed = EXN_DESCRIBED(gate);

const RegisteredOp kRegistered("gate", [] {
  return listed("gate", read_cases<GateCase>("gate", read_case), make_case);
});

}  // namespace

}  // namespace gate_op
}  // namespace exn::test
