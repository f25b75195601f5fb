// SPDX-License-Identifier: Apache-2.0
#include "cosine/case.h"

#include "judge.h"
#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace cosine_op {

namespace {

struct CosineCase : CaseBase {
  MatrixSpec a;
  int64_t pad_b = 0;
  int64_t offset_b = 0;
  std::string relation;
  float scale_b = 1;
};

void read_case(const Row& row, CosineCase* c) {
  c->a = {row.integer("rows"),     row.integer("cols"), row.type("dtype"),     row.integer("pad_a"),
          row.integer("offset_a"), row.text("fill"),    row.number("scale_a"), row.text("special")};
  c->pad_b = row.integer("pad_b");
  c->offset_b = row.integer("offset_b");
  c->relation = row.text("relation");
  c->scale_b = row.number("scale_b");
}

struct Inputs {
  HostTensor a;
  HostTensor b;  // not given: b is a
};

Inputs make_inputs(const CosineCase& c) {
  Inputs in;
  MatrixSpec plain = c.a;
  plain.special = "-";
  if (c.relation == "zero_a") plain.fill = "zero";
  in.a = make_matrix(plain, c.seed, 0);
  if (c.relation != "same") {
    in.b = make_tensor(c.a.type, {c.a.rows, c.a.cols}, c.pad_b, c.offset_b);
    if (c.relation == "independent" || c.relation == "zero_a") {
      fill(&in.b, c.seed, 1, c.a.fill, c.scale_b, "-");
    } else if (c.relation == "zero") {
      fill(&in.b, c.seed, 1, "zero", 1, "-");
    } else if (!derive(in.a, c.relation, c.seed, 1, &in.b)) {
      fail("relation: " + c.relation);
    }
  }
  fill_special(&in.a, c.seed, 0, c.a.special);
  return in;
}

}  // namespace

std::vector<Expected> cosine_oracle(const HostTensor& a_rows, const HostTensor& b_rows) {
  std::vector<Expected> out;
  for (int64_t r = 0; r < a_rows.rows; ++r) {
    const std::vector<double> a = row_of<double>(a_rows, r), b = row_of<double>(b_rows, r);
    if (!all_finite(a) || !all_finite(b)) {
      out.push_back(nan());
      continue;
    }
    double ab = 0, aa = 0, bb = 0, magnitude = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      ab += a[i] * b[i];
      magnitude += std::fabs(a[i] * b[i]);
      aa += a[i] * a[i];
      bb += b[i] * b[i];
    }
    if (aa == 0 || bb == 0) {
      out.push_back({0, 0});
      continue;
    }
    const double norms = std::sqrt(aa) * std::sqrt(bb);
    const double cosine = ab / norms;
    const double sum_bound = kUnit * sum_error(a_rows.cols);
    const double bound =
        sum_bound * (magnitude / norms + std::fabs(cosine)) + 4 * kUnit * std::fabs(cosine);
    out.push_back({cosine, bound});
  }
  return out;
}

namespace {

Case make_case(const CosineCase& c) {
  Case result;
  const auto inputs = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, inputs](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const Inputs& in = inputs();
    const DLTensor* a = instance->input(in.a);
    const DLTensor* b = in.b.given() ? instance->input(in.b) : a;
    const DLTensor* out = instance->output("out", Type::kF32, {c.a.rows});
    const exn_cosine_params params = {sizeof params, a, b, out};
    instance->call(EXN_TEST_OP(cosine), params);
    return instance;
  };
  const auto oracle = lazily([inputs] {
    const Inputs& in = inputs();
    return cosine_oracle(in.a, in.b.given() ? in.b : in.a);
  });
  result.judge = [oracle](const Outputs& got) {
    return first_of({compare("out", oracle(), got[0]), compare_range("out", -1, 1, got[0])});
  };
  const int64_t operands = c.relation == "same" ? 1 : 2;
  result.compulsory_bytes =
      bytes_of(operands * c.a.rows * c.a.cols, c.a.type) + bytes_of(c.a.rows, Type::kF32);
  result.description = {
      {"rows", text(c.a.rows)}, {"cols", text(c.a.cols)}, {"dtype", quoted(name_of(c.a.type))}};
  return result;
}

void describe(Maker& m, exn_cosine_params& p) {
  const Dim rows = m.dim("rows", 0, 4, 70), columns = m.dim("columns", 1, 40, 600);
  const TypeOf type = m.type(kFloats);
  m.in(FIELD(a), type, {rows, columns}, kRows);
  m.in(FIELD(b), type, {rows, columns}, kRows);
  m.out(FIELD(out), kF32, {rows});
}

const Described kDescribed = EXN_DESCRIBED(cosine);

const RegisteredOp kRegistered("cosine", [] {
  return listed("cosine", read_cases<CosineCase>("cosine", read_case), make_case);
});

}  // namespace

}  // namespace cosine_op
}  // namespace exn::test
