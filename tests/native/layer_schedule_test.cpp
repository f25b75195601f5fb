// SPDX-License-Identifier: Apache-2.0
#include "cache_fixture.h"

namespace exn::test {
namespace {

const Op<exn_layer_schedule_params> kOp = {"layer_schedule", exn_layer_schedule_supported,
                                           exn_layer_schedule_workspace_size, exn_layer_schedule};
using P = exn_layer_schedule_params;

P options_of(const LayerScheduleCase& c) {
  P p = {};
  p.struct_size = sizeof p;
  p.kind = c.kind;
  p.prompt = c.prompt;
  p.horizon = c.horizon;
  p.most = c.most;
  p.least = c.least;
  p.warm_up = c.warm_up;
  p.first_exit = c.first_exit;
  p.min_exit = c.min_exit;
  p.interval = c.interval;
  p.decay = c.decay;
  p.start_threshold = c.start_threshold;
  p.tau = c.tau;
  return p;
}

class LayerSchedule : public ::testing::TestWithParam<LayerScheduleCase> {};

TEST_P(LayerSchedule, MatchesOracle) {
  const LayerScheduleCase& c = GetParam();
  const LayerScheduleExpected expected = layer_schedule_oracle(c);
  for (const Target& target : targets()) {
    if (!target.cpu() || !wanted(c, target)) continue;  // a table for the host
    SCOPED_TRACE(target.name());
    const auto asked = [&](ScheduleOutput output) { return (c.outputs >> output & 1) != 0; };
    Placed layers(target, poisoned(Type::kI32, {c.positions, c.layers})),
        count(target, poisoned(Type::kI32, {c.positions}));
    Placed test(target,
                asked(kExitTest) ? poisoned(Type::kU8, {c.positions, c.layers}) : HostTensor{});
    Placed threshold(target,
                     asked(kThreshold) ? poisoned(Type::kF32, {c.positions}) : HostTensor{});
    Placed order(target, c.order.empty() ? HostTensor{} : integers(c.order));
    P p = options_of(c);
    p.layers = layers.dl();
    p.count = count.dl();
    p.exit_test = test.dl();
    p.threshold = threshold.dl();
    p.order = order.dl();
    exercise(target, kOp, p, {&order}, {&layers, &count, &test, &threshold});
    if (HasFatalFailure()) return;
    EXPECT_EQ(integers_of(layers.read()), expected.layers);
    EXPECT_EQ(integers_of(count.read()), expected.count);
    if (asked(kExitTest)) {
      EXPECT_EQ(test.read().bytes, expected.exit_test);
    }
    if (asked(kThreshold))
      expect_all_agree("layer_schedule threshold", expected.threshold, threshold.read());
  }
}

// A layer that runs at a position has run at every earlier one: whatever K and V it attends to are
// there.
TEST_P(LayerSchedule, SkipDecodeNeedsNoMissingKeys) {
  const LayerScheduleCase& c = GetParam();
  if (c.kind != EXN_SCHEDULE_SKIPDECODE) GTEST_SKIP() << "another kind";
  const LayerScheduleExpected e = layer_schedule_oracle(c);
  std::vector<bool> ran(static_cast<size_t>(c.layers), true);
  for (int64_t t = 0; t < c.positions; ++t) {
    std::vector<bool> runs(static_cast<size_t>(c.layers), false);
    for (int32_t i = 0; i < e.count[static_cast<size_t>(t)]; ++i) {
      const size_t layer = static_cast<size_t>(e.layers[static_cast<size_t>(t * c.layers + i)]);
      EXPECT_TRUE(ran[layer]) << "layer " << layer << " at position " << t;
      runs[layer] = true;
    }
    EXPECT_TRUE(runs.back() || e.count[static_cast<size_t>(t)] == c.warm_up);
    ran = runs;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, LayerSchedule,
                         ::testing::ValuesIn(wanted_cases(layer_schedule_cases())),
                         CaseName());

// Layers by position as counted by hand from the method's description.
TEST(LayerSchedule, SkipDecodeWorkedExample) {
  LayerScheduleCase c;
  c.positions = 13;
  c.layers = 10;
  c.horizon = 10;
  c.most = 10;
  c.least = 4;
  c.warm_up = 1;
  const LayerScheduleExpected e = layer_schedule_oracle(c);
  EXPECT_EQ(e.count, (std::vector<int32_t>{10, 9, 9, 8, 8, 7, 6, 6, 5, 5, 4, 4, 4}));
  EXPECT_EQ(std::vector<int32_t>(e.layers.end() - 10, e.layers.end()),
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
  Placed threshold_{kCpu, poisoned(Type::kF32, {5})}, order_{kCpu, integers({0, 3, 5})};
  P p_ = {};
  std::vector<Placed*> written_ = {&layers_, &count_, &test_, &threshold_};
};

TEST_F(LayerScheduleMisuse, SkipDecode) {
  expect_sound_struct_sizes(kOp, p_, written_);
  Spoiler<P> spoil(kOp, p_, written_);
  spoil.required(&P::layers, "layers");
  spoil.required(&P::count, "count");
  spoil.tensor(&layers_, "layers", "i32");
  spoil.tensor(&count_, "count", "i32");
  spoil.tensor(&test_, "exit_test", "u8");
  spoil.on_another_device(&count_, "count");
  spoil.size(&count_, "count", 0, 4);
  spoil.size(&test_, "exit_test", 1, 5);
  spoil.overlap(&count_, "count", layers_, "layers");
  for (int32_t bad : {-1, 4}) spoil.value(&P::kind, bad, {"kind", std::to_string(bad)});
  spoil.value(&P::prompt, int32_t{-1}, {"prompt", "-1", "0"});
  spoil.value(&P::prompt, int32_t{8}, {"horizon", "8", "9"});
  spoil.value(&P::horizon, int32_t{0}, {"horizon", "0", "1"});
  spoil.value(&P::least, int32_t{0}, {"least", "0", "1"});
  spoil.value(&P::most, int32_t{2}, {"most", "2", "3"});
  spoil.value(&P::most, int32_t{7}, {"most", "7", "6"});
  spoil.value(&P::warm_up, int32_t{-1}, {"warm_up", "-1", "0"});
  spoil.value(&P::warm_up, int32_t{4}, {"warm_up", "4", "3"});
  spoil.value(&P::threshold, threshold_.dl(), {"threshold", "EXN_SCHEDULE_CALM"});
  spoil.value(&P::order, order_.dl(), {"order", "EXN_SCHEDULE_FIXED"});
  Placed none(kCpu, poisoned(Type::kI32, {5, 0}));
  spoil.value(&P::layers, none.dl(), {"layers", "0", "1"});
}

TEST_F(LayerScheduleMisuse, Calm) {
  p_.kind = EXN_SCHEDULE_CALM;
  p_.threshold = threshold_.dl();
  Spoiler<P> spoil(kOp, p_, written_);
  spoil.tensor(&threshold_, "threshold", "f32");
  spoil.size(&threshold_, "threshold", 0, 4);
  spoil.value(&P::first_exit, int32_t{-1}, {"first_exit", "-1", "0"});
  spoil.value(&P::min_exit, int32_t{-1}, {"min_exit", "-1", "0"});
  spoil.value(&P::interval, int32_t{0}, {"interval", "0", "1"});
  spoil.value(&P::horizon, int32_t{0}, {"horizon", "0", "1"});
  for (int32_t bad : {-1, 3}) spoil.value(&P::decay, bad, {"decay", std::to_string(bad)});
  for (float bad : {kNaN, kInf, -kInf}) {
    spoil.value(&P::start_threshold, bad, {"start_threshold", "finite"});
  }
  for (float bad : {-1.0f, kNaN, kInf}) spoil.value(&P::tau, bad, {"tau"});
}

TEST_F(LayerScheduleMisuse, Fixed) {
  p_.kind = EXN_SCHEDULE_FIXED;
  p_.order = order_.dl();
  Spoiler<P> spoil(kOp, p_, written_);
  spoil.required(&P::order, "order");
  spoil.tensor(&order_, "order", "i32");
  Placed none(kCpu, integers({})), many(kCpu, integers({0, 1, 2, 3, 4, 5, 0}));
  spoil.value(&P::order, none.dl(), {"order", "0", "1"});
  spoil.value(&P::order, many.dl(), {"order", "7", "6"});
  for (int32_t bad : {6, -1}) {
    const Poke poke(&order_, 1, bad);
    expect_run_refused(kOp, p_, written_, {"order[1]", std::to_string(bad), "0..5"});
  }
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
  Placed order(kCpu, integers(layers));
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
