// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "cache_fixture.h"
#include "prune_mask/case.h"

namespace exn::test {
namespace {
const Op<exn_prune_mask_params> kMask = {"prune_mask", exn_prune_mask_supported,
                                         exn_prune_mask_workspace_size, exn_prune_mask};
const Op<exn_prune_apply_params> kApply = {"prune_apply", exn_prune_apply_supported,
                                           exn_prune_apply_workspace_size, exn_prune_apply};

HostTensor matrix(Type type, const std::vector<std::vector<double>>& rows) {
  HostTensor t =
      make_tensor(type, {static_cast<int64_t>(rows.size()), static_cast<int64_t>(rows[0].size())});
  for (int64_t i = 0; i < t.rows; ++i) {
    for (int64_t j = 0; j < t.cols; ++j)
      t.set(i, j, rows[static_cast<size_t>(i)][static_cast<size_t>(j)]);
  }
  return t;
}

HostTensor bytes(const std::vector<std::vector<int>>& rows) {
  HostTensor t = make_tensor(
      Type::kU8, {static_cast<int64_t>(rows.size()), static_cast<int64_t>(rows[0].size())});
  size_t at = 0;
  for (const auto& row : rows) {
    for (const int value : row) t.bytes[at++] = static_cast<unsigned char>(value);
  }
  return t;
}

using Bytes = std::vector<unsigned char>;

// ---- the oracle, by hand ------------------------------------------------------------------------

Bytes pruned(const HostTensor& weight, const PruneOptions& options, const HostTensor& norm = {}) {
  HostTensor mask = make_tensor(Type::kU8, {weight.rows, weight.cols});
  return prune_oracle({{weight, norm, mask}}, options)[0].bytes;
}

TEST(PruneOracle, EqualScoresGoByPlace) {
  const HostTensor w = matrix(Type::kF32, {{1, -1, 2, 1}, {1, 3, -1, 1}});
  PruneOptions o;
  o.ratio = .5;
  EXPECT_EQ(pruned(w, o), (Bytes{0, 0, 1, 0, 0, 1, 1, 1}));
  o.scope = EXN_PRUNE_ROW;
  EXPECT_EQ(pruned(w, o), (Bytes{0, 0, 1, 1, 0, 1, 0, 1}));
  o.which = EXN_PRUNE_LARGEST;  // the last ones
  EXPECT_EQ(pruned(w, o), (Bytes{1, 1, 0, 0, 1, 0, 1, 0}));
}

TEST(PruneOracle, WandaWeighsColumns) {
  const HostTensor w = matrix(Type::kF32, {{1, 2, 3, 4}});
  HostTensor norm = make_tensor(Type::kF32, {4});
  const double norms[] = {8, 1, 2, .25};  // scores 8, 2, 6, 1
  for (int64_t j = 0; j < 4; ++j) norm.set(0, j, norms[j]);
  PruneOptions o;
  o.ratio = .5;
  EXPECT_EQ(pruned(w, o, norm), (Bytes{1, 0, 1, 0}));
  EXPECT_EQ(pruned(w, o), (Bytes{0, 0, 1, 1}));
}

// int((1 - .1) * 15) = 13 of 15 stay: two go, where .1 * 15 is one and a half.
TEST(PruneOracle, AntidoteRoundsWhatStays) {
  HostTensor w = make_tensor(Type::kF32, {1, 15});
  for (int64_t j = 0; j < 15; ++j) w.set(0, j, static_cast<double>(j));
  PruneOptions o;
  o.ratio = .1;
  o.scope = EXN_PRUNE_ROW;
  o.which = EXN_PRUNE_LARGEST;
  EXPECT_EQ(pruned(w, o), (Bytes{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0}));
}

TEST(PruneOracle, NanGoesLast) {
  const HostTensor w = matrix(Type::kF32, {{static_cast<double>(kNaN), 5, HUGE_VAL, 1}});
  PruneOptions o;
  o.ratio = .75;
  EXPECT_EQ(pruned(w, o), (Bytes{1, 0, 0, 0}));
}

// ---- several calls ------------------------------------------------------------------------------

// Ratios that grow: what is pruned stays so, though its weight has grown meanwhile.
TEST(Prune, IsIterative) {
  for (const Target& target : targets()) {
    Placed early(target, matrix(Type::kF32, {{1, 2, 3, 4, 5}}));
    Placed late(target, matrix(Type::kF32, {{9, 2, 3, 4, 5}}));
    Placed mask(target, bytes({{7, 7, 7, 7, 7}}));
    const auto call = [&](const Placed& weight, double ratio, int32_t first) {
      const exn_prune_mask_tensor tensor = {weight.dl(), nullptr, mask.dl()};
      exn_prune_mask_params p = {};
      p.struct_size = sizeof p;
      p.tensors = &tensor;
      p.tensor_count = 1;
      p.ratio = ratio;
      p.scope = EXN_PRUNE_TENSOR;
      p.first = first;
      EXPECT_EQ(run_once(target, kMask, p), EXN_OK) << exn_last_error();
      return mask.read().bytes;
    };
    EXPECT_EQ(call(early, .2, 1), (Bytes{0, 1, 1, 1, 1})) << target.name();
    EXPECT_EQ(call(late, .4, 0), (Bytes{0, 0, 1, 1, 1})) << target.name();
    EXPECT_EQ(call(late, .2, 0), (Bytes{0, 0, 1, 1, 1})) << target.name();  // fewer are wanted
    EXPECT_EQ(call(late, .4, 1), (Bytes{1, 0, 0, 1, 1})) << target.name();  // forgotten
  }
}

// ---- misuse -------------------------------------------------------------------------------------

class PruneMaskMisuse : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  }

