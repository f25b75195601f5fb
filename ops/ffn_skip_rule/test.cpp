// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "cache_fixture.h"

namespace exn::test {
namespace {
const auto kOp = EXN_TEST_OP(ffn_skip_rule);
using P = exn_ffn_skip_rule_params;

// By hand: five layers, of which 1, 2 and 3 may be skipped.
TEST(FfnSkipRule, ByHand) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Placed state(target, filled(Type::kI32, {2, EXN_FFN_SKIP_STATE_WORDS}, 77));
    P p = {};
    p.struct_size = sizeof p;
    p.state = state.dl();
    p.model_layers = 5;
    p.cold_start = 1;
    p.cold_end = 4;
    p.budget = 1;
    p.threshold = 0.5f;
    const auto step = [&](int32_t layer, double first, double second) {
      HostTensor values = zeros(Type::kF32, {2});
      values.set(0, 0, first);
      values.set(0, 1, second);
      Placed cosine(target, values), skip(target, poisoned(Type::kU8, {2}));
      p.cosine = layer < 0 ? nullptr : cosine.dl();
      p.skip = skip.dl();
      p.layer = layer;
      EXPECT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
      return integers_of(skip.read());
    };
    using Mask = std::vector<int32_t>;
    EXPECT_EQ(step(-1, 1, 1), (Mask{0, 0}));
    EXPECT_EQ(step(0, 1, 1), (Mask{0, 0}));      // layer 0 is outside: no evidence
    EXPECT_EQ(step(1, 0.5, 0.4), (Mask{1, 0}));  // on the threshold is enough
    EXPECT_EQ(step(2, 1, 0.6), (Mask{0, 1}));    // the first has spent its budget
    EXPECT_EQ(step(3, 1, 1), (Mask{0, 0}));      // layer 4 always runs
    EXPECT_EQ(integers_of(state.read()), (Mask{1, 1, 1, 1}));
  }
}

// However alike a block's input and output: with a threshold of 1 every block runs.
TEST(FfnSkipRule, AThresholdOfOneSkipsNothing) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const float below = std::nextafterf(1, 0);
    for (const float threshold : {below, 1.0f, 1.5f, std::numeric_limits<float>::infinity()}) {
      HostTensor ones = zeros(Type::kF32, {3});
      for (int64_t r = 0; r < 3; ++r) ones.set(0, r, 1);
      Placed cosine(target, ones);
      Placed state(target, zeros(Type::kI32, {3, EXN_FFN_SKIP_STATE_WORDS}));
      Placed skip(target, poisoned(Type::kU8, {3}));
      const P p = {sizeof p, cosine.dl(), nullptr, state.dl(), skip.dl(), 2,        8,
                   1,        6,           0,       0,          -1,        threshold};
      EXPECT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
      EXPECT_EQ(skip.read().bytes, std::vector<uint8_t>(3, threshold < 1 ? 1 : 0)) << threshold;
    }
  }
}

// Words that no call has left there: only a 1 says that a row skips, and no count ends below 0.
TEST(FfnSkipRule, StateOfUnknownOrigin) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    HostTensor words = make_tensor(Type::kI32, {4, EXN_FFN_SKIP_STATE_WORDS});
    const std::vector<int32_t> before = {2, 0, -1, 5, 1, INT32_MAX, 1, INT32_MAX - 1};
    for (size_t i = 0; i < before.size(); ++i)
      words.set_integer(static_cast<int64_t>(i), before[i]);
    Placed cosine(target, zeros(Type::kF32, {4})), state(target, words);
    Placed skip(target, poisoned(Type::kU8, {4}));
    const P p = {sizeof p, cosine.dl(), nullptr, state.dl(), skip.dl(), 2, 8, 1, 6, 0, 0, -1, 0.5f};
    exercise(target, kOp, p, {&cosine}, {&state, &skip});
    if (HasFatalFailure()) return;
    EXPECT_EQ(skip.read().bytes, (std::vector<uint8_t>{0, 0, 0, 1}));
    EXPECT_EQ(integers_of(state.read()),
              (std::vector<int32_t>{2, 0, -1, 5, 1, INT32_MAX, 1, INT32_MAX}));
  }
}

TEST(FfnSkipRuleMisuse, IsRefused) {
  if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  Placed cosine(kCpu, normal(Type::kF32, {3})), token(kCpu, zeros(Type::kI32, {3}));
  Placed state(kCpu, zeros(Type::kI32, {3, EXN_FFN_SKIP_STATE_WORDS})),
      skip(kCpu, poisoned(Type::kU8, {3}));
  const P p = {sizeof p, cosine.dl(), token.dl(), state.dl(), skip.dl(), 2,   8,
               1,        6,           4,          5,          -1,        0.9f};
  const std::vector<Placed*> written = {&state, &skip};
  Spoiler<P> spoil(kOp, p, written);
  spoil.required(&P::cosine, "cosine");
  P first = p;  // layer -1 measures nothing
  first.layer = -1;
  first.cosine = nullptr;
  EXPECT_EQ(run_once(targets().front(), kOp, first), EXN_OK) << exn_last_error();
}

}  // namespace
}  // namespace exn::test
