// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
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
            p.out = add_stats(&instance, 1u << kLabelLogP, rows, {labels});
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
      p.out = add_stats(&instance, 1u << kLabelLogP | 1u << kValid, 3, {labels});
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

// ---- draws --------------------------------------------------------------------------------------

constexpr uint32_t kDrawn = 1u << kDraw | 1u << kArgmax;

// What a call draws and its argmaxes.
Outputs draws_of(const Target& target, const HostTensor& values, const StatsInputs& in,
                 float temperature = 1, float softcap = 0) {
  Instance instance(target);
  exn_row_stats_params p = {sizeof p, instance.input(values), {}, EXN_SOFTMAX, temperature, softcap,
                            0};
  p.out = add_stats(&instance, kDrawn, values.rows, in);
  instance.call(EXN_TEST_OP(row_stats), p);
  instance.prepare();
  instance.run(nullptr);
  return instance.outputs();  // argmax, draw
}

StatsInputs draw_inputs(int64_t rows) {
  StatsInputs in;
  in.draw_key = make_tensor(Type::kI64, {rows});
  in.draw_counter = make_tensor(Type::kI64, {rows});
  for (int64_t r = 0; r < rows; ++r) {
    in.draw_key.set_integer(r, 5);
    in.draw_counter.set_integer(r, r);
  }
  return in;
}

// By the rule of row_stats.h, operation by operation.
int64_t draw_by_rule(const HostTensor& values, int64_t row, const StatsInputs& in, float scale) {
  const float t =
      in.draw_temperature.given() ? static_cast<float>(in.draw_temperature.at(0, row)) : 1.0f;
  const float inverse = 1 / t;
  float best = -HUGE_VALF;
  int64_t drawn = -1;
  for (int64_t j = 0; j < values.cols; ++j) {
    const float z = static_cast<float>(values.at(row, j)) * scale, scaled = z * inverse;
    const float score = scaled + draw_noise(in, row, j);
    if (score > best) {
      best = score;
      drawn = j;
    }
  }
  return drawn;
}

// In every storage type, from the first and the last of a block of words and of a tile on, with ties
// and masks.
TEST(RowStatsDraws, AreThoseOfTheRule) {
  constexpr int64_t kRows = 6;
  StatsInputs in = draw_inputs(kRows);
  in.draw_temperature = make_tensor(Type::kF32, {kRows});
  const int64_t keys[] = {0, -1, 1234567890123456789, 7, 7, INT64_MIN};
  const int64_t counters[] = {0, 5, -9, int64_t{1} << 40, 3, -1};
  const double temperatures[] = {1, 0.5, 3, 0.01, 100, 0.7};
  for (int64_t r = 0; r < kRows; ++r) {
    in.draw_key.set_integer(r, keys[r]);
    in.draw_counter.set_integer(r, counters[r]);
    in.draw_temperature.set(0, r, temperatures[r]);
  }
  for (const Target& target : targets()) {
    use(target);
    for (const Type type : {Type::kF32, Type::kF16, Type::kBF16}) {
      for (const int64_t columns : {1, 5, 33, 127, 128, 129, 300, 4096, 4097, 9001}) {
        for (const float temperature : {1.0f, 0.7f}) {
          SCOPED_TRACE(target.name() + ", " + std::to_string(columns) + " logits of type " +
                       std::to_string(static_cast<int>(type)));
          HostTensor values = make_tensor(type, {kRows, columns});
          fill(&values, 11, 0, columns == 300 ? "ties" : "normal", 3, "-");
          for (int64_t r = 0; r < kRows && columns > 4; ++r) values.set(r, r % 3, -HUGE_VAL);
          const Outputs got = draws_of(target, values, in, temperature);
          for (int64_t r = 0; r < kRows; ++r)
            EXPECT_EQ(got[1].integer_at(r), draw_by_rule(values, r, in, 1 / temperature)) << r;
        }
      }
    }
  }
}

// At 0, below the smallest normal number, and where scores overflow.
TEST(RowStatsDraws, ColdRowsDrawTheArgmax) {
  const double cold[] = {0, 1e-40, 1.1e-38, 2e-38, 1e-37};
  StatsInputs in = draw_inputs(5);
  in.draw_temperature = make_tensor(Type::kF32, {5});
  HostTensor values = make_tensor(Type::kF32, {5, 5000});
  fill(&values, 3, 0, "normal", 8, "-");
  for (int64_t r = 0; r < 5; ++r) {
    in.draw_temperature.set(0, r, cold[r]);
    for (int64_t j = 0; j < 5000 && r == 4; ++j) values.set(r, j, -60 - values.at(r, j) / 8);
  }
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    use(target);
    const Outputs got = draws_of(target, values, in);
    for (int64_t r = 0; r < 5; ++r) EXPECT_EQ(got[1].integer_at(r), got[0].integer_at(r)) << r;
  }
}

// Where the logits are so large that no noise moves them.
TEST(RowStatsDraws, TiesGoToTheSmallestId) {
  HostTensor values = make_tensor(Type::kF32, {3, 9001});
  const int64_t first[] = {0, 517, 8999};
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t j = 0; j < 9001; ++j) values.set(r, j, j < first[r] ? -3 : 3e9);
  }
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    use(target);
    const Outputs got = draws_of(target, values, draw_inputs(3));
    for (int64_t r = 0; r < 3; ++r) EXPECT_EQ(got[1].integer_at(r), first[r]);
  }
}

