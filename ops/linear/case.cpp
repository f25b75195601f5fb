// SPDX-License-Identifier: Apache-2.0
#include "linear/case.h"

#include "dense.h"
#include "judge.h"
#include "parts.h"
#include "maker.h"

namespace exn::test {
inline namespace linear_op {

namespace {

// `-`, or K:dtype[:scaled][:padded]
void read_adapter(const std::string& text, LinearCase* c) {
  if (text == "-") return;
  const std::vector<std::string> words = read_words(text, ':');
  if (words.size() < 2) fail("adapter: unknown word '" + text + "'");
  const int64_t rank = number_in("adapter", words[0]);
  const Type type = type_in("adapter", words[1]);
  int64_t pad = 0;
  for (size_t i = 2; i < words.size(); ++i) {
    if (words[i] == "scaled") {
      c->adapter_scaled = true;
    } else if (words[i] == "padded") {
      pad = 3;
    } else {
      fail("adapter: unknown word '" + words[i] + "'");
    }
  }
  const char* const fill = c->exact ? "ties" : "normal";
  const float scale = c->exact ? 1.0f : 0.25f;
  c->adapter_down = {rank, c->input.cols, type, pad, pad, fill, scale, "-"};
  c->adapter_up = {rank, c->weight.rows, type, pad, pad, fill, scale, "-"};
}

}  // namespace

std::vector<LinearCase> linear_cases() {
  return read_cases<LinearCase>("linear", [](const Row& row, LinearCase* c) {
    c->input = read_matrix(row, "input", "rows", "dim", "special");
    c->weight = read_matrix(row, "weight", "cols", "dim");
    c->bias = row.text("bias");
    c->residual = row.text("residual");
    c->residual_pad = row.integer("residual_pad");
    c->out_type = row.type("out");
    c->out_pad = row.integer("out_pad");
    c->out_offset = row.integer("out_offset");
    c->in_place = row.flag("in_place");
    if (c->in_place && c->residual == "-") fail("in_place without a residual");
    c->rounding = row.choice("rounding", {"int16", "int8"});
    read_adapter(row.text("adapter"), c);
  });
}

LinearInputs make_inputs(const LinearCase& c) {
  LinearInputs in;
  in.input = make_matrix(c.input, c.seed, 0);
  in.weight = make_matrix(c.weight, c.seed, 1);
  if (c.bias != "-") {
    in.bias = make_tensor(Type::kF32, {c.weight.rows});
    fill(&in.bias, c.seed, 2, c.bias, 1, "-");
  }
  if (c.adapts()) {
    in.down = make_matrix(c.adapter_down, c.seed, 4);
    in.up = make_matrix(c.adapter_up, c.seed, 5);
  }
  if (c.adapter_scaled) {  // some are 0
    in.scale = make_matrix(
        {c.input.rows, c.adapter_down.rows, Type::kF32, c.adapter_down.pad, 0, "ties", 0.5f, "-"},
        c.seed, 6);
  }
  if (c.residual == "-") return in;
  const int64_t pad = c.in_place ? c.out_pad : c.residual_pad,
                offset = c.in_place ? c.out_offset : 0;
  in.residual = make_matrix(
      {c.input.rows, c.weight.rows, c.out_type, pad, offset, c.residual, 1, "-"}, c.seed, 3);
  return in;
}

namespace {

// W x, the adapter, and the bias.
Values adapted(const Matrix& weight, const Matrix& down, const LinearInputs& in, int64_t row,
               const Values& x, int32_t rounding) {
  Values y = projected(weight, {}, x, rounding), t = projected(down, {}, x);
  for (int64_t i = 0; i < in.weight.rows; ++i) {
    Approximate& sum = y[at(i)];
    for (int64_t k = 0; k < in.down.rows; ++k) {
      const double scale = in.scale.given() ? in.scale.at(row, k) : 1;
      if (scale == 0) continue;
      const Approximate& of_k = t[at(k)];
      const double factor = scale * in.up.at(k, i), term = factor * of_k.x;
      sum = plus(sum, term);
      sum.own += std::fabs(factor) * of_k.error() + 2 * kUnit * std::fabs(term);
    }
    if (in.bias.given()) sum = plus(sum, in.bias.at(0, i));
  }
  return y;
}

}  // namespace

std::vector<Expected> linear_oracle(const LinearCase& c, const LinearInputs& in) {
  const Matrix weight = matrix_of(in.weight);
  const Matrix down = c.adapts() ? matrix_of(in.down) : Matrix();
  std::vector<Expected> out;
  for (int64_t r = 0; r < in.input.rows; ++r) {
    const Values x = exact_values(in.input, r);
    Values y = c.adapts() ? adapted(weight, down, in, r, x, c.rounding)
                          : projected(weight, in.bias, x, c.rounding);
    for (int64_t i = 0; i < in.weight.rows; ++i) {
      if (in.residual.given()) y[at(i)] = plus(y[at(i)], in.residual.at(r, i));
      out.push_back(stored(c.out_type, y[at(i)], c.exact));
    }
  }
  return out;
}

std::vector<Expected> linear_bounds(const LinearInputs& in, double share) {
  Matrix weight = matrix_of(in.weight);
  weight.quantised = false;  // whose own share would be added
  std::vector<Expected> out;
  for (int64_t r = 0; r < in.input.rows; ++r) {
    const Values x = exact_values(in.input, r);
    const RoundedInput rounded(x);
    Values y = projected(weight, in.bias, x);
    for (size_t i = 0; i < y.size(); ++i) {
      rounded.meet(weight.rows[i], &y[i].x, &y[i].own, share);
      out.push_back(stored(Type::kF32, y[i]));
    }
  }
  return out;
}

std::unique_ptr<Instance> instantiate(const LinearCase& c, const LinearInputs& in,
                                      int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_linear_params params = {};
  params.struct_size = sizeof params;
  params.input = instance->input(in.input);
  params.weight = instance->input(in.weight);
  params.weight_blocks = in.weight.blocks;
  params.input_rounding = c.rounding;
  params.bias = instance->input(in.bias);
  params.residual =
      c.in_place ? instance->in_out("out", in.residual) : instance->input(in.residual);
  params.out = c.in_place ? params.residual
                          : instance->output("out", c.out_type, {in.input.rows, in.weight.rows},
                                             c.out_pad, c.out_offset);
  params.adapter_down = instance->input(in.down);
  params.adapter_up = instance->input(in.up);
  params.adapter_scale = instance->input(in.scale);
  instance->call(EXN_TEST_OP(linear), params);
  return instance;
}

namespace {

Case make_case(const LinearCase& c) {
  Case result;
  const auto in = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, in](int32_t device_type) { return instantiate(c, in(), device_type); };
  const auto oracle = lazily([c, in] { return linear_oracle(c, in()); });
  const bool blocks = c.weight.blocks != EXN_BLOCKS_NONE && !in_panels(c.weight.blocks);
  result.judge = [oracle, blocks](const Outputs& got) {
    return compare("out", oracle(), blocks ? without_infinities(oracle(), got[0]) : got[0]);
  };
  const int64_t rows = c.input.rows, dim = c.input.cols, cols = c.weight.rows;
  result.compulsory_bytes =
      passes_over_weights(rows) * weight_bytes(c.weight) + bytes_of(rows * dim, c.input.type) +
      (c.residual == "-" ? 1 : 2) * bytes_of(rows * cols, c.out_type) +
      bytes_of(c.adapter_down.rows * (dim + cols), c.adapter_down.type) +
      (c.adapter_scaled ? bytes_of(rows * c.adapter_down.rows, Type::kF32) : 0);
  result.description = {{"rows", text(rows)},
                        {"dim", text(dim)},
                        {"cols", text(cols)},
                        {"dtype", quoted(name_of(c.input.type))},
                        {"weight_dtype", quoted(weight_name(c.weight))},
                        {"int8", text(c.rounding == EXN_INPUT_INT8)},
                        {"out_dtype", quoted(name_of(c.out_type))},
                        {"residual", text(c.residual != "-")},
                        {"adapter_rank", text(c.adapter_down.rows)}};
  return result;
}

void describe(Maker& m, exn_linear_params& p) {
  const Dim rows = m.dim("rows", 0, 4, 70), outputs = m.dim("outputs", 1, 20, 150);
  const BlockFormat* const blocks = m.blocks_or_panels(FIELD(weight_blocks));
  const Dim columns = m.columns(blocks, "columns", 1, 40, 300);
  m.in(FIELD(input), m.type(kFloats), {rows, columns}, kRows);
  m.weights(FIELD(weight), blocks, m.type(kFloats), {outputs, columns});
  m.in(FIELD(bias), kF32, {outputs}, kOptional);
  const TypeOf type = m.type(kFloats);
  const Tensor* residual = m.in(FIELD(residual), type, {rows, outputs}, kRows | kOptional);
  m.out_over(FIELD(out), residual, type, {rows, outputs}, kRows);
  input_rounding(m, p, blocks);
  const bool adapts = m.one_of("adapter", 0, 1) != 0;
  if (!adapts) {
    m.none(FIELD(adapter_down));
    m.none(FIELD(adapter_up));
    m.none(FIELD(adapter_scale));
    return;
  }
  const Dim rank = m.dim("rank", 1, 4, 40);
  const TypeOf adapter = m.type(kFloats);
  m.in(FIELD(adapter_down), adapter, {rank, columns}, kRows);
  m.in(FIELD(adapter_up), adapter, {rank, outputs}, kRows);
  m.in(FIELD(adapter_scale), kF32, {rows, rank}, kRows | kOptional);
}

const Described kDescribed = EXN_DESCRIBED(linear);

const RegisteredOp kRegistered("linear", [] {
  const std::vector<LinearCase> cases = linear_cases();
  std::vector<ListedCase> all = listed("linear", cases, make_case);
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].host_only = in_panels(cases[i].weight.blocks) || cases[i].rounding == EXN_INPUT_INT8;
  }
  return all;
});

}  // namespace

}  // namespace linear_op
}  // namespace exn::test
