// SPDX-License-Identifier: Apache-2.0
#include <numeric>

#include "cache_fixture.h"

namespace exn::test {
namespace {
const auto kOp = EXN_TEST_OP(layer_schedule);
using P = exn_layer_schedule_params;

// Layers by position as counted by hand from the method's description.
TEST(LayerSchedule, SkipDecodeWorkedExample) {
  if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  Placed layers(kCpu, poisoned(Type::kI32, {13, 10})), count(kCpu, poisoned(Type::kI32, {13}));
  P p = {};
  p.struct_size = sizeof p;
  p.layers = layers.dl();
  p.count = count.dl();
  p.horizon = 10;
  p.most = 10;
  p.least = 4;
  p.warm_up = 1;
  ASSERT_EQ(run_once(targets().front(), kOp, p), EXN_OK) << exn_last_error();
  EXPECT_EQ(integers_of(count.read()),
            (std::vector<int32_t>{10, 9, 9, 8, 8, 7, 6, 6, 5, 5, 4, 4, 4}));
  const std::vector<int32_t> got = integers_of(layers.read());
  EXPECT_EQ(std::vector<int32_t>(got.end() - 10, got.end()),
            (std::vector<int32_t>{0, 7, 8, 9, -1, -1, -1, -1, -1, -1}));
}

class LayerScheduleMisuse : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
    p_.struct_size = sizeof p_;
    p_.layers = layers_.dl();
    p_.count = count_.dl();
    p_.exit_test = test_.dl();
    p_.horizon = 8;
    p_.most = 6;
    p_.least = 3;
    p_.warm_up = 1;
    p_.interval = 1;
  }

  Placed layers_{kCpu, poisoned(Type::kI32, {5, 6})}, count_{kCpu, poisoned(Type::kI32, {5})},
      test_{kCpu, poisoned(Type::kU8, {5, 6})};
  Placed threshold_{kCpu, poisoned(Type::kF32, {5})}, order_{kCpu, make_integers({0, 3, 5})};
  P p_ = {};
  std::vector<Placed*> written_ = {&layers_, &count_, &test_, &threshold_};
};

TEST_F(LayerScheduleMisuse, SkipDecode) {
  Spoiler<P> spoil(kOp, p_, written_);
  spoil.value(&P::least, int32_t{0}, {"least", "0", "1"});
  spoil.value(&P::most, int32_t{2}, {"most", "2", "3"});
  spoil.value(&P::most, int32_t{7}, {"most", "7", "6"});
  spoil.value(&P::warm_up, int32_t{-1}, {"warm_up", "-1", "0"});
  spoil.value(&P::warm_up, int32_t{4}, {"warm_up", "4", "3"});
  Placed none(kCpu, poisoned(Type::kI32, {5, 0}));
  spoil.value(&P::layers, none.dl(), {"layers", "0", "1"});
}

TEST_F(LayerScheduleMisuse, Fixed) {
  p_.kind = EXN_SCHEDULE_FIXED;
  p_.order = order_.dl();
  Spoiler<P> spoil(kOp, p_, written_);
  Placed none(kCpu, make_integers({})), many(kCpu, make_integers({0, 1, 2, 3, 4, 5, 0}));
  spoil.value(&P::order, none.dl(), {"order", "0", "1"});
  spoil.value(&P::order, many.dl(), {"order", "7", "6"});
  const Poke twice(&order_, 2, 3);
  expect_run_refused(kOp, p_, written_, {"order[2]", "3", "order[1]"});
}

// As many layers as there may be, in an order in which none comes twice: such a list is looked
// through in moments, and the first entry that repeats an earlier one is named.
TEST_F(LayerScheduleMisuse, LongOrders) {
  constexpr int32_t kLayers = 1 << 20;
  std::vector<int32_t> layers(kLayers);
  for (int32_t i = 0; i < kLayers; ++i)
    layers[static_cast<size_t>(i)] = static_cast<int32_t>(int64_t{i} * 774'841 % kLayers);
  Placed order(kCpu, make_integers(widened(layers)));
  Placed schedule(kCpu, poisoned(Type::kI32, {1, kLayers}));
  Placed count(kCpu, poisoned(Type::kI32, {1}));
  written_ = {&schedule, &count};
  p_.kind = EXN_SCHEDULE_FIXED;
  p_.layers = schedule.dl();
  p_.count = count.dl();
  p_.exit_test = nullptr;
  p_.order = order.dl();
  {
    const Poke last(&order, kLayers - 1, layers[5]);
    expect_run_refused(kOp, p_, written_,
                       {"order[1048575]", std::to_string(layers[5]), "order[5]"});
    const Poke earlier(&order, 700'000, layers[600'000]);
    expect_run_refused(kOp, p_, written_,
                       {"order[700000]", std::to_string(layers[600'000]), "order[600000]"});
  }
  {  // what the passes before have marked is forgotten
    std::vector<int32_t> rising(kLayers);
    std::iota(rising.begin(), rising.end(), 0);
    for (int32_t i = 0; i < 4; ++i) rising[static_cast<size_t>(i)] = i << 16;
    for (int32_t i = 1; i < 4; ++i) rising[static_cast<size_t>(i << 16)] = i;
    rising[kLayers - 1] = kLayers - 2;
    Placed ids(kCpu, make_integers(widened(rising)));
    p_.order = ids.dl();
    expect_run_refused(kOp, p_, written_, {"order[1048575]", "1048574", "order[1048574]"});
    p_.order = order.dl();
  }
  EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
  EXPECT_EQ(integers_of(schedule.read()), layers);
  EXPECT_EQ(integers_of(count.read()), std::vector<int32_t>{kLayers});
  Placed longer(kCpu, poisoned(Type::kI32, {1, kLayers + 1}));
  p_.layers = longer.dl();
  expect_refused(kOp, p_, {&longer}, EXN_INVALID_ARGUMENT, {"L", "1048577", "1048576"});
}

TEST_F(LayerScheduleMisuse, Unified) {
  p_.kind = EXN_SCHEDULE_UNIFIED;
  Spoiler<P> spoil(kOp, p_, written_);
  spoil.value(&P::least, int32_t{0}, {"least", "0", "1"});
  spoil.value(&P::least, int32_t{7}, {"least", "7", "6"});
}

}  // namespace
}  // namespace exn::test
