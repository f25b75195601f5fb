// SPDX-License-Identifier: Apache-2.0
#include <cstring>

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
                         ::testing::ValuesIn(wanted_cases(row_stats_cases())),
                         CaseName());

// Rounding lifts no probability above 1, whatever a logit goes through; and one logit is certain.
TEST(RowStatsBounds, ProbabilitiesEndAtOne) {
  struct Map {
    float temperature, softcap;
  };
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    use(target);
    for (int64_t columns : {1, 3, 40}) {
      HostTensor values = make_tensor(Type::kF32, {64, columns});
      fill(&values, 5, 0, "normal", 8, "-");
      Placed logits(target, values);
      for (const Map map : {Map{1, 0}, Map{1, 30}, Map{0.7f, 1000}, Map{1e-3f, 1000}}) {
        for (int32_t normalizer : {EXN_SOFTMAX, EXN_STABLEMAX}) {
          // Two ways of taking g, each within 3e-7 of it; no |z| is above 1e6.
          const float noise = normalizer == EXN_STABLEMAX ? 6e-7f * 13.82f : 0;
          const StatsOutputs out(target, 1u << kP1 | 1u << kEntropy | 1u << kPow2Entropy, 64);
          const exn_row_stats_params p = {sizeof p,    logits.dl(), normalizer, map.temperature,
                                          map.softcap, 0,           out.dl()};
          ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
          for (int64_t row = 0; row < 64; ++row) {
            float stats[3];  // p1, entropy, pow2 entropy
            ASSERT_EQ(out.row_bytes(row).size(), sizeof stats);
            std::memcpy(stats, out.row_bytes(row).data(), sizeof stats);
            EXPECT_LE(stats[0], 1) << columns << " logits, row " << row << ", softcap "
                                   << map.softcap;
            EXPECT_GE(stats[1], 0);
            EXPECT_GE(stats[2], 0);
            if (columns > 1) continue;
            EXPECT_EQ(stats[0], 1);
            EXPECT_LE(stats[1], noise);
            EXPECT_LE(stats[2], 2 * noise);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace exn::test
