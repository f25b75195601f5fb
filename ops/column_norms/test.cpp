// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "cache_fixture.h"

namespace exn::test {
namespace {
using P = exn_column_norms_params;
const Op<P> kOp = EXN_TEST_OP(column_norms);

HostTensor rows_of(const std::vector<std::vector<double>>& rows) {
  HostTensor t = make_tensor(
      Type::kF32, {static_cast<int64_t>(rows.size()), static_cast<int64_t>(rows[0].size())});
  for (int64_t i = 0; i < t.rows; ++i) {
    for (int64_t j = 0; j < t.cols; ++j)
      t.set(i, j, rows[static_cast<size_t>(i)][static_cast<size_t>(j)]);
  }
  return t;
}

// Two batches of two sequences each: |x_j| of all rows, and over the root of 4.
TEST(ColumnNorms, TwoBatchesByHand) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Placed first(target, rows_of({{3, 0, 1}, {0, -2, kNaN}}));
    Placed second(target, rows_of({{-4, 1, 1}, {0, 2, 1}}));
    Placed active(target, filled(Type::kU8, {2}, 1));
    HostTensor mask = filled(Type::kU8, {2}, 0);
    mask.set_integer(0, 7);
    Placed one(target, mask);
    Placed sums(target, poisoned(Type::kF32, {3})), norms(target, poisoned(Type::kF32, {3}));
    P p = {sizeof p, first.dl(), one.dl(), sums.dl(), nullptr, 1, 0};
    ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
    EXPECT_EQ(sums.read().at(0, 0), 9);
    EXPECT_EQ(sums.read().at(0, 1), 0);
    EXPECT_EQ(sums.read().at(0, 2), 1);
    p = {sizeof p, second.dl(), active.dl(), sums.dl(), norms.dl(), .25f, 1};
    ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
    EXPECT_EQ(sums.read().at(0, 0), 25);
    EXPECT_EQ(sums.read().at(0, 1), 5);
    EXPECT_EQ(sums.read().at(0, 2), 3);
    EXPECT_EQ(norms.read().at(0, 0), 2.5);
    EXPECT_NEAR(norms.read().at(0, 1), std::sqrt(1.25), 1e-6);
    EXPECT_NEAR(norms.read().at(0, 2), std::sqrt(.75), 1e-6);
  }
}

class ColumnNormsMisuse : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  }

  Placed x_{kCpu, normal(Type::kBF16, {3, 6})}, active_{kCpu, filled(Type::kU8, {3}, 1)};
  Placed sums_{kCpu, normal(Type::kF32, {6})}, norms_{kCpu, normal(Type::kF32, {6})};
  const P p_ = {sizeof p_, x_.dl(), active_.dl(), sums_.dl(), norms_.dl(), .5f, 1};
};

// One row in memory, however often.
TEST_F(ColumnNormsMisuse, RowsThatOverlap) {
  DLTensor x = *x_.dl();
  int64_t shape[2] = {int64_t{1} << 32, 6}, strides[2] = {0, 1};
  x.shape = shape;
  x.strides = strides;
  P p = p_;
  p.x = &x;
  p.active = nullptr;
  for (int64_t bad : {0, 1, 5}) {
    strides[0] = bad;
    expect_refused(kOp, p, {&sums_, &norms_}, EXN_INVALID_ARGUMENT,
                   {"x has row stride " + std::to_string(bad), "at least 6"});
  }
}

}  // namespace
}  // namespace exn::test