// The chi-square of draws of one row beside its probabilities in double precision, as a normal
// deviate (Wilson and Hilferty 1931).
double deviation(const std::vector<int64_t>& drawn, const std::vector<double>& z, double t) {
  double sum = 0, total = 0, chi = 0, freedom = -1, rest = 0, rest_drawn = 0;
  for (const double x : z) sum += std::exp(x / t);
  for (const int64_t n : drawn) total += static_cast<double>(n);
  const auto cell = [&](double expected, double found) {
    chi += (found - expected) * (found - expected) / expected;
    freedom += 1;
  };
  for (size_t j = 0; j < z.size(); ++j) {
    const double expected = std::exp(z[j] / t) / sum * total;
    if (expected >= 10) {
      cell(expected, static_cast<double>(drawn[j]));
    } else {
      rest += expected;
      rest_drawn += static_cast<double>(drawn[j]);
    }
  }
  if (rest >= 10) cell(rest, rest_drawn);
  const double spread = 2 / (9 * freedom);
  return (std::cbrt(chi / freedom) - (1 - spread)) / std::sqrt(spread);
}

TEST(RowStatsDraws, FollowTheDistribution) {
  constexpr int64_t kRows = 500;
  StatsInputs in = draw_inputs(kRows);
  in.draw_temperature = make_tensor(Type::kF32, {kRows});
  for (const Target& target : targets()) {
    use(target);
    for (const int64_t columns : {2, 7, 50, 400, 3000}) {
      const double t = columns == 50 ? 1 : 0.6;
      SCOPED_TRACE(target.name() + ", " + std::to_string(columns) + " logits");
      HostTensor one = make_tensor(Type::kF32, {1, columns});
      fill(&one, 29, 0, "normal", 2, "-");
      HostTensor values = make_tensor(Type::kF32, {kRows, columns});
      for (int64_t r = 0; r < kRows; ++r) {
        in.draw_temperature.set(0, r, t);
        for (int64_t j = 0; j < columns; ++j) values.set(r, j, one.at(0, j));
      }
      std::vector<int64_t> drawn(static_cast<size_t>(columns));
      const int64_t batches = target.cpu() ? 100 : 4;
      for (int64_t batch = 0; batch < batches; ++batch) {
        for (int64_t r = 0; r < kRows; ++r) {  // three sequences, each a position on
          in.draw_key.set_integer(r, r % 3);
          in.draw_counter.set_integer(r, batch * kRows + r);
        }
        const Outputs got = draws_of(target, values, in);
        for (int64_t r = 0; r < kRows; ++r) ++drawn.at(static_cast<size_t>(got[1].integer_at(r)));
      }
      EXPECT_LT(std::fabs(deviation(drawn, row_of<double>(one, 0), t)), 3.1);
    }
  }
}

// Refused on the CPU with nothing written, -1 on CUDA.
TEST(RowStatsDraws, BadTemperature) {
  HostTensor values = make_tensor(Type::kF32, {3, 40});
  fill(&values, 5, 0, "normal", 1, "-");
  StatsInputs in = draw_inputs(3);
  in.draw_temperature = make_tensor(Type::kF32, {3});
  for (const Target& target : targets()) {
    for (const float bad : {-1.0f, -1e-40f, HUGE_VALF, -HUGE_VALF, std::nanf("")}) {
      SCOPED_TRACE(target.name() + ", temperature " + std::to_string(bad));
      for (int64_t row = 0; row < 3; ++row) in.draw_temperature.set(0, row, row == 1 ? bad : 0);
      Instance instance(target);
      exn_row_stats_params p = {sizeof p, instance.input(values), {}, EXN_SOFTMAX, 1, 0, 0};
      p.out = add_stats(&instance, kDrawn, 3, in);
      instance.call(EXN_TEST_OP(row_stats), p);
      const exn_status status = run_once(target, instance.calls()[0]);
      if (target.cpu()) {
        EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
        EXPECT_NE(std::string(exn_last_error()).find("exn_row_stats: out.draw_temperature[1] is "),
                  std::string::npos)
            << exn_last_error();
        EXPECT_TRUE(instance.outputs_unchanged());
        continue;
      }
      ASSERT_EQ(status, EXN_OK) << exn_last_error();
      const Outputs got = instance.outputs();
      for (int64_t row = 0; row < 3; ++row)
        EXPECT_EQ(got[1].integer_at(row), row == 1 ? -1 : got[0].integer_at(row));
    }
  }
}

TEST(RowStatsDraws, BehindStableMaxIsRefused) {
  HostTensor values = make_tensor(Type::kF32, {3, 40});
  fill(&values, 5, 0, "normal", 1, "-");
  for (const Target& target : targets()) {
    Instance instance(target);
    exn_row_stats_params p = {sizeof p, instance.input(values), {}, EXN_STABLEMAX, 1, 0, 0};
    p.out = add_stats(&instance, kDrawn, 3, draw_inputs(3));
    instance.call(EXN_TEST_OP(row_stats), p);
    EXPECT_EQ(run_once(target, instance.calls()[0]), EXN_INVALID_ARGUMENT);
    EXPECT_STREQ(exn_last_error(),
                 "exn_row_stats: normalizer is EXN_STABLEMAX (1), but out.draw is given");
  }
}

}  // namespace
}  // namespace exn::test
