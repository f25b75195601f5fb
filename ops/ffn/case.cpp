// SPDX-License-Identifier: Apache-2.0
#include "ffn/case.h"

#include "dense.h"
#include "judge.h"
#include "parts.h"

namespace exn::test {
inline namespace ffn_op {

std::vector<FfnCase> ffn_cases() {
  return read_cases<FfnCase>("ffn", [](const Row& row, FfnCase* c) {
    c->hidden = read_matrix(row, "hidden", "rows", "dim", "special");
    c->width = row.integer("width");
    c->weights = read_matrices(row, "weight");
    c->gate = row.flag("gate");
    c->biases = row.flag("biases");
    c->skip = row.text("skip");
    c->norm = row.choice("norm", kNorms);
    c->norm_eps = row.number("norm_eps");
    c->norm_bias = row.flag("norm_bias");
    c->activation = row.choice("activation", {"silu", "gelu", "gelu_tanh"});
    c->out_pad = row.integer("out_pad");
    c->out_offset = row.integer("out_offset");
    c->in_place = row.flag("in_place");
    c->rounding = row.choice("rounding", {"int16", "int8"});
    c->decision = row.text("outputs") == "decision";
    c->cosine = c->branch_cosine = c->decision;
    if (c->decision || row.text("outputs") == "-") return;
    const uint32_t outputs = row.subset("outputs", {"cosine", "branch_cosine"});
    c->cosine = outputs & 1;
    c->branch_cosine = outputs & 2;
  });
}

namespace {

bool skips(const FfnCase& c, int64_t row) {
  if (c.skip == "none") return false;
  if (c.skip == "all") return true;
  if (c.skip == "some") return pick(c.seed, 9, row, 3) == 0;
  if (c.skip == "alternate") return row % 2 == 0;
  if (c.skip == "but_last") return row + 1 < c.hidden.rows;
  fail("skip: unknown word '" + c.skip + "'");
}

}  // namespace

FfnInputs make_inputs(const FfnCase& c) {
  const int64_t d = c.hidden.cols, f = c.width;
  FfnInputs in;
  in.hidden = make_matrix(c.hidden, c.seed, 0);
  if (c.gate) in.gate_weight = make_matrix(c.gate_weight(), c.seed, 1);
  in.up_weight = make_matrix(c.up_weight(), c.seed, 2);
  in.down_weight = make_matrix(c.down_weight(), c.seed, 3);
  if (c.norm != EXN_NORM_NONE) in.norm_weight = make_bell(Type::kF32, {d}, c.seed, 4, 0.25f, 1);
  if (c.norm_bias) in.norm_bias = make_bell(Type::kF32, {d}, c.seed, 5, 0.25f);
  if (c.biases) {
    if (c.gate) in.gate_bias = make_bell(Type::kF32, {f}, c.seed, 6, 0.125f);
    in.up_bias = make_bell(Type::kF32, {f}, c.seed, 7, 0.125f);
    in.down_bias = make_bell(Type::kF32, {d}, c.seed, 8, 0.125f);
  }
  if (c.skip == "-") return in;
  in.skip = make_tensor(Type::kU8, {c.hidden.rows});
  for (int64_t r = 0; r < c.hidden.rows; ++r) {
    in.skip.set_integer(r, skips(c, r) ? 1 + 127 * (r % 3) : 0);  // 1, 128, 255
  }
  return in;
}

int64_t FfnInputs::running() const {
  int64_t count = 0;
  for (int64_t r = 0; r < hidden.rows; ++r) count += !skip.given() || skip.integer_at(r) == 0;
  return count;
}

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
Approximate activated(int32_t activation, const Approximate& z) {
  Approximate a;
  a.x = activate(activation, z.x);
  a.own = 1.13 * z.own + 16 * kUnit * std::fabs(z.x);
  a.shared = 1.13 * z.shared;
  return a;
}

Approximate product(const Approximate& a, const Approximate& b) {
  Approximate p;
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
  if (std::isnan(ab)) return nan();
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

struct Weights {
  explicit Weights(const FfnInputs& in)
      : gate(matrix_of(in.gate_weight)),
        up(matrix_of(in.up_weight)),
        down(matrix_of(in.down_weight)) {}
  Matrix gate, up, down;
};

Values branch_of(const FfnCase& c, const FfnInputs& in, const Weights& weights, const Values& x) {
  const Values up = projected(weights.up, in.up_bias, x, c.rounding);
  const Values gate = projected(weights.gate, in.gate_bias, x, c.rounding);
  Values a(up.size());
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] =
        c.gate ? product(activated(c.activation, gate[i]), up[i]) : activated(c.activation, up[i]);
  }
  return projected(weights.down, in.down_bias, a, c.rounding);
}

}  // namespace

