// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "cache_fixture.h"

namespace exn::test {
namespace {
using P = exn_stop_rule_params;
using Ints = std::vector<int32_t>;
using Floats = std::vector<double>;
const Op<P> kOp = EXN_TEST_OP(stop_rule);

HostTensor floats(const Floats& values) {
  HostTensor t = make_tensor(Type::kF32, {static_cast<int64_t>(values.size())});
  for (size_t i = 0; i < values.size(); ++i) t.set(0, static_cast<int64_t>(i), values[i]);
  return t;
}

HostTensor numbers(const Ints& values) {
  return make_integers(std::vector<int64_t>(values.begin(), values.end()));
}

// Samples on one target, a call for each step.
class Samples {
 public:
  Samples(const Target& target, int64_t rows)
      : Samples(target, filled(Type::kI32, {rows, EXN_STOP_STATE_WORDS}, 77)) {
    p.first = 1;
  }
  // Rows that go on, of which so many tokens are known and nothing else.
  Samples(const Target& target, const Ints& drawn) : Samples(target, after(drawn)) {}

  exn_status step(const Ints& tokens) {
    Placed token(target_, numbers(tokens));
    p.token = token.dl();
    const exn_status status = run_once(target_, kOp, p);
    p.first = 0;
    return status;
  }

  Ints state() const { return integers_of(state_.read()); }
  Ints reason() const { return integers_of(reason_.read()); }
  Ints list() const { return integers_of(list_.read()); }
  int32_t count() const { return integers_of(count_.read())[0]; }
  int32_t winner() const { return integers_of(winner_.read())[0]; }
  bool unchanged() const { return state_.unchanged() && reason_.unchanged(); }

  P p;

 private:
  static HostTensor after(const Ints& drawn) {
    const auto rows = static_cast<int64_t>(drawn.size());
    HostTensor state = filled(Type::kI32, {rows, EXN_STOP_STATE_WORDS}, 0);
    for (int64_t row = 0; row < rows; ++row)
      state.set_integer(row * EXN_STOP_STATE_WORDS + 1, drawn[static_cast<size_t>(row)]);
    return state;
  }

  Samples(const Target& target, const HostTensor& state)
      : p(),
        target_(target),
        state_(target, state),
        reason_(target, poisoned(Type::kI32, {state.rows})),
        list_(target, poisoned(Type::kI32, {state.rows})),
        count_(target, poisoned(Type::kI32, {1})),
        winner_(target, poisoned(Type::kI32, {1})) {
    p.struct_size = sizeof p;
    p.state = state_.dl();
    p.reason = reason_.dl();
    p.active_list = list_.dl();
    p.active_count = count_.dl();
    p.winner = winner_.dl();
    p.vocabulary = 100;
    p.temperature = 1;
  }

  Target target_;
  Placed state_, reason_, list_, count_, winner_;
};

constexpr int32_t kRuns = EXN_STOP_RUNNING, kEnds = EXN_STOP_TOKEN, kFull = EXN_STOP_BUDGET,
                  kSure = EXN_STOP_CONFIDENT, kDropped = EXN_STOP_ABSTAINED,
                  kLost = EXN_STOP_CANCELLED;

TEST(StopRule, FirstFinish) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Placed ends(target, make_integers({7, 9}));
    Samples s(target, 4);
    s.p.stop_ids = ends.dl();
    s.p.scope = EXN_STOP_FIRST;
    EXPECT_EQ(s.step({1, 2, 3, 4}), EXN_OK) << exn_last_error();
    EXPECT_EQ(s.reason(), (Ints{kRuns, kRuns, kRuns, kRuns}));
    EXPECT_EQ(s.list(), (Ints{0, 1, 2, 3}));
    EXPECT_EQ(s.winner(), -1);
    EXPECT_EQ(s.step({1, -1, 9, 7}), EXN_OK) << exn_last_error();
    EXPECT_EQ(s.reason(), (Ints{kLost, kLost, kEnds, kEnds}));
    EXPECT_EQ(s.list(), (Ints{-1, -1, -1, -1}));
    EXPECT_EQ(s.count(), 0);
    EXPECT_EQ(s.winner(), 2);  // of a tie the lower row
    const Ints words = s.state();
    EXPECT_EQ(words[7], 1);  // row 1 has drawn once
    EXPECT_EQ(words[13], 2);
  }
}

TEST(StopRule, EachEndsForItself) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Placed ends(target, make_integers({7}));
    Samples s(target, 3);
    s.p.stop_ids = ends.dl();
    s.p.budget = 3;
    s.step({1, 7, 2});
    EXPECT_EQ(s.list(), (Ints{0, 2, -1}));
    EXPECT_EQ(s.winner(), 1);
    s.step({7, 50, 2});  // what has ended draws what it likes
    EXPECT_EQ(s.reason(), (Ints{kEnds, kEnds, kRuns}));
    EXPECT_EQ(s.winner(), 1);  // it was the first
    s.step({0, 0, 2});
    EXPECT_EQ(s.reason(), (Ints{kEnds, kEnds, kFull}));
    EXPECT_EQ(s.count(), 0);
  }
}

