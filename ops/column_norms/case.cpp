// SPDX-License-Identifier: Apache-2.0
#include "judge.h"
#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace column_norms_op {

namespace {

struct ColumnNormsCase : CaseBase {
  MatrixSpec x;
  std::string active;
  bool accumulate = false;
  bool norms = false;
  float scale = 1;
};

void read_case(const Row& row, ColumnNormsCase* c) {
  c->x = read_matrix(row);
  c->active = row.text("active");
  row.choice("active", {"-", "some", "none"});
  c->accumulate = row.flag("accumulate");
  c->norms = row.text("root") != "-";
  c->scale = c->norms ? row.number("root") : 1;
}

struct Inputs {
  HostTensor x, active, sums;
};

Inputs make_inputs(const ColumnNormsCase& c) {
  Inputs in = {make_matrix(c.x, c.seed, 0), {}, make_tensor(Type::kF32, {c.x.cols})};
  if (c.active != "-") {
    in.active = make_tensor(Type::kU8, {c.x.rows});
    for (int64_t r = 0; r < c.x.rows; ++r) {
      const int64_t drawn = pick(c.seed, 1, r, 4);
      in.active.set_integer(r, c.active == "none" ? 0 : 85 * drawn);
    }
  }
  for (int64_t j = 0; j < c.x.cols; ++j) {
    const auto i = static_cast<uint64_t>(j);
    in.sums.set(0, j, c.accumulate ? 40 * static_cast<double>(unit(word(c.seed, 2, i))) : kNaN);
  }
  return in;
}

struct ColumnNormsExpected {
  std::vector<Expected> sums, norms;
};

// Of a sum that is off by `bound`.
Expected root_of(double sum, double bound, double scale) {
  if (!std::isfinite(sum)) return {sum, 0};
  const double low = std::sqrt(scale * std::max(sum - bound, 0.0));
  const double root = std::sqrt(scale * sum), high = std::sqrt(scale * (sum + bound));
  return stored(Type::kF32, root, std::max(high - root, root - low) + 3 * kUnit * root);
}

ColumnNormsExpected oracle_of(const ColumnNormsCase& c, const Inputs& in) {
  std::vector<double> added(at(c.x.cols));
  int64_t rows = 0;
  for (int64_t r = 0; r < c.x.rows; ++r) {
    if (in.active.given() && in.active.integer_at(r) == 0) continue;
    ++rows;
    for (int64_t j = 0; j < c.x.cols; ++j) added[at(j)] += in.x.at(r, j) * in.x.at(r, j);
  }
  ColumnNormsExpected out;
  const auto n = static_cast<double>(rows), all = static_cast<double>(c.x.rows);
  for (int64_t j = 0; j < c.x.cols; ++j) {
    const double more = added[at(j)], sum = more + (c.accumulate ? in.sums.at(0, j) : 0);
    const double error = std::min(n + 1, 136 + all / 4096) * kUnit * more + n * 0x1p-149;
    out.sums.push_back(c.exact ? Expected{sum, 0} : stored(Type::kF32, sum, error));
    const Expected& kept = out.sums.back();
    if (c.norms) out.norms.push_back(root_of(kept.value, kept.bound, static_cast<double>(c.scale)));
  }
  return out;
}

Case make_case(const ColumnNormsCase& c) {
  Case result;
  const auto inputs = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, inputs](int32_t device_type) {
    const Inputs& in = inputs();
    auto instance = std::make_unique<Instance>(device_type);
    exn_column_norms_params p = {};
    p.struct_size = sizeof p;
    p.x = instance->input(in.x);
    p.active = instance->input(in.active);
    p.sums = instance->in_out("sums", in.sums);
    if (c.norms) p.norms = instance->output("norms", Type::kF32, {c.x.cols});
    p.scale = c.scale;
    p.accumulate = c.accumulate ? 1 : 0;
    instance->call(EXN_TEST_OP(column_norms), p);
    return instance;
  };
  const auto oracle = lazily([c, inputs] { return oracle_of(c, inputs()); });
  result.judge = [c, oracle](const Outputs& got) {
    return first_of({compare("sums", oracle().sums, got[0]),
                     c.norms ? compare("norms", oracle().norms, got[1]) : ""});
  };
  const int64_t vectors = 1 + (c.accumulate ? 1 : 0) + (c.norms ? 1 : 0);
  result.compulsory_bytes = bytes_of(c.x.rows * c.x.cols, c.x.type) +
                            bytes_of(vectors * c.x.cols, Type::kF32) +
                            bytes_of(c.active == "-" ? 0 : c.x.rows, Type::kU8);
  result.description = {
      {"rows", text(c.x.rows)}, {"cols", text(c.x.cols)}, {"dtype", quoted(name_of(c.x.type))}};
  return result;
}

void describe(Maker& m, exn_column_norms_params& p) {
  const Dim rows = m.dim("rows", 0, 9, 200), columns = m.dim("columns", 0, 40, 700);
  m.in(FIELD(x), m.type(kFloats), {rows, columns}, kRows);
  m.in(FIELD(active), kU8, {rows}, kOptional);
  m.in_out(FIELD(sums), kF32, {columns});
  m.out(FIELD(norms), kF32, {columns}, kOptional);
  m.real(FIELD(scale), Domain::kPositive);
  m.choice(FIELD(accumulate), 0, 1);
}

const Described kDescribed = EXN_DESCRIBED(column_norms);

const RegisteredOp kRegistered("column_norms", [] {
  return listed("column_norms", read_cases<ColumnNormsCase>("column_norms", read_case), make_case);
});

}  // namespace

}  // namespace column_norms_op
}  // namespace exn::test
