// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>

#include "harness.h"
#include "reals.h"
#include "stats.h"

namespace exn::test {
namespace {

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
      for (const Map map : {Map{1, 0}, Map{1, 30}, Map{0.7f, 1000}, Map{1e-3f, 1000}}) {
        for (int32_t normalizer : {EXN_SOFTMAX, EXN_STABLEMAX}) {
          // Two ways of taking g, each within 3e-7 of it; no |z| is above 1e6.
          const double noise = normalizer == EXN_STABLEMAX ? 6e-7 * 13.82 : 0;
          Instance instance(target);
          exn_row_stats_params p = {
              sizeof p, instance.input(values), {}, normalizer, map.temperature, map.softcap, 0};
          p.out = add_stats(&instance, 1u << kP1 | 1u << kEntropy | 1u << kPow2Entropy, 64);
          instance.call(EXN_TEST_OP(row_stats), p);
          instance.prepare();
          instance.run(nullptr);
          const Outputs stats = instance.outputs();  // p1, entropy, pow2 entropy
          for (int64_t row = 0; row < 64; ++row) {
            EXPECT_LE(stats[0].at(0, row), 1)
                << columns << " logits, row " << row << ", softcap " << map.softcap;
            EXPECT_GE(stats[1].at(0, row), 0);
            EXPECT_GE(stats[2].at(0, row), 0);
            if (columns > 1) continue;
            EXPECT_EQ(stats[0].at(0, row), 1);
            EXPECT_LE(stats[1].at(0, row), noise);
            EXPECT_LE(stats[2].at(0, row), 2 * noise);
          }
        }
      }
    }
  }
}

// Of every logit of a row that has ties and masks, in the last tile too; and of none.
TEST(RowStatsLabels, EveryColumn) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    use(target);
    for (const int64_t columns : {1, 19, 4099}) {
      const int64_t rows = columns < 20 ? columns + 1 : 5;
      HostTensor row = make_tensor(Type::kF32, {1, columns});
      fill(&row, 7, 0, "ties", 1.5f, "-");
      row.set(0, columns / 2, -HUGE_VAL);
      if (columns == 1) row.set(0, 0, 3);
      HostTensor values = make_tensor(Type::kF32, {rows, columns});
      HostTensor labels = make_tensor(Type::kI32, {rows});
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < columns; ++i) values.set(r, i, row.at(0, i));
        const int64_t few[] = {-1, columns / 2, 4095, 4096, columns - 1};
        labels.set_integer(r, columns < 20 ? r - 1 : few[r]);
      }
      for (const int32_t normalizer : {EXN_SOFTMAX, EXN_STABLEMAX}) {
        for (const float temperature : {1.0f, 0.6f}) {
          for (const float softcap : {0.0f, 2.0f}) {
            Instance instance(target);
            exn_row_stats_params p = {
                sizeof p, instance.input(values), {}, normalizer, temperature, softcap, 0};
            p.out = add_stats(&instance, 1u << kLabelLogP, rows, labels);
            instance.call(EXN_TEST_OP(row_stats), p);
            instance.prepare();
            instance.run(nullptr);
            std::vector<StatsExpected> expected;
            for (int64_t r = 0; r < rows; ++r) {
              expected.push_back(stats_oracle({row_of<double>(values, r), {}, {}}, normalizer,
                                              temperature, softcap, labels.integer_at(r)));
            }
            EXPECT_EQ(judge_stats(1u << kLabelLogP, expected, instance.outputs()), "");
          }
        }
      }
    }
  }
}

// Refused on the CPU with nothing written, NaN on CUDA.
TEST(RowStatsLabels, OutOfRange) {
  HostTensor values = make_tensor(Type::kF32, {3, 40});
  fill(&values, 5, 0, "normal", 1, "-");
  for (const Target& target : targets()) {
    for (const int32_t bad : {-2, 40, INT32_MAX, INT32_MIN}) {
      SCOPED_TRACE(target.name() + ", label " + std::to_string(bad));
      HostTensor labels = make_tensor(Type::kI32, {3});
      for (int64_t row = 0; row < 3; ++row) labels.set_integer(row, row == 1 ? bad : 7);
      Instance instance(target);
      exn_row_stats_params p = {sizeof p, instance.input(values), {}, EXN_SOFTMAX, 1, 0, 0};
      p.out = add_stats(&instance, 1u << kLabelLogP | 1u << kValid, 3, labels);
      instance.call(EXN_TEST_OP(row_stats), p);
      const exn_status status = run_once(target, instance.calls()[0]);
      if (target.cpu()) {
        EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
        EXPECT_STREQ(exn_last_error(), ("exn_row_stats: out.labels[1] is " + std::to_string(bad) +
                                        ", expected -1..39 (V is 40)")
                                           .c_str());
        EXPECT_TRUE(instance.outputs_unchanged());
        continue;
      }
      ASSERT_EQ(status, EXN_OK) << exn_last_error();
      const Outputs got = instance.outputs();
      for (int64_t row = 0; row < 3; ++row) {
        EXPECT_EQ(got[0].integer_at(row), 1);
        EXPECT_EQ(std::isnan(got[1].at(0, row)), row == 1);
      }
    }
  }
}

}  // namespace
}  // namespace exn::test