// ConCISE's probe, which is no token of the answer, and a row that had better not answer.
TEST(StopRule, Confidence) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Placed confidence(target, floats({.89, .9, .1, .09, std::nan("")}));
    Samples s(target, 5);
    s.p.confidence = confidence.dl();
    s.p.confident_at = .9f;
    s.p.abstain_below = .1f;
    EXPECT_EQ(s.step({-1, -1, -1, -1, -1}), EXN_OK) << exn_last_error();
    EXPECT_EQ(s.reason(), (Ints{kRuns, kSure, kRuns, kDropped, kRuns}));
    EXPECT_EQ(s.winner(), 1);
    EXPECT_EQ(s.state()[1], 0);
  }
}

// Of z = (2, 1, 0, -1): the first two together .643914 + .236883.
TEST(StopRule, ProbabilityOfAnAnswer) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    HostTensor z = make_tensor(Type::kF32, {1, 4});
    for (int64_t i = 0; i < 4; ++i) z.set(0, i, static_cast<double>(2 - i));
    Placed logits(target, z), lse(target, floats({2.440190})), sure(target, make_integers({1, 0}));
    Samples s(target, 1);
    s.p.vocabulary = 4;
    s.p.logits = logits.dl();
    s.p.lse = lse.dl();
    s.p.answer_ids = sure.dl();
    s.p.confident_at = .88081f;
    EXPECT_EQ(s.step({-1}), EXN_OK) << exn_last_error();
    EXPECT_EQ(s.reason(), (Ints{kRuns}));
    s.p.confident_at = .88079f;
    EXPECT_EQ(s.step({-1}), EXN_OK) << exn_last_error();
    EXPECT_EQ(s.reason(), (Ints{kSure}));
  }
}

// Perplexities 2, 4 and 4: means of ln p, not of p.
TEST(StopRule, LowestPerplexity) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const double half = std::log(.5), quarter = std::log(.25);
    Placed first(target, floats({quarter, half, -.5}));
    Placed second(target, floats({quarter, half, 2 * quarter + .5})),
        score(target, poisoned(Type::kF32, {3}));
    Samples s(target, 3);
    s.p.choice = EXN_CHOOSE_PERPLEXITY;
    s.p.score = score.dl();
    s.p.budget = 2;
    s.p.log_p = first.dl();
    s.step({1, 1, 1});
    EXPECT_EQ(s.winner(), -1);
    s.p.log_p = second.dl();
    s.step({1, 1, 1});
    EXPECT_EQ(s.winner(), 1);
    EXPECT_NEAR(std::exp(-score.read().at(0, 0)), 4, 1e-5);
    EXPECT_NEAR(std::exp(-score.read().at(0, 1)), 2, 1e-5);
    EXPECT_NEAR(std::exp(-score.read().at(0, 2)), 4, 1e-5);
  }
}

// The distribution of z = (2, 1, 0, -1): KL(U||p) = 0.553895, ln p = (-0.440190, -1.440190, ...).
TEST(StopRule, SelfCertainty) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    HostTensor z = make_tensor(Type::kF32, {2, 4});
    for (int64_t i = 0; i < 8; ++i) z.set(i / 4, i % 4, static_cast<double>(i < 4 ? 2 - i : 0));
    const double uniform = std::log(4.0);
    Placed logits(target, z), lse(target, floats({2.440190, uniform})),
        mean(target, floats({.5 - 2.440190, -uniform})), score(target, poisoned(Type::kF32, {2}));
    Samples s(target, 2);
    s.p.vocabulary = 4;
    s.p.logits = logits.dl();
    s.p.lse = lse.dl();
    s.p.mean_log_p = mean.dl();
    s.p.score = score.dl();
    s.p.choice = EXN_CHOOSE_CERTAINTY;
    s.p.budget = 2;
    s.step({1, 3});
    EXPECT_NEAR(score.read().at(0, 0), .553895, 2e-6);
    EXPECT_NEAR(score.read().at(0, 1), 0, 1e-6);
    s.step({0, 3});
    EXPECT_EQ(s.winner(), 0);
    s.p.choice = EXN_CHOOSE_PERPLEXITY;
    s.p.first = 1;
    s.step({1, 3});
    EXPECT_NEAR(score.read().at(0, 0), -1.440190, 2e-6);
    EXPECT_NEAR(score.read().at(0, 1), -uniform, 1e-6);
  }
}

