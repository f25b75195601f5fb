// SPDX-License-Identifier: Apache-2.0
#include "cache_fixture.h"

namespace exn::test {
namespace {
using P = exn_token_bias_params;
const Op<P> kOp = EXN_TEST_OP(token_bias);

// TLDR's temperature of the token that ends the thinking does the opposite to a negative logit; an
// addend does not.
TEST(TokenBias, ByHand) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    HostTensor z = make_tensor(Type::kF32, {2, 3});
    for (int64_t i = 0; i < 6; ++i) z.set(i / 3, i % 3, static_cast<double>(i < 3 ? i : -i));
    Placed logits(target, z), ids(target, make_integers({2}));
    P p = {sizeof p, logits.dl(), ids.dl(), nullptr, .5f, 0};
    ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
    EXPECT_EQ(logits.read().at(0, 2), 1);
    EXPECT_EQ(logits.read().at(1, 2), -2.5);
    p.scale = 1;
    p.add = -1;
    ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
    EXPECT_EQ(logits.read().at(0, 2), 0);
    EXPECT_EQ(logits.read().at(1, 2), -3.5);
    EXPECT_EQ(logits.read().at(1, 1), -4);
  }
}

// The first id after a row is the next row's first logit.
TEST(TokenBias, StrayIds) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    HostTensor z = make_tensor(Type::kF32, {2, 3});
    for (int64_t i = 0; i < 6; ++i) z.set(i / 3, i % 3, 1);
    Placed logits(target, z), ids(target, make_integers({3, 1, -1}));
    const P p = {sizeof p, logits.dl(), ids.dl(), nullptr, 1, 2};
    EXPECT_EQ(run_once(target, kOp, p), target.cpu() ? EXN_INVALID_ARGUMENT : EXN_OK);
    for (int64_t i = 0; i < 6; ++i)
      EXPECT_EQ(logits.read().at(i / 3, i % 3), i % 3 == 1 && !target.cpu() ? 3 : 1) << i;
  }
}

// Wherever the two stand in a long list: refused on the CPU, whichever way it looks for them, and
// changed once elsewhere.
TEST(TokenBias, ListedTwice) {
  constexpr int64_t kCount = 2500;
  constexpr int64_t kTwice[][2] = {{0, 1},       {126, 127},   {127, 128},   {0, 128},
                                   {0, 1023},    {1023, 1024}, {1, 1024},    {1024, 2047},
                                   {1500, 2499}, {0, 2499},    {2498, 2499}, {300, 2100}};
  for (const int64_t vocabulary : {int64_t{2600}, int64_t{300000}}) {
    const std::vector<int64_t> all = shuffled(vocabulary, 77, 1);
    HostTensor z = make_tensor(Type::kBF16, {1, vocabulary});
    for (int64_t i = 0; i < vocabulary; ++i) z.set(0, i, 1);
    for (const auto& [first, second] : kTwice) {
      std::vector<int64_t> list(all.begin(), all.begin() + kCount);
      const int64_t id = list[static_cast<size_t>(first)];
      list[static_cast<size_t>(second)] = id;
      HostTensor once = z;
      for (const int64_t listed : list) once.set(0, listed, 3);
      for (const Target& target : targets()) {
        SCOPED_TRACE(std::string(target.name()) + ": " + std::to_string(first) + " and " +
                     std::to_string(second) + " of " + std::to_string(vocabulary));
        Placed logits(target, z), ids(target, make_integers(list));
        const P p = {sizeof p, logits.dl(), ids.dl(), nullptr, 1, 2};
        const exn_status status = run_once(target, kOp, p);
        if (target.cpu()) {
          EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
          expect_words({"ids[" + std::to_string(second) + "] is " + std::to_string(id),
                        "ids[" + std::to_string(first) + "]"});
        } else {
          ASSERT_EQ(status, EXN_OK) << exn_last_error();
        }
        const HostTensor got = logits.read();
        for (int64_t i = 0; i < vocabulary; ++i)
          ASSERT_EQ(got.at(0, i), target.cpu() ? 1 : once.at(0, i)) << i;
      }
    }
  }
}

class TokenBiasMisuse : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  }

  Placed logits_{kCpu, normal(Type::kBF16, {3, 6})}, ids_{kCpu, make_integers({5, 0})},
      mask_{kCpu, filled(Type::kU8, {3}, 1)};
  const P p_ = {sizeof p_, logits_.dl(), ids_.dl(), mask_.dl(), 2, 1};
};

TEST_F(TokenBiasMisuse, SeveralIdsAndNumbers) {
  Spoiler<P> spoil(kOp, p_, {&logits_});
  spoil.tensor(&ids_, "ids", "i32");
  spoil.value(&P::add, kInf, {"add", "inf"});
}

TEST_F(TokenBiasMisuse, OfNothing) {
  Placed none(kCpu, poisoned(Type::kF32, {3, 0}));
  P p = p_;
  p.logits = none.dl();
  expect_refused(kOp, p, {}, EXN_INVALID_ARGUMENT, {"V (columns of logits) is 0", "at least 1"});
}

TEST_F(TokenBiasMisuse, StraysWriteNothing) {
  const Poke poke(&ids_, 1, 5);
  expect_run_refused(kOp, p_, {&logits_}, {"ids[1] is 5", "ids[0]"});
}

}  // namespace
}  // namespace exn::test
