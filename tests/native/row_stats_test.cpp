// SPDX-License-Identifier: Apache-2.0
#include "harness.h"

namespace exn::test {
namespace {

const Op<exn_row_stats_params> kOp = {"row_stats", exn_row_stats_supported,
                                      exn_row_stats_workspace_size, exn_row_stats};

class RowStats : public ::testing::TestWithParam<RowStatsCase> {};

TEST_P(RowStats, MatchesOracle) {
  const RowStatsCase& c = GetParam();
  const RowStatsInputs in = make_inputs(c);
  const std::vector<StatsExpected> expected = row_stats_oracle(c, in);
  for (const Target& target : targets()) {
    if (!wanted(c, target)) continue;
    SCOPED_TRACE(target.name());
    Placed logits(target, in.logits);
    const StatsOutputs out(target, c.outputs, c.logits.rows);
    const exn_row_stats_params params = {sizeof params, logits.dl(), c.normalizer, c.temperature,
                                         c.softcap,     0,           out.dl()};
    exercise(target, kOp, params, {&logits}, out.all());
    if (HasFatalFailure()) return;
    out.expect("row_stats", expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, RowStats,
                         ::testing::ValuesIn(wanted_cases(row_stats_cases(cases_directory()))),
                         CaseName());

}  // namespace
}  // namespace exn::test
