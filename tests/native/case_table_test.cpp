// SPDX-License-Identifier: Apache-2.0
// The generator makes the words that the README of the tables promises, and the
// tables keep their own rules.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <stdexcept>

#include "case.h"

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
  MatrixSpec m;
  m.rows = 3;
  m.cols = 5;
  const HostTensor compact = make_matrix(m, 9, 0);
  m.pad = 2;
  m.offset = 3;
  const HostTensor padded = make_matrix(m, 9, 0);
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t col = 0; col < 5; ++col) EXPECT_EQ(compact.at(r, col), padded.at(r, col));
  }
  EXPECT_TRUE(std::isnan(padded.at(0, 5)));
  EXPECT_TRUE(std::isnan(padded.at(1, 6)));
}

TEST(CaseTable, SpecialRowsAreEveryThird) {
  MatrixSpec m;
  m.rows = 5;
  m.cols = 4;
  m.special = "nan";
  const HostTensor t = make_matrix(m, 1, 0);
  for (int64_t r = 0; r < 5; ++r) {
    int nans = 0;
    for (int64_t col = 0; col < 4; ++col) nans += std::isnan(t.at(r, col)) ? 1 : 0;
    EXPECT_EQ(nans, r % 3 == 1 ? 1 : 0) << r;
  }
}

// A folder of tables for the time of a test.
class Folder {
 public:
  explicit Folder(const std::string& table) {
    EXPECT_EQ(mkdir((path_ + "/an_op").c_str(), 0700), 0);
    std::ofstream(path_ + "/an_op/cases.tsv") << table;
    setenv("EXEUNT_OPS", path_.c_str(), 1);
  }
  ~Folder() {
    unsetenv("EXEUNT_OPS");
    unlink((path_ + "/an_op/cases.tsv").c_str());
    rmdir((path_ + "/an_op").c_str());
    rmdir(path_.c_str());
  }

 private:
  char name_[32] = "/tmp/exeunt_tables_XXXXXX";
  std::string path_ = mkdtemp(name_);
};

std::vector<CaseBase> cases_in(const std::string& table) {
  const Folder folder(table);
  return read_cases<CaseBase>("an_op", [](const Row& row, CaseBase*) { row.integer("n"); });
}

TEST(CaseTable, MalformedTablesAreErrors) {
  EXPECT_THROW(read_table("no_such_op"), std::runtime_error);
  const std::vector<CaseBase> good = cases_in("# a comment\n\nid n seed tags\na 7 1 small,exact\n");
  ASSERT_EQ(good.size(), 1u);
  EXPECT_TRUE(good[0].id == "a" && good[0].seed == 1 && good[0].small && good[0].exact);
  for (const char* bad : {"id n seed tags\na 7 1\n", "id n seed tags\na 7x 1 -\n",
                          "id n seed tags\na 7 1 tiny\n", "id seed tags\na 1 -\n",
                          "id n seed tags\na 7 1 -\na 8 2 -\n", "id n m seed tags\na 7 7 1 -\n"}) {
    EXPECT_THROW(cases_in(bad), std::runtime_error) << bad;
  }
  Table table = {{{"id"}, {"n"}, {"kind"}}, {{"a", "7x", "what"}}};
  const Row row(&table, 0);
  EXPECT_THROW(row.number("n"), std::runtime_error);
  EXPECT_THROW(row.text("m"), std::runtime_error);
  EXPECT_THROW(row.choice("kind", {"this", "that"}), std::runtime_error);
  EXPECT_THROW(row.subset("kind", {"this", "that"}), std::runtime_error);
  EXPECT_THROW(row.type("kind"), std::runtime_error);
}

// No case drops out of the emulator by a forgotten tag, and none slows it down by a wrong one. Most
// small cases have less than 100 kB; sequences of calls, with tensors for each, have more.
TEST(AllTables, SmallMeansSmall) {
  constexpr size_t kSurely = 32 << 10, kAtMost = 320 << 10;
  if (std::string(exn_cpu_isas()).rfind(exn_cpu_isa(), 0) != 0) GTEST_SKIP() << "once is enough";
  for (const std::string& op : ops()) {
    for (const ListedCase& c : cases_of(op)) {
      if (c.base.big || c.base.bench || c.spoiled) continue;
      const size_t bytes = c.make().instantiate(kDLCPU)->tensor_bytes();
      EXPECT_FALSE(c.base.small ? bytes > kAtMost : bytes <= kSurely)
          << op << " " << c.base.id << " has " << bytes << " bytes";
    }
    for (const ListedCase& c : cases_of(op)) {
      EXPECT_FALSE(c.base.small && c.base.big) << op << " " << c.base.id;
    }
  }
}

}  // namespace
}  // namespace exn::test
