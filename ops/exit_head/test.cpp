// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>

#include "exit_head/case.h"
#include "harness.h"

namespace exn::test {
namespace {

// Rows first ... first + count of a tensor, as a tensor of their own.
HostTensor rows_of(const HostTensor& t, int64_t first, int64_t count) {
  HostTensor part = make_tensor(t.type, {count, t.cols}, t.stride - t.cols, t.offset);
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t c = 0; c < t.cols; ++c) part.set(r, c, t.at(first + r, c));
  }
  return part;
}

Outputs run(const ExitHeadCase& c, const ExitHeadInputs& in, const Target& target) {
  const std::unique_ptr<Instance> instance = instantiate(c, in, target);
  use(target);
  instance->prepare();
  instance->run(nullptr);
  return instance->outputs();
}

// Bytes of a row in all outputs, one after the other.
std::vector<unsigned char> row_bytes(const Outputs& outputs, int64_t row) {
  std::vector<unsigned char> bytes;
  for (const HostTensor& t : outputs) {
    const auto begin = t.bytes.begin() + row * size_of(t.type);
    bytes.insert(bytes.end(), begin, begin + size_of(t.type));
  }
  return bytes;
}

class ExitHead : public ::testing::TestWithParam<ExitHeadCase> {};

TEST_P(ExitHead, RowsDoNotDependOnTheBatch) {
  const ExitHeadCase& c = GetParam();
  if (c.hidden.rows < 2 || c.bench) GTEST_SKIP() << "one row, or a shape for benchmarks";
  const ExitHeadInputs in = make_inputs(c);
  for (const Target& target : targets()) {
    if (!wanted(c, target)) continue;
    SCOPED_TRACE(target.name());
    const Outputs whole = run(c, in, target);
    for (int64_t size : {int64_t{1}, int64_t{3}, int64_t{8}}) {
      if (size >= c.hidden.rows) continue;
      for (int64_t first = 0; first + size <= c.hidden.rows; first += size) {
        ExitHeadInputs few = in;
        few.hidden = rows_of(in.hidden, first, size);
        const Outputs part = run(c, few, target);
        for (int64_t r = 0; r < size; ++r) {
          ASSERT_EQ(row_bytes(part, r), row_bytes(whole, first + r))
              << "row " << first + r << " in a batch of " << size << " against one of "
              << c.hidden.rows;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, ExitHead, ::testing::ValuesIn(wanted_cases(exit_head_cases())),
                         CaseName());

// A list entry out of range: refused on the CPU, all rows invalid on CUDA.
TEST(ExitHeadShortlist, EntryOutOfRange) {
  ExitHeadCase c;
  c.hidden = {3, 16, Type::kF32, 0, 0, "normal", 1, "-"};
  c.weight = {40, 16, Type::kF32, 0, 0, "normal", 1, "-"};
  c.shortlist = 7;
  c.outputs = (1u << kStats) - 1;
  for (const Target& target : targets()) {
    for (int32_t bad : {-1, 40, INT32_MAX, INT32_MIN}) {
      SCOPED_TRACE(target.name() + ", entry " + std::to_string(bad));
      ExitHeadInputs in = make_inputs(c);
      in.shortlist.set_integer(4, bad);
      const std::unique_ptr<Instance> instance = instantiate(c, in, target);
      const exn_status status = run_once(target, instance->calls()[0]);
      if (target.cpu()) {
        EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
        const std::string error = exn_last_error();
        EXPECT_NE(error.find("shortlist"), std::string::npos) << error;
        EXPECT_NE(error.find(std::to_string(bad)), std::string::npos) << error;
        EXPECT_NE(error.find("39"), std::string::npos) << error;
        EXPECT_TRUE(instance->outputs_unchanged());
      } else {
        ASSERT_EQ(status, EXN_OK) << exn_last_error();
        const StatsExpected invalid =
            stats_oracle({{static_cast<double>(NAN)}, {}, {}}, c.normalizer, 1, 0);
        EXPECT_EQ(judge_stats(c.outputs, {invalid, invalid, invalid}, instance->outputs()), "");
      }
    }
  }
}

}  // namespace
}  // namespace exn::test