// CNTP: more branches where the entropy is high, with its defaults.
TEST(StopRule, Trials) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const Floats entropies = {.5, .755, 1.49, 1.5, 9, .01, 0, -1, std::nan(""), INFINITY};
    Placed entropy(target, floats(entropies));
    Placed trials(target, poisoned(Type::kI32, {10}));
    Samples s(target, 10);
    s.p.entropy = entropy.dl();
    s.p.trials = trials.dl();
    s.p.trials_low = .01f;
    s.p.trials_high = 1.5f;
    s.p.most_trials = 10;
    s.step(Ints(10, 1));
    EXPECT_EQ(integers_of(trials.read()), (Ints{3, 5, 9, 10, 10, 1, 1, 1, 1, 10}));
  }
}

// 2^24 + 1 + 1 + ... in f32 would stay where it is.
TEST(StopRule, SumsKeepWhatRoundingTakes) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Placed large(target, floats({-0x1p24})), one(target, floats({-1}));
    Placed score(target, poisoned(Type::kF32, {1}));
    Samples s(target, 1);
    s.p.score = score.dl();
    s.p.log_p = large.dl();
    s.step({1});
    s.p.log_p = one.dl();
    for (int i = 0; i < 15; ++i) s.step({1});
    EXPECT_EQ(score.read().at(0, 0), -(0x1p24 + 15 + 1) / 16);  // of a sum rounded once, to even
  }
}

// Without a budget no number of tokens ends a row; with the largest the largest number does.
TEST(StopRule, WithoutABudgetNothingEnds) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    for (const int32_t budget : {0, 70002, INT32_MAX}) {
      SCOPED_TRACE(budget);
      const bool none = budget == 0;
      Samples s(target, Ints{0, 70000, INT32_MAX - (none ? 3 : 2), none ? 1 << 24 : INT32_MAX});
      s.p.budget = budget;
      const int32_t some = budget == 70002 ? kFull : kRuns, last = none ? kRuns : kFull;
      EXPECT_EQ(s.step({1, 1, 1, -1}), EXN_OK) << exn_last_error();
      EXPECT_EQ(s.reason(), (Ints{kRuns, kRuns, some, last}));
      EXPECT_EQ(s.step({-1, 1, 1, 1}), EXN_OK) << exn_last_error();
      EXPECT_EQ(s.reason(), (Ints{kRuns, some, last, last}));
      const Ints words = s.state();
      EXPECT_EQ(words[1], 1);
      EXPECT_EQ(words[7], 70002);
      EXPECT_EQ(words[19], none ? (1 << 24) + 1 : INT32_MAX);  // and stays
    }
  }
}

// A device, which cannot say so, passes over ids that there are none of; the CPU refuses them
// (StopRuleMisuse). What lies where they lead is the next row's, or NaN after the last.
TEST(StopRule, DevicesPassOverStrayIds) {
  for (const Target& target : targets()) {
    if (target.cpu()) continue;
    SCOPED_TRACE(target.name());
    constexpr int64_t kColumns = 6, kStride = 8;
    HostTensor z = make_tensor(Type::kF32, {2, kColumns}, kStride - kColumns);
    for (int64_t r = 0; r < 2; ++r) {
      for (int64_t i = 0; i < kColumns; ++i) z.set(r, i, i == 2 ? 0 : -4);
    }
    Placed logits(target, z), lse(target, floats({1, 1}));
    Placed ends(target, make_integers({-1, 6, 7, INT32_MAX, INT32_MIN}));
    Samples s(target, 2);
    s.p.vocabulary = static_cast<int32_t>(kColumns);
    s.p.logits = logits.dl();
    s.p.lse = lse.dl();
    s.p.stop_ids = ends.dl();
    s.p.confident_at = .5f;
    s.p.abstain_below = .3f;
    // e^(0 - 1) = .37 of token 2; any more, such as a NaN, would decide otherwise.
    for (const int64_t stray :
         {int64_t{-1}, kColumns, kColumns + 1, int64_t{INT32_MAX}, int64_t{INT32_MIN}}) {
      SCOPED_TRACE(stray);
      Placed answer(target, make_integers({stray, 2}));
      s.p.answer_ids = answer.dl();
      s.p.first = 1;
      EXPECT_EQ(s.step({1, 1}), EXN_OK) << exn_last_error();
      EXPECT_EQ(s.reason(), (Ints{kRuns, kRuns}));
      // A token out of range counts for nothing, and is no stop id.
      EXPECT_EQ(s.step({static_cast<int32_t>(stray), 1}), EXN_OK) << exn_last_error();
      EXPECT_EQ(s.reason(), (Ints{kRuns, kRuns}));
      EXPECT_EQ(s.state()[1], 1);
      EXPECT_EQ(s.state()[7], 2);
    }
  }
}

