// SPDX-License-Identifier: Apache-2.0
#include "harness.h"

namespace exn::test {
namespace {

const Op<exn_gate_params> kOp = {"gate", exn_gate_supported, exn_gate_workspace_size, exn_gate};

class Gate : public ::testing::TestWithParam<GateCase> {};

TEST_P(Gate, MatchesOracle) {
  const GateCase& c = GetParam();
  const GateInputs in = make_inputs(c);
  const std::vector<Expected> expected = gate_oracle(c, in);
  for (const Target& target : targets()) {
    if (!wanted(c, target)) continue;
    SCOPED_TRACE(target.name());
    Placed features(target, in.features);
    Placed hidden_weight(target, in.hidden_weight);
    Placed hidden_bias(target, in.hidden_bias);
    Placed out_weight(target, in.out_weight);
    Placed out_bias(target, in.out_bias);
    Placed prob(target, poisoned(Type::kF32, {c.features.rows}));
    const exn_gate_params params = {sizeof params,    features.dl(),   hidden_weight.dl(),
                                    hidden_bias.dl(), out_weight.dl(), out_bias.dl(),
                                    prob.dl(),        c.kind,          c.repeats};
    exercise(target, kOp, params, {&features, &hidden_weight, &hidden_bias, &out_weight, &out_bias},
             {&prob});
    if (HasFatalFailure()) return;
    const HostTensor got = prob.read();
    expect_all_agree("gate", expected, got);
    for (int64_t r = 0; r < c.features.rows; ++r) {
      EXPECT_FALSE(got.at(0, r) > 1 || got.at(0, r) < 0) << "row " << r;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Gate,
                         ::testing::ValuesIn(wanted_cases(gate_cases())),
                         CaseName());

}  // namespace
}  // namespace exn::test
