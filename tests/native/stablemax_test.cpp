// SPDX-License-Identifier: Apache-2.0
#include "harness.h"

namespace exn::test {
namespace {

const Op<exn_stablemax_params> kOp = {"stablemax", exn_stablemax_supported,
                                      exn_stablemax_workspace_size, exn_stablemax};

class StableMax : public ::testing::TestWithParam<StableMaxCase> {};

TEST_P(StableMax, MatchesOracle) {
  const StableMaxCase& c = GetParam();
  const StableMaxInputs in = make_inputs(c);
  const std::vector<Expected> expected = stablemax_oracle(c, in);
  for (const Target& target : targets()) {
    if (!wanted(c, target)) continue;
    SCOPED_TRACE(target.name());
    Placed logits(target, in.logits);
    Placed separate(target, poisoned(in.logits.type, in.logits.shape, c.out_pad, c.out_offset));
    Placed& out = c.in_place ? logits : separate;
    const exn_stablemax_params params = {sizeof params, logits.dl(), out.dl(), c.normalizer, c.log};
    std::vector<Placed*> read = {&logits};
    if (c.in_place) read.clear();
    exercise(target, kOp, params, read, {&out});
    if (HasFatalFailure()) return;
    expect_all_agree(std::string("stablemax ") + name_of(in.logits.type), expected, out.read());
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, StableMax,
                         ::testing::ValuesIn(wanted_cases(stablemax_cases())),
                         CaseName());

}  // namespace
}  // namespace exn::test
