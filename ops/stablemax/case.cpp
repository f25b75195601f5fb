// SPDX-License-Identifier: Apache-2.0
#include "stablemax/case.h"

#include "distribution.h"
#include "judge.h"
#include "maker.h"

namespace exn::test {
inline namespace stablemax_op {

namespace {

struct StableMaxCase : CaseBase {
  MatrixSpec logits;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  int32_t normalizer = EXN_STABLEMAX;
  bool log = false;
  bool in_place = false;
};

void read_case(const Row& row, StableMaxCase* c) {
  c->logits = read_matrix(row);
  c->out_pad = row.integer("out_pad");
  c->out_offset = row.integer("out_offset");
  c->normalizer = row.choice("normalizer", {"softmax", "stablemax"});
  c->log = row.flag("log");
  c->in_place = row.flag("in_place");
}

HostTensor make_logits(const StableMaxCase& c) { return make_matrix(c.logits, c.seed, 0); }

template <typename Real>
std::vector<Expected> stablemax_in(const HostTensor& logits, int32_t normalizer, bool log) {
  const Type type = logits.type;
  const Real u = static_cast<Real>(arithmetic(type));
  std::vector<Expected> out;
  for (int64_t r = 0; r < logits.rows; ++r) {
    const std::vector<Real> z = row_of<Real>(logits, r);
    if (!valid_logits(z)) {
      out.insert(out.end(), z.size(), nan());
      continue;
    }
    const Scores<Real> s = scores_of(z, normalizer, u);
    for (size_t j = 0; j < z.size(); ++j) {
      out.push_back(log ? stored(type, s.x[j] - s.d.lse, log_bound(s, j, u))
                        : stored(type, s.d.p[j], probability_bound(s, j, u)));
    }
  }
  return out;
}

}  // namespace

std::vector<Expected> stablemax_oracle(const HostTensor& logits, int32_t normalizer, bool log) {
  return logits.type == Type::kF64 ? stablemax_in<Wide>(logits, normalizer, log)
                                   : stablemax_in<double>(logits, normalizer, log);
}

namespace {

Case make_case(const StableMaxCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) {
    auto instance = std::make_unique<Instance>(device_type);
    const HostTensor logits = make_logits(c);
    const DLTensor* in = c.in_place ? instance->in_out("out", logits) : instance->input(logits);
    const DLTensor* out =
        c.in_place ? in
                   : instance->output("out", logits.type, logits.shape, c.out_pad, c.out_offset);
    const exn_stablemax_params params = {sizeof params, in, out, c.normalizer, c.log};
    instance->call(EXN_TEST_OP(stablemax), params);
    return instance;
  };
  const auto oracle = lazily([c] { return stablemax_oracle(make_logits(c), c.normalizer, c.log); });
  result.judge = [oracle](const Outputs& got) { return compare("out", oracle(), got[0]); };
  result.compulsory_bytes = 2 * bytes_of(c.logits.rows * c.logits.cols, c.logits.type);
  result.description = {{"rows", text(c.logits.rows)},
                        {"cols", text(c.logits.cols)},
                        {"dtype", quoted(name_of(c.logits.type))},
                        {"normalizer", text(c.normalizer)},
                        {"log", text(c.log)}};
  return result;
}

void describe(Maker& m, exn_stablemax_params& p) {
  const Dim rows = m.dim("rows", 0, 4, 40), columns = m.dim("columns", 1, 40, 600);
  const TypeOf type = m.type(kFloatsAndF64);
  const Tensor* logits = m.in(FIELD(logits), type, {rows, columns}, kRows);
  m.out_over(FIELD(out), logits, type, {rows, columns}, kRows);
  m.choice(FIELD(normalizer), EXN_SOFTMAX, EXN_STABLEMAX);
  m.choice(FIELD(log), 0, 1);
}

const Described kDescribed = EXN_DESCRIBED(stablemax);

const RegisteredOp kRegistered("stablemax", [] {
  return listed("stablemax", read_cases<StableMaxCase>("stablemax", read_case), make_case);
});

}  // namespace

}  // namespace stablemax_op
}  // namespace exn::test
