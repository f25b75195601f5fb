// SPDX-License-Identifier: Apache-2.0
#include "harness.h"

#include <cmath>
#include <cstdint>

namespace exn::test {
namespace {

const Op<exn_exit_head_params> kOp = {"exit_head", exn_exit_head_supported,
                                      exn_exit_head_workspace_size, exn_exit_head};

// The inputs of a case in device memory.
struct PlacedInputs {
  PlacedInputs(const Target& target, const ExitHeadInputs& in)
      : hidden(target, in.hidden),
        weight(target, in.weight),
        bias(target, in.bias),
        norm_weight(target, in.norm_weight),
        norm_bias(target, in.norm_bias),
        translator(target, in.translator),
        translator_bias(target, in.translator_bias),
        shortlist(target, in.shortlist) {}

  std::vector<Placed*> all() {
    return {&hidden,     &weight,          &bias,     &norm_weight, &norm_bias,
            &translator, &translator_bias, &shortlist};
  }

  exn_exit_head_params params(const ExitHeadCase& c, const exn_stats& out) const {
    exn_exit_head_params p = {};
    p.struct_size = sizeof p;
    p.hidden = hidden.dl();
    p.weight = weight.dl();
    p.bias = bias.dl();
    p.norm_weight = norm_weight.dl();
    p.norm_bias = norm_bias.dl();
    p.translator_weight = translator.dl();
    p.translator_bias = translator_bias.dl();
    p.shortlist = shortlist.dl();
    p.norm = c.norm;
    p.norm_eps = c.norm_eps;
    p.translate = c.translate;
    p.normalizer = c.normalizer;
    p.temperature = c.temperature;
    p.softcap = c.softcap;
    p.out = out;
    return p;
  }

  Placed hidden, weight, bias, norm_weight, norm_bias, translator, translator_bias, shortlist;
};

class ExitHead : public ::testing::TestWithParam<ExitHeadCase> {};

TEST_P(ExitHead, MatchesOracle) {
  const ExitHeadCase& c = GetParam();
  const ExitHeadInputs in = make_inputs(c);
  const std::vector<StatsExpected> expected = exit_head_oracle(c, in);
  for (const Target& target : targets()) {
    if (!wanted(c, target)) continue;
    SCOPED_TRACE(target.name());
    PlacedInputs placed(target, in);
    const StatsOutputs out(target, c.outputs, c.hidden.rows);
    exercise(target, kOp, placed.params(c, out.dl()), placed.all(), out.all());
    if (HasFatalFailure()) return;
    out.expect("exit_head", expected);
  }
}

// Rows first ... first + count of a tensor, as a tensor of their own.
HostTensor rows_of(const HostTensor& t, int64_t first, int64_t count) {
  HostTensor part = make_tensor(t.type, {count, t.cols}, t.stride - t.cols, t.offset);
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t c = 0; c < t.cols; ++c) part.set(r, c, t.at(first + r, c));
  }
  return part;
}

TEST_P(ExitHead, RowsDoNotDependOnTheBatch) {
  const ExitHeadCase& c = GetParam();
  if (c.hidden.rows < 2 || c.bench) GTEST_SKIP() << "one row, or a shape for benchmarks";
  const ExitHeadInputs in = make_inputs(c);
  for (const Target& target : targets()) {
    if (!wanted(c, target)) continue;
    SCOPED_TRACE(target.name());
    PlacedInputs placed(target, in);
    const StatsOutputs whole(target, c.outputs, c.hidden.rows);
    ASSERT_EQ(run_once(target, kOp, placed.params(c, whole.dl())), EXN_OK) << exn_last_error();
    for (int64_t size : {int64_t{1}, int64_t{3}, int64_t{8}}) {
      if (size >= c.hidden.rows) continue;
      for (int64_t first = 0; first + size <= c.hidden.rows; first += size) {
        ExitHeadInputs few = in;
        few.hidden = rows_of(in.hidden, first, size);
        PlacedInputs placed_few(target, few);
        const StatsOutputs part(target, c.outputs, size);
        ASSERT_EQ(run_once(target, kOp, placed_few.params(c, part.dl())), EXN_OK)
            << exn_last_error();
        for (int64_t r = 0; r < size; ++r) {
          ASSERT_EQ(part.row_bytes(r), whole.row_bytes(first + r))
              << "row " << first + r << " in a batch of " << size << " against one of "
              << c.hidden.rows;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, ExitHead,
                         ::testing::ValuesIn(wanted_cases(exit_head_cases())),
                         CaseName());

// A list entry out of range: refused on the CPU, all rows invalid on CUDA.
TEST(ExitHeadShortlist, EntryOutOfRange) {
  for (const Target& target : targets()) {
    for (int32_t bad : {-1, 40, INT32_MAX, INT32_MIN}) {
      SCOPED_TRACE(target.name() + ", entry " + std::to_string(bad));
      ExitHeadCase c;
      c.hidden = {3, 16, Type::kF32, 0, 0, "normal", 1, "-"};
      c.weight = {40, 16, Type::kF32, 0, 0, "normal", 1, "-"};
      c.shortlist = 7;
      c.outputs = (1u << kStats) - 1;
      ExitHeadInputs in = make_inputs(c);
      in.shortlist.set_integer(4, bad);
      PlacedInputs placed(target, in);
      const StatsOutputs out(target, c.outputs, 3);
      const exn_status status = run_once(target, kOp, placed.params(c, out.dl()));
      if (target.cpu()) {
        EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
        const std::string error = exn_last_error();
        EXPECT_NE(error.find("shortlist"), std::string::npos) << error;
        EXPECT_NE(error.find(std::to_string(bad)), std::string::npos) << error;
        EXPECT_NE(error.find("39"), std::string::npos) << error;
        for (const Placed* t : out.all()) EXPECT_TRUE(t->unchanged());
      } else {
        ASSERT_EQ(status, EXN_OK) << exn_last_error();
        const StatsExpected invalid =
            stats_oracle({{static_cast<double>(NAN)}, {}, {}}, c.normalizer, 1, 0);
        out.expect("exit_head", {invalid, invalid, invalid});
      }
    }
  }
}

}  // namespace
}  // namespace exn::test
