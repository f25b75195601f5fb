// SPDX-License-Identifier: Apache-2.0
#include "cache_fixture.h"

namespace exn::test {
namespace {
const auto kOp = EXN_TEST_OP(kv_length);

using P = exn_kv_length_params;

TEST(KvLengthMisuse, Advance) {
  if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  Placed length(kCpu, make_integers({3, 5})), sequence(kCpu, make_integers({0, 1, 1}));
  Placed slot(kCpu, poisoned(Type::kI32, {3})), visible(kCpu, poisoned(Type::kI32, {3}));
  const P p = {sizeof p,     length.dl(), sequence.dl(),  nullptr, nullptr, slot.dl(),
               visible.dl(), 8,           EXN_KV_ADVANCE, 0};
  const std::vector<Placed*> written = {&length, &slot, &visible};
  {
    const Poke poke(&sequence, 2, 2);
    expect_run_refused(kOp, p, written, {"sequence[2]", "2", "0..1"});
  }
  {
    const Poke poke(&length, 1, -3);
    expect_run_refused(kOp, p, {&slot, &visible}, {"length[1]", "-3", "0.."});
  }
  const Poke full(&length, 1, 7);
  EXPECT_EQ(run_once(targets().front(), kOp, p), EXN_INVALID_ARGUMENT);
  expect_words({"row 2", "sequence 1", "8", "capacity"});
  EXPECT_TRUE(slot.unchanged() && visible.unchanged());
  EXPECT_EQ(integers_of(length.read()), (std::vector<int32_t>{3, 7}));
}

TEST(KvLengthMisuse, Crop) {
  if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  Placed length(kCpu, filled(Type::kI32, {2, 3}, 7)), limit(kCpu, filled(Type::kI32, {6}, 4));
  const P p = {sizeof p, length.dl(), nullptr, nullptr,     limit.dl(),
               nullptr,  nullptr,     0,       EXN_KV_CROP, 0};
  const std::vector<Placed*> written = {&length};
  limit.mutable_dl()->shape[0] = 5;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"limit", "5", "6"});
  limit.mutable_dl()->shape[0] = 6;
  {
    const Poke poke(&limit, 5, -1);
    expect_run_refused(kOp, p, written, {"limit[5]", "-1", "0.."});
  }
  const Poke poke(&length, 4, -2);
  EXPECT_EQ(run_once(targets().front(), kOp, p), EXN_INVALID_ARGUMENT);
  expect_words({"length[4]", "-2"});
}

}  // namespace
}  // namespace exn::test