TEST(StopRule, BehindTheEnd) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Placed ends(target, make_integers({7}));
    Samples s(target, 2);
    s.p.stop_ids = ends.dl();
    s.step({7, 7});
    const Ints words = s.state();
    const exn_status again = s.step({1, 1});
    if (target.cpu()) {
      EXPECT_EQ(again, EXN_INVALID_ARGUMENT);
      expect_words({"state", "all 2 rows have ended", "first is 0"});
    } else {
      EXPECT_EQ(again, EXN_OK);
    }
    EXPECT_EQ(s.state(), words);
    EXPECT_EQ(s.reason(), (Ints{kEnds, kEnds}));
    EXPECT_EQ(s.count(), 0);
    EXPECT_EQ(s.winner(), 0);
    s.p.first = 1;
    EXPECT_EQ(s.step({1, 1}), EXN_OK) << exn_last_error();
    EXPECT_EQ(s.count(), 2);
  }
}

class StopRuleMisuse : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
    p_.struct_size = sizeof p_;
    p_.token = token_.dl();
    p_.stop_ids = ids_.dl();
    p_.logits = logits_.dl();
    p_.lse = lse_.dl();
    p_.mean_log_p = mean_.dl();
    p_.confidence = confidence_.dl();
    p_.entropy = entropy_.dl();
    p_.state = state_.dl();
    p_.finished = finished_.dl();
    p_.reason = reason_.dl();
    p_.score = score_.dl();
    p_.trials = trials_.dl();
    p_.active_list = list_.dl();
    p_.active_count = count_.dl();
    p_.winner = winner_.dl();
    p_.vocabulary = 6;
    p_.temperature = 1;
    p_.confident_at = .9f;
    p_.abstain_below = .1f;
    p_.trials_low = .01f;
    p_.trials_high = 1.5f;
    p_.most_trials = 10;
  }

  Placed token_{kCpu, make_integers({5, 0, -1})}, ids_{kCpu, make_integers({4, 5})},
      logits_{kCpu, normal(Type::kBF16, {3, 6})}, lse_{kCpu, normal(Type::kF32, {3}, 1)},
      mean_{kCpu, normal(Type::kF32, {3}, 2)}, confidence_{kCpu, normal(Type::kF32, {3}, 3)},
      entropy_{kCpu, normal(Type::kF32, {3}, 4)};
  Placed state_{kCpu, zeros(Type::kI32, {3, EXN_STOP_STATE_WORDS})},
      finished_{kCpu, poisoned(Type::kU8, {3})}, reason_{kCpu, poisoned(Type::kI32, {3})},
      score_{kCpu, poisoned(Type::kF32, {3})}, trials_{kCpu, poisoned(Type::kI32, {3})},
      list_{kCpu, poisoned(Type::kI32, {3})}, count_{kCpu, poisoned(Type::kI32, {1})},
      winner_{kCpu, poisoned(Type::kI32, {1})};
  const std::vector<Placed*> written_ = {&state_,  &finished_, &reason_, &score_,
                                         &trials_, &list_,     &count_,  &winner_};
  P p_ = {};
};

TEST_F(StopRuleMisuse, Numbers) {
  Spoiler<P> spoil(kOp, p_, written_);
  spoil.value(&P::abstain_below, .95f, {"abstain_below is 0.95", "confident_at is 0.9"});
  for (float bad : {.01f, 0.0f}) {
    spoil.value(&P::trials_high, bad, {"trials_high", "trials_low is 0.01"});
  }
}

TEST_F(StopRuleMisuse, OfAnAnswer) {
  Placed answer(kCpu, make_integers({0, 3}));
  P p = p_;
  p.answer_ids = answer.dl();
  expect_refused(kOp, p, written_, EXN_INVALID_ARGUMENT, {"confidence is given", "answer_ids"});
  p.confidence = nullptr;
  for (int32_t bad : {-1, 6}) {
    const Poke poke(&answer, 1, bad);
    expect_run_refused(kOp, p, written_, {"answer_ids[1]", std::to_string(bad), "0..5"});
  }
  EXPECT_EQ(run_once(targets().front(), kOp, p), EXN_OK) << exn_last_error();
  p.confident_at = 2;
  p.logits = nullptr;
  p.confident_at = .9f;
  expect_refused(kOp, p, {}, EXN_INVALID_ARGUMENT, {"logits is null", "answer_ids"});
}

TEST_F(StopRuleMisuse, StraysWriteNothing) {
  for (int32_t bad : {6, INT32_MAX}) {
    const Poke poke(&token_, 1, bad);
    expect_run_refused(kOp, p_, written_, {"token[1]", std::to_string(bad), "at most 5"});
  }
  const Poke poke(&token_, 1, 6);
  const Poke ended(&state_, EXN_STOP_STATE_WORDS, EXN_STOP_TOKEN);  // its token is not read
  EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
}

}  // namespace
}  // namespace exn::test
