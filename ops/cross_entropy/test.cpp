// SPDX-License-Identifier: Apache-2.0
#include "cross_entropy/case.h"
#include "harness.h"

namespace exn::test {
namespace {

// A label out of range: refused with nothing written on the CPU, NaN in its row
// (and in the mean) on CUDA.
class BadLabel : public ::testing::TestWithParam<std::tuple<int64_t, Type, int32_t>> {};

TEST_P(BadLabel, IsRefusedOrNaN) {
  const auto [bad, label_type, reduction] = GetParam();
  CrossEntropyCase c;
  c.logits = {5, 40, Type::kF32, 0, 0, "normal", 1, "-"};
  c.labels = "random";
  c.label_type = label_type;
  c.ignore_index = -100;
  c.reduction = reduction;
  CrossEntropyInputs in = make_inputs(c);
  CrossEntropyExpected expected = cross_entropy_oracle(c, in);
  in.labels.set_integer(3, bad);
  const Expected nan = {static_cast<double>(NAN), 0};
  expected.loss[reduction == EXN_REDUCE_MEAN ? 0 : 3] = nan;
  for (size_t j = 0; j < 40; ++j) expected.grad[3 * 40 + j] = nan;
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const std::unique_ptr<Instance> instance = instantiate(c, in, target);
    const exn_status status = run_once(target, instance->calls()[0]);
    if (target.cpu()) {
      EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
      const std::string error = exn_last_error();
      EXPECT_NE(error.find("label"), std::string::npos) << error;
      EXPECT_NE(error.find(std::to_string(bad)), std::string::npos) << error;
      EXPECT_NE(error.find("39"), std::string::npos) << error;
      EXPECT_TRUE(instance->outputs_unchanged());
    } else {
      ASSERT_EQ(status, EXN_OK) << exn_last_error();
      EXPECT_EQ(judge(c, expected, instance->outputs()), "");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Labels, BadLabel,
                         ::testing::Combine(::testing::Values(-1, 40, 2147483647),
                                            ::testing::Values(Type::kI32, Type::kI64),
                                            ::testing::Values(EXN_REDUCE_NONE, EXN_REDUCE_MEAN)));
INSTANTIATE_TEST_SUITE_P(WideLabels, BadLabel,
                         ::testing::Combine(::testing::Values(int64_t{1} << 32,
                                                              (int64_t{1} << 32) + 3, INT64_MIN),
                                            ::testing::Values(Type::kI64),
                                            ::testing::Values(EXN_REDUCE_NONE, EXN_REDUCE_MEAN)));

}  // namespace
}  // namespace exn::test