  using P = exn_prune_mask_params;

  Placed weights_[2] = {{kCpu, normal(Type::kF32, {3, 8})}, {kCpu, normal(Type::kBF16, {2, 5})}};
  Placed norm_{kCpu, normal(Type::kF32, {5})};
  Placed masks_[2] = {{kCpu, bytes(std::vector<std::vector<int>>(3, std::vector<int>(8, 1)))},
                      {kCpu, bytes(std::vector<std::vector<int>>(2, std::vector<int>(5, 1)))}};
  exn_prune_mask_tensor tensors_[2] = {{weights_[0].dl(), nullptr, masks_[0].dl()},
                                       {weights_[1].dl(), norm_.dl(), masks_[1].dl()}};
  P p_ = {sizeof p_, tensors_, .5, 2, EXN_PRUNE_GLOBAL, EXN_PRUNE_SMALLEST, EXN_PRUNE_DOWN, 0, 0};
  std::vector<Placed*> written_ = {&masks_[0], &masks_[1]};
};

// Those that stand in one order are counted in 31 bits.
TEST_F(PruneMaskMisuse, MoreThanCanBeRanked) {
  DLTensor weight = *weights_[0].dl(), mask = *masks_[0].dl();
  int64_t shape[2] = {int64_t{1} << 20, int64_t{1} << 11};
  for (DLTensor* t : {&weight, &mask}) {
    t->shape = shape;
    t->strides = nullptr;
  }
  mask.data = reinterpret_cast<void*>(uintptr_t{1} << 40);
  exn_prune_mask_tensor tensor = {&weight, nullptr, &mask};
  p_.tensors = &tensor;
  p_.tensor_count = 1;
  EXPECT_EQ(kMask.supported(&p_), EXN_INVALID_ARGUMENT);
  expect_words({"elements of a scope", "2147483648", "2147483647"});
  p_.scope = EXN_PRUNE_ROW;
  EXPECT_EQ(kMask.supported(&p_), EXN_OK) << exn_last_error();
}

}  // namespace
}  // namespace exn::test