FfnExpected ffn_oracle(const FfnCase& c, const FfnInputs& in) {
  const Weights weights(in);
  FfnExpected expected;
  for (int64_t r = 0; r < in.hidden.rows; ++r) {
    const Values hidden = exact_values(in.hidden, r);
    if (in.skip.given() && in.skip.integer_at(r) != 0) {
      for (const Approximate& h : hidden) expected.out.push_back({h.x, 0});
      expected.cosine.push_back(nan());
      expected.branch_cosine.push_back(nan());
      continue;
    }
    Values x = hidden;
    normalise(&x, c.norm, c.norm_eps, in.norm_weight, in.norm_bias);
    const Values branch = branch_of(c, in, weights, x);
    Values out = branch;
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = plus(out[i], hidden[i].x);
      expected.out.push_back(stored(c.hidden.type, out[i]));
    }
    expected.cosine.push_back(cosine_of(hidden, out));
    expected.branch_cosine.push_back(cosine_of(hidden, branch));
  }
  return expected;
}

namespace {

constexpr float kSkipsFrom = 0.95f;

// Who skips the next block, in the middle of a model of 30 layers.
void decide(Instance* instance, int64_t rows, const DLTensor* cosine) {
  HostTensor state = make_tensor(Type::kI32, {rows, EXN_FFN_SKIP_STATE_WORDS});
  std::fill(state.bytes.begin(), state.bytes.end(), 0);  // as it is before the first layer
  exn_ffn_skip_rule_params params = {};
  params.struct_size = sizeof params;
  params.cosine = cosine;
  params.state = instance->in_out("state", state);
  params.skip = instance->output("skip", Type::kU8, {rows});
  params.layer = 12;
  params.model_layers = 30;
  params.cold_start = 5;
  params.cold_end = 25;
  params.budget = -1;
  params.threshold = kSkipsFrom;
  instance->call(EXN_TEST_OP(ffn_skip_rule), params);
}

// Of the cosines as they are.
Complaint judge_decision(const HostTensor& cosine, const HostTensor& skip) {
  std::vector<int64_t> expected;
  for (int64_t r = 0; r < cosine.size(); ++r)
    expected.push_back(cosine.at(0, r) >= static_cast<double>(kSkipsFrom));
  return compare_integers("skip", expected, skip);
}

}  // namespace

std::unique_ptr<Instance> instantiate(const FfnCase& c, const FfnInputs& in, int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_ffn_params params = {};
  params.struct_size = sizeof params;
  params.hidden = c.in_place ? instance->in_out("out", in.hidden) : instance->input(in.hidden);
  params.norm_weight = instance->input(in.norm_weight);
  params.norm_bias = instance->input(in.norm_bias);
  params.gate_weight = instance->input(in.gate_weight);
  params.gate_bias = instance->input(in.gate_bias);
  params.up_weight = instance->input(in.up_weight);
  params.up_bias = instance->input(in.up_bias);
  params.down_weight = instance->input(in.down_weight);
  params.gate_blocks = in.gate_weight.blocks;
  params.up_blocks = in.up_weight.blocks;
  params.down_blocks = in.down_weight.blocks;
  params.down_bias = instance->input(in.down_bias);
  params.skip = instance->input(in.skip);
  params.out =
      c.in_place ? params.hidden
                 : instance->output("out", c.hidden.type, in.hidden.shape, c.out_pad, c.out_offset);
  if (c.cosine) params.cosine = instance->output("cosine", Type::kF32, {in.hidden.rows});
  if (c.branch_cosine)
    params.branch_cosine = instance->output("branch_cosine", Type::kF32, {in.hidden.rows});
  params.norm = c.norm;
  params.norm_eps = c.norm_eps;
  params.activation = c.activation;
  params.input_rounding = c.rounding;
  instance->call(EXN_TEST_OP(ffn), params);
  if (c.decision) decide(instance.get(), in.hidden.rows, params.cosine);
  return instance;
}

