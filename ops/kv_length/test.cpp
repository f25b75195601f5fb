// SPDX-License-Identifier: Apache-2.0
#include "cache_fixture.h"

namespace exn::test {
namespace {

const auto kOp = EXN_TEST_OP(kv_length);

using P = exn_kv_length_params;

TEST(KvLengthMisuse, Advance) {
  if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  Placed length(kCpu, make_integers({3, 5})), sequence(kCpu, make_integers({0, 1, 1})),
      active(kCpu, zeros(Type::kU8, {3}));
  Placed slot(kCpu, poisoned(Type::kI32, {3})), visible(kCpu, poisoned(Type::kI32, {3}));
  P p = {sizeof p, length.dl(), sequence.dl(),  nullptr, slot.dl(), visible.dl(),
         nullptr,  8,           EXN_KV_ADVANCE, 0};
  const std::vector<Placed*> written = {&length, &slot, &visible};
  expect_sound_struct_sizes(kOp, p, written);
  p.active = active.dl();
  Spoiler<P> spoil(kOp, p, written);
  spoil.required(&P::length, "length");
  spoil.required(&P::slot, "slot");
  spoil_flat(kOp, p, &length, "length", written);
  spoil.tensor(&sequence, "sequence", "i32");
  spoil.tensor(&active, "active", "u8");
  spoil.tensor(&slot, "slot", "i32");
  spoil.tensor(&visible, "visible", "i32");
  spoil.on_another_device(&slot, "slot");
  spoil.on_another_device(&active, "active");
  spoil.size(&sequence, "sequence", 0, 2);
  spoil.size(&active, "active", 0, 2);
  spoil.size(&visible, "visible", 0, 2);
  for (int64_t bad : {int64_t{0}, int64_t{-4}, int64_t{1} << 31})
    spoil.value(&P::capacity, bad, {"capacity", std::to_string(bad)});
  for (int32_t bad : {-1, 2}) spoil.value(&P::action, bad, {"action", std::to_string(bad)});
  spoil.value(&P::reserved, 1, {"reserved", "1", "0"});
  spoil.value(&P::limit, visible.dl(), {"limit", "EXN_KV_ADVANCE"});
  spoil.overlap(&slot, "slot", length, "length");
  spoil.overlap(&visible, "visible", slot, "slot", 4);
  p.active = nullptr;
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
  Placed length(kCpu, filled(Type::kI32, {2, 3}, 7)), limit(kCpu, filled(Type::kI32, {6}, 4)),
      other(kCpu, zeros(Type::kI32, {6}));
  const P p = {sizeof p, length.dl(), nullptr, nullptr,     nullptr,
               nullptr,  limit.dl(),  0,       EXN_KV_CROP, 0};
  const std::vector<Placed*> written = {&length};
  expect_sound_struct_sizes(kOp, p, written);
  Spoiler<P> spoil(kOp, p, written);
  spoil.required(&P::limit, "limit");
  spoil_flat(kOp, p, &length, "length", written);
  spoil_flat(kOp, p, &limit, "limit", written);
  spoil.on_another_device(&limit, "limit");
  spoil.size(&limit, "limit", 0, 5);
  spoil.value(&P::sequence, other.dl(), {"sequence", "EXN_KV_CROP"});
  spoil.value(&P::active, other.dl(), {"active", "EXN_KV_CROP"});
  spoil.value(&P::slot, other.dl(), {"slot", "EXN_KV_CROP"});
  spoil.value(&P::visible, other.dl(), {"visible", "EXN_KV_CROP"});
  spoil.overlap(&length, "length", limit, "limit");
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
