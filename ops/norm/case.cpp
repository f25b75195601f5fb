// SPDX-License-Identifier: Apache-2.0
#include "norm/case.h"

#include "dense.h"
#include "judge.h"
#include "parts.h"

namespace exn::test {
inline namespace norm_op {

namespace {

void read_case(const Row& row, NormCase* c) {
  c->input = read_matrix(row, "input", "rows", "dim", "special");
  c->out_type = row.type("out");
  c->out_pad = row.integer("out_pad");
  c->out_offset = row.integer("out_offset");
  c->norm = row.choice("norm", kNorms);
  c->eps = row.number("eps");
  c->bias = row.flag("bias");
  c->in_place = row.flag("in_place");
  if (c->in_place && c->out_type != c->input.type) fail("in_place, but out has another dtype");
}

NormInputs make_inputs(const NormCase& c) {
  NormInputs in;
  in.input = make_matrix(c.input, c.seed, 0);
  if (c.norm != EXN_NORM_NONE) {
    in.weight = make_bell(Type::kF32, {c.input.cols}, c.seed, 1, 0.25f, 1);
  }
  if (c.bias) in.bias = make_bell(Type::kF32, {c.input.cols}, c.seed, 3, 0.25f);
  return in;
}

}  // namespace

std::vector<Expected> norm_oracle(const NormCase& c, const NormInputs& in) {
  std::vector<Expected> out;
  for (int64_t r = 0; r < in.input.rows; ++r) {
    Values row = exact_values(in.input, r);
    normalise(&row, c.norm, c.eps, in.weight, in.bias);
    for (const Approximate& v : row) {
      // Where the row has an infinity, a finite value is exact.
      const bool exact = c.norm == EXN_NORM_NONE || !std::isfinite(v.error());
      out.push_back(stored(c.out_type, v, exact));
    }
  }
  return out;
}

namespace {

Case make_case(const NormCase& c) {
  Case result;
  const auto inputs = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, inputs](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const NormInputs& in = inputs();
    exn_norm_params params = {};
    params.struct_size = sizeof params;
    params.input = c.in_place ? instance->in_out("out", in.input) : instance->input(in.input);
    params.weight = instance->input(in.weight);
    params.bias = instance->input(in.bias);
    params.out = c.in_place
                     ? params.input
                     : instance->output("out", c.out_type, in.input.shape, c.out_pad, c.out_offset);
    params.norm = c.norm;
    params.eps = c.eps;
    instance->call(EXN_TEST_OP(norm), params);
    return instance;
  };
  const auto oracle = lazily([c, inputs] { return norm_oracle(c, inputs()); });
  result.judge = [oracle](const Outputs& got) { return compare("out", oracle(), got[0]); };
  const int64_t elements = c.input.rows * c.input.cols;
  const int64_t coefficients = (c.norm != EXN_NORM_NONE ? 1 : 0) + (c.bias ? 1 : 0);
  result.compulsory_bytes = bytes_of(elements, c.input.type) + bytes_of(elements, c.out_type) +
                            bytes_of(coefficients * c.input.cols, Type::kF32);
  result.description = {{"rows", text(c.input.rows)},
                        {"dim", text(c.input.cols)},
                        {"dtype", quoted(name_of(c.input.type))},
                        {"out_dtype", quoted(name_of(c.out_type))},
                        {"norm", text(c.norm)}};
  return result;
}

void describe(Maker& m, exn_norm_params& p) {
  const Dim rows = m.dim("rows", 0, 4, 70), columns = m.dim("columns", 1, 40, 600);
  const TypeOf type = m.type(kFloats);
  const Tensor* input = m.in(FIELD(input), type, {rows, columns}, kRows);
  const int32_t norm = m.choice(FIELD(norm), EXN_NORM_NONE, EXN_NORM_LAYER);
  norm_of(m, norm, FIELD(weight), FIELD(bias), columns);
  m.out_over(FIELD(out), input, m.type(kFloats), {rows, columns}, kRows);
  m.real(FIELD(eps), Domain::kNotNegative);
}

const Described kDescribed = EXN_DESCRIBED(norm);

const RegisteredOp kRegistered("norm", [] {
  return listed("norm", read_cases<NormCase>("norm", read_case), make_case);
});

}  // namespace

}  // namespace norm_op
}  // namespace exn::test
