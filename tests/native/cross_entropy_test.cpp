// SPDX-License-Identifier: Apache-2.0
#include "harness.h"

#include <cmath>
#include <limits>

namespace exn::test {
namespace {

const Op<exn_cross_entropy_params> kOp = {"cross_entropy", exn_cross_entropy_supported,
                                          exn_cross_entropy_workspace_size, exn_cross_entropy};

HostTensor loss_tensor(const CrossEntropyCase& c) {
  const Type type = c.logits.type == Type::kF64 ? Type::kF64 : Type::kF32;
  return poisoned(type, {c.reduction == EXN_REDUCE_MEAN ? 1 : c.logits.rows});
}

class CrossEntropy : public ::testing::TestWithParam<CrossEntropyCase> {};

TEST_P(CrossEntropy, MatchesOracle) {
  const CrossEntropyCase& c = GetParam();
  const CrossEntropyInputs in = make_inputs(c);
  const CrossEntropyExpected expected = cross_entropy_oracle(c, in);
  const std::string what = std::string("cross_entropy ") + name_of(c.logits.type);
  for (const Target& target : targets()) {
    if (!wanted(c, target)) continue;
    SCOPED_TRACE(target.name());
    Placed logits(target, in.logits);
    Placed labels(target, in.labels);
    Placed loss(target, c.loss ? loss_tensor(c) : HostTensor{});
    const bool separate = c.grad && !c.in_place;
    Placed own(target, separate
                           ? poisoned(in.logits.type, in.logits.shape, c.grad_pad, c.grad_offset)
                           : HostTensor{});
    Placed& grad = c.in_place ? logits : own;
    const exn_cross_entropy_params params = {sizeof params,  logits.dl(),  labels.dl(),  loss.dl(),
                                             grad.dl(), c.ignore_index, c.normalizer, c.reduction};
    std::vector<Placed*> read = {&labels};
    if (!c.in_place) read.push_back(&logits);
    exercise(target, kOp, params, read, {&loss, &grad});
    if (HasFatalFailure()) return;
    if (c.loss) expect_all_agree(what + " loss", expected.loss, loss.read());
    if (c.grad) expect_all_agree(what + " grad", expected.grad, grad.read());
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, CrossEntropy,
                         ::testing::ValuesIn(wanted_cases(cross_entropy_cases())),
                         CaseName());

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
  const Expected nan = {std::numeric_limits<double>::quiet_NaN(), 0};
  expected.loss[reduction == EXN_REDUCE_MEAN ? 0 : 3] = nan;
  for (size_t j = 0; j < 40; ++j) expected.grad[3 * 40 + j] = nan;
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Placed logits(target, in.logits);
    Placed labels(target, in.labels);
    Placed loss(target, loss_tensor(c));
    Placed grad(target, poisoned(Type::kF32, in.logits.shape));
    const exn_cross_entropy_params params = {sizeof params, logits.dl(), labels.dl(), loss.dl(),
                                             grad.dl(), c.ignore_index, c.normalizer, c.reduction};
    const exn_status status = run_once(target, kOp, params);
    if (target.cpu()) {
      EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
      const std::string error = exn_last_error();
      EXPECT_NE(error.find("label"), std::string::npos) << error;
      EXPECT_NE(error.find(std::to_string(bad)), std::string::npos) << error;
      EXPECT_NE(error.find("39"), std::string::npos) << error;
      EXPECT_TRUE(loss.unchanged());
      EXPECT_TRUE(grad.unchanged());
    } else {
      ASSERT_EQ(status, EXN_OK) << exn_last_error();
      expect_all_agree("loss beside a bad label", expected.loss, loss.read());
      expect_all_agree("grad beside a bad label", expected.grad, grad.read());
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