namespace {

Complaint judge(const FfnCase& c, const FfnExpected& expected, const Outputs& got) {
  const bool quantised = c.down_weight().blocks != EXN_BLOCKS_NONE;
  Complaint complaint =
      compare("out", expected.out, quantised ? without_infinities(expected.out, got[0]) : got[0]);
  if (complaint.empty() && c.cosine) complaint = compare("cosine", expected.cosine, got[1]);
  if (complaint.empty() && c.branch_cosine)
    complaint = compare("branch_cosine", expected.branch_cosine, got[c.cosine ? 2 : 1]);
  if (complaint.empty() && c.decision) complaint = judge_decision(got[1], got.back());
  return complaint;
}

Case make_case(const FfnCase& c) {
  Case result;
  const auto in = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, in](int32_t device_type) { return instantiate(c, in(), device_type); };
  const auto oracle = lazily([c, in] { return ffn_oracle(c, in()); });
  result.judge = [c, oracle](const Outputs& got) { return judge(c, oracle(), got); };
  const int64_t rows = c.hidden.rows, dim = c.hidden.cols;
  const int64_t running = in().running();
  result.compulsory_bytes =
      passes_over_weights(running) * (weight_bytes(c.gate_weight()) + weight_bytes(c.up_weight()) +
                                      weight_bytes(c.down_weight())) +
      bytes_of((c.in_place ? 2 * running : 2 * rows) * dim, c.hidden.type);
  result.description = {{"rows", text(rows)},
                        {"dim", text(dim)},
                        {"width", text(c.width)},
                        {"dtype", quoted(name_of(c.hidden.type))},
                        {"weight_dtype", quoted(weight_name(c.up_weight()))},
                        {"int8", text(c.rounding == EXN_INPUT_INT8)},
                        {"gate", text(c.gate)},
                        {"norm", text(c.norm)},
                        {"activation", text(c.activation)},
                        {"cosines", text(c.cosine + c.branch_cosine)},
                        {"running", text(running)}};
  return result;
}

void describe(Maker& m, exn_ffn_params& p) {
  const Dim rows = m.dim("rows", 0, 3, 66);
  const BlockFormat* const up = m.blocks(FIELD(up_blocks));
  const BlockFormat* const gate = m.blocks_as(up, FIELD(gate_blocks));
  const BlockFormat* const down = m.blocks_as(up, FIELD(down_blocks));
  const Dim columns = m.columns({up, gate}, "columns", 1, 20, 130);
  const Dim width = m.columns(down, "width", 1, 30, 200);
  const TypeOf type = m.type(kFloats), weights = m.type(kFloats);
  const Tensor* hidden = m.in(FIELD(hidden), type, {rows, columns}, kRows);
  const int32_t norm = m.choice(FIELD(norm), EXN_NORM_NONE, EXN_NORM_LAYER);
  norm_of(m, norm, FIELD(norm_weight), FIELD(norm_bias), columns);
  if (m.weights(FIELD(gate_weight), gate, weights, {width, columns}, kRows | kOptional)) {
    m.in(FIELD(gate_bias), kF32, {width}, kOptional);
  } else {
    m.none(FIELD(gate_bias));
  }
  m.weights(FIELD(up_weight), up, weights, {width, columns});
  m.in(FIELD(up_bias), kF32, {width}, kOptional);
  m.weights(FIELD(down_weight), down, weights, {columns, width});
  m.in(FIELD(down_bias), kF32, {columns}, kOptional);
  m.in(FIELD(skip), kU8, {rows}, kOptional);
  m.out_over(FIELD(out), hidden, type, {rows, columns}, kRows);
  m.out(FIELD(cosine), kF32, {rows}, kOptional);
  m.out(FIELD(branch_cosine), kF32, {rows}, kOptional);
  m.real(FIELD(norm_eps), Domain::kNotNegative);
  m.choice(FIELD(activation), EXN_ACT_SILU, EXN_ACT_GELU_TANH);
  input_rounding(m, p, up);
  m.zero(FIELD(reserved));
}

const Described kDescribed = EXN_DESCRIBED(ffn);

const RegisteredOp kRegistered("ffn", [] {
  const std::vector<FfnCase> cases = ffn_cases();
  std::vector<ListedCase> all = listed("ffn", cases, make_case);
  for (size_t i = 0; i < all.size(); ++i) all[i].host_only = cases[i].rounding == EXN_INPUT_INT8;
  return all;
});

}  // namespace

}  // namespace ffn_op
}  // namespace exn::test
