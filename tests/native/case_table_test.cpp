// SPDX-License-Identifier: Apache-2.0
// The generator makes the words that the README of the tables promises, and the
// tables keep their own rules.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "harness.h"

namespace exn::test {
namespace {

TEST(CaseTable, WordsOfTheReadme) {
  EXPECT_EQ(word(1, 0, 0), 0xA706DD2F4D197E6Full);
  EXPECT_EQ(word(1, 0, 1), 0xB382A305F4414F5Eull);
  EXPECT_EQ(word(7, 3, 1000), 0xCF603E8DA46F9711ull);
}

TEST(CaseTable, BellIsCentredAndBounded) {
  double sum = 0, square = 0;
  const int n = 100000;
  for (int i = 0; i < n; ++i) {
    const double v = static_cast<double>(bell(word(5, 0, static_cast<uint64_t>(i))));
    ASSERT_LE(std::fabs(v), 4);
    sum += v;
    square += v * v;
  }
  EXPECT_NEAR(sum / n, 0, 0.02);
  EXPECT_NEAR(std::sqrt(square / n), 1.1547, 0.01);
}

TEST(CaseTable, F16RoundTripsAndRoundsToEven) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = float_from_f16(static_cast<uint16_t>(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(f16_from_float(value), bits);
  }
  EXPECT_EQ(f16_from_float(1 + 0x1p-11f), 0x3C00);
  EXPECT_EQ(f16_from_float(1 + 3 * 0x1p-11f), 0x3C02);
  EXPECT_EQ(f16_from_float(1 + 0x1p-11f + 0x1p-20f), 0x3C01);
  EXPECT_EQ(f16_from_float(65519.9f), 0x7BFF);
  EXPECT_EQ(f16_from_float(65520), 0x7C00);
  EXPECT_EQ(f16_from_float(0x1p-25f), 0x0000);
  EXPECT_EQ(f16_from_float(0x1.8p-25f), 0x0001);
  EXPECT_EQ(f16_from_float(-0.0f), 0x8000);
  EXPECT_EQ(f16_from_float(std::numeric_limits<float>::quiet_NaN()), 0x7E00);
}

TEST(CaseTable, Bf16RoundTripsAndRoundsToEven) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = float_from_bf16(static_cast<uint16_t>(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(bf16_from_float(value), bits);
  }
  EXPECT_EQ(bf16_from_float(1 + 0x1p-8f), 0x3F80);
  EXPECT_EQ(bf16_from_float(1 + 3 * 0x1p-8f), 0x3F82);
  EXPECT_EQ(bf16_from_float(std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_EQ(bf16_from_float(-std::numeric_limits<float>::quiet_NaN()), 0x7FC0);
}

TEST(CaseTable, PaddingIsNotANumberAndDoesNotChangeTheValues) {
  MatrixSpec plain;
  plain.rows = 3;
  plain.cols = 5;
  RowStatsCase c;
  c.seed = 9;
  c.logits = plain;
  const HostTensor compact = make_inputs(c).logits;
  c.logits.pad = 2;
  c.logits.offset = 3;
  const HostTensor padded = make_inputs(c).logits;
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t col = 0; col < 5; ++col) EXPECT_EQ(compact.at(r, col), padded.at(r, col));
  }
  EXPECT_TRUE(std::isnan(padded.at(0, 5)));
  EXPECT_TRUE(std::isnan(padded.at(1, 6)));
}

TEST(CaseTable, SpecialRowsAreEveryThird) {
  RowStatsCase c;
  c.logits.rows = 5;
  c.logits.cols = 4;
  c.logits.special = "nan";
  const HostTensor t = make_inputs(c).logits;
  for (int64_t r = 0; r < 5; ++r) {
    int nans = 0;
    for (int64_t col = 0; col < 4; ++col) nans += std::isnan(t.at(r, col)) ? 1 : 0;
    EXPECT_EQ(nans, r % 3 == 1 ? 1 : 0) << r;
  }
}

TEST(CaseTable, MalformedTablesAreErrors) {
  Table table;
  EXPECT_THROW(read_table("/nonexistent", "row_stats", {"id"}, &table), std::runtime_error);
  EXPECT_THROW(read_table(cases_directory(), "row_stats", {"id", "rows"}, &table),
               std::runtime_error);
  const std::vector<std::string> columns = {"id", "n", "kind"};
  const Row row(&columns, {"a", "7x", "what"});
  EXPECT_THROW(row.integer("n"), std::runtime_error);
  EXPECT_THROW(row.number("n"), std::runtime_error);
  EXPECT_THROW(row.text("m"), std::runtime_error);
  EXPECT_THROW(row.choice("kind", {"this", "that"}), std::runtime_error);
  EXPECT_THROW(row.subset("kind", {"this", "that"}), std::runtime_error);
  EXPECT_THROW(row.type("kind"), std::runtime_error);
}

// `small` says exactly what it means, so that no case drops out of the emulator by a forgotten tag.
void check_small(const CaseBase& c, int64_t elements) {
  EXPECT_EQ(c.small, elements <= 20000) << c.id << " has " << elements << " elements";
  EXPECT_FALSE(c.small && c.big) << c.id;
}

TEST(CaseTable, SmallMeansSmall) {
  const std::string directory = cases_directory();
  for (const auto& c : row_stats_cases()) check_small(c, c.logits.rows * c.logits.cols);
  for (const auto& c : exit_head_cases()) {
    const int64_t d = c.hidden.cols;
    check_small(c, (c.hidden.rows + c.weight.rows + (c.translator ? d : 0)) * d);
  }
  for (const auto& c : stablemax_cases()) {
    check_small(c, 2 * c.logits.rows * c.logits.cols);
  }
  for (const auto& c : cross_entropy_cases()) {
    check_small(c, 2 * c.logits.rows * c.logits.cols);
  }
  for (const auto& c : perp_grad_cases()) {
    int64_t elements = 3;
    for (int64_t extent : c.shape) elements *= extent;
    check_small(c, elements);
  }
  for (const auto& c : cosine_cases()) check_small(c, 2 * c.a.rows * c.a.cols);
  for (const auto& c : gate_cases()) {
    const int64_t d = c.features.cols;
    const int64_t matrices = c.kind == EXN_GATE_LINEAR     ? 0
                             : c.kind == EXN_GATE_RESIDUAL ? 1
                                                           : c.repeats;
    check_small(c, (c.features.rows + c.classes + matrices * d) * d);
  }
  for (const auto& c : exit_rule_cases()) check_small(c, c.rows * c.layers * c.tokens);
}

}  // namespace
}  // namespace exn::test
