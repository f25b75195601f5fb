// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "cache_fixture.h"
#include "system.h"
#include "verify/case.h"

namespace exn::test {
namespace {
const auto kOp = EXN_TEST_OP(verify);

using P = exn_verify_params;
using Integers = std::vector<int32_t>;

HostTensor integers(std::vector<int64_t> shape, const std::vector<int64_t>& values) {
  HostTensor t = make_tensor(Type::kI32, std::move(shape));
  for (size_t i = 0; i < values.size(); ++i) t.set_integer(static_cast<int64_t>(i), values[i]);
  return t;
}

HostTensor reals(std::vector<int64_t> shape, const std::vector<double>& values) {
  HostTensor t = make_tensor(Type::kF32, std::move(shape));
  for (size_t i = 0; i < values.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    t.set(at / t.cols, at % t.cols, values[i]);
  }
  return t;
}

// Rows of ln p.
HostTensor logs(std::vector<int64_t> shape, std::vector<double> p) {
  for (double& x : p) x = std::log(x);
  return reals(std::move(shape), p);
}

// A tensor's bytes between pages that may not be read: right after the first ones, or right before
// the last ones.
class Fenced {
 public:
  Fenced(const HostTensor& t, bool at_the_end)
      : room_((t.bytes.size() + kFence - 1) / kFence * kFence), memory_(room_ + 2 * kFence) {
    memory_.forbid(0, kFence);
    memory_.forbid(kFence + room_, kFence);
    data_ = memory_.begin() + kFence + (at_the_end ? room_ - t.bytes.size() : 0);
    std::memcpy(data_, t.bytes.data(), t.bytes.size());
  }

  DLTensor in_place_of(const Placed& placed) const {
    DLTensor t = *placed.dl();
    t.data = data_;
    t.byte_offset = 0;
    return t;
  }

 private:
  static constexpr size_t kFence = size_t{64} << 10;  // pages of any size, and a tile of a row
  size_t room_;
  Pages memory_;
  char* data_;
};

// A round, all of whose outputs are asked for.
struct Round {
  const Target& target;
  Placed drafted, argmax, logits, draft, uniform, stop;
  Placed accepted, token, out, count, last_row, outcome, length, position, active;
  P p = {};

  Round(const Target& t, const HostTensor& drafts, const HostTensor& best, const HostTensor& z,
        const HostTensor& q, const HostTensor& u, const HostTensor& stops)
      : target(t),
        drafted(t, drafts),
        argmax(t, best),
        logits(t, z),
        draft(t, q),
        uniform(t, u),
        stop(t, stops),
        accepted(t, poisoned(Type::kI32, {drafts.rows})),
        token(t, filled(Type::kI32, {drafts.rows}, 77)),
        out(t, poisoned(Type::kI32, {drafts.rows, drafts.cols + 1})),
        count(t, poisoned(Type::kI32, {drafts.rows})),
        last_row(t, poisoned(Type::kI32, {drafts.rows})),
        outcome(t, poisoned(Type::kI32, {drafts.rows})),
        length(t, filled(Type::kI32, {drafts.rows}, 10)),
        position(t, filled(Type::kI32, {drafts.rows}, 20)),
        active(t, filled(Type::kU8, {drafts.rows}, 1)) {
    p.struct_size = sizeof p;
    p.drafted = drafted.dl();
    p.argmax = argmax.dl();
    p.logits = logits.dl();
    p.draft = draft.dl();
    p.uniform = uniform.dl();
    p.stop = stop.dl();
    p.accepted = accepted.dl();
    p.token = token.dl();
    p.out = out.dl();
    p.out_count = count.dl();
    p.last_row = last_row.dl();
    p.outcome = outcome.dl();
    p.length = length.dl();
    p.position = position.dl();
    p.active = active.dl();
    p.temperature = p.draft_temperature = 1;
  }

  void run() { ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error(); }

  // Of the first sequence.
  void expect(const Integers& tokens, int32_t kept, int32_t how) {
    const auto n = static_cast<int32_t>(tokens.size());
    Integers padded = tokens;
    padded.resize(static_cast<size_t>(out.initial().cols), -1);
    Integers first = integers_of(out.read());
    first.resize(padded.size());
    EXPECT_EQ(first, padded);
    EXPECT_EQ(accepted.read().integer_at(0), kept);
    EXPECT_EQ(token.read().integer_at(0), n > 0 ? tokens.back() : 77);
    EXPECT_EQ(count.read().integer_at(0), n);
    EXPECT_EQ(last_row.read().integer_at(0), n - 1);
    EXPECT_EQ(outcome.read().integer_at(0), how);
    EXPECT_EQ(length.read().integer_at(0), 10 + n);
    EXPECT_EQ(position.read().integer_at(0), 20 + n);
    EXPECT_EQ(active.read().integer_at(0), how == EXN_VERIFY_GOES_ON ? 1 : 0);
  }
};

void expect_greedy(const std::vector<int64_t>& drafted, const std::vector<int64_t>& best,
                   const std::vector<int64_t>& stops, const Integers& tokens, int32_t kept,
                   int32_t how) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const auto most = static_cast<int64_t>(drafted.size());
    Round round(target, integers({1, most}, drafted), integers({most + 1}, best), {}, {}, {},
                stops.empty() ? HostTensor{} : make_integers(stops));
    round.run();
    round.expect(tokens, kept, how);
  }
}

TEST(Verify, GreedyByHand) {
  expect_greedy({5, 7, 9, 2}, {5, 7, 8, 1, 3}, {}, {5, 7, 8}, 2, EXN_VERIFY_GOES_ON);
  expect_greedy({5, 7, 9, 2}, {5, 7, 9, 2, 3}, {}, {5, 7, 9, 2, 3}, 4, EXN_VERIFY_GOES_ON);
  expect_greedy({5, 7, 9, 2}, {6, 7, 9, 2, 3}, {}, {6}, 0, EXN_VERIFY_GOES_ON);
  expect_greedy({5, -1, 7, 9}, {5, 4, 7, 9, 3}, {}, {5, 4}, 1, EXN_VERIFY_GOES_ON);
  expect_greedy({}, {6}, {}, {6}, 0, EXN_VERIFY_GOES_ON);
}

// A stop token is the last that comes out, drafted or not.
TEST(Verify, StopsByHand) {
  expect_greedy({5, 7, 9, 2}, {5, 7, 9, 2, 3}, {1, 7}, {5, 7}, 2, EXN_VERIFY_STOPPED);
  expect_greedy({5, 7, 9, 2}, {5, 7, 8, 1, 3}, {8}, {5, 7, 8}, 2, EXN_VERIFY_STOPPED);
  expect_greedy({5, 7, 9, 2}, {5, 7, 8, 1, 3}, {9, 1}, {5, 7, 8}, 2, EXN_VERIFY_GOES_ON);
  expect_greedy({5, 5}, {5, 5, 5}, {5}, {5}, 1, EXN_VERIFY_STOPPED);
}

TEST(Verify, InvalidRowsByHand) {
  expect_greedy({5, 7, 9}, {5, 7, -1, 3}, {}, {5, 7}, 2, EXN_VERIFY_INVALID);
  expect_greedy({5, 7, 9}, {-1, 7, 9, 3}, {}, {}, 0, EXN_VERIFY_INVALID);
  expect_greedy({5, 7, 9}, {5, 4, -1, -1}, {}, {5, 4}, 1, EXN_VERIFY_GOES_ON);
  expect_greedy({5, 7, 9}, {5, 7, -1, 3}, {7}, {5, 7}, 2, EXN_VERIFY_STOPPED);
}

// One drafted token, id 1, whose p / q is 1/2.
void expect_sampled(const HostTensor& draft, bool probabilities, double u, double v, int32_t token,
                    int32_t kept) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Round round(target, integers({1, 1}, {1}), {}, logs({2, 3}, {.5, .3, .2, .25, .25, .5}), draft,
                reals({1, 2}, {u, v}), {});
    round.p.draft_kind = probabilities ? EXN_DRAFT_PROBABILITIES : EXN_DRAFT_LOGITS;
    round.run();
    round.expect(kept == 1 ? Integers{1, token} : Integers{token}, kept, EXN_VERIFY_GOES_ON);
  }
}

TEST(Verify, SampledByHand) {
  for (const bool probabilities : {false, true}) {
    SCOPED_TRACE(probabilities ? "probabilities" : "logits");
    const std::vector<double> q = {.1, .6, .3};
    const HostTensor draft = probabilities ? reals({1, 3}, q) : logs({1, 3}, q);
    for (const auto& [v, token] : {std::pair(.24, 0), {.26, 1}, {.49, 1}, {.51, 2}, {1., 2}})
      expect_sampled(draft, probabilities, .49, v, token, 1);
    for (const double v : {0., .5, 1.})  // 0 alone is likelier in p than in q
      expect_sampled(draft, probabilities, .51, v, 0, 0);
  }
  // A draft that was not drawn: kept with p = .3, else 0 or 2 as 5 to 2.
  expect_sampled({}, false, .29, .26, 1, 1);
  for (const auto& [v, token] : {std::pair(0., 0), {.71, 0}, {.72, 2}, {1., 2}})
    expect_sampled({}, false, .31, v, token, 0);
}

// The first token up to which the shares are more than the uniform: of equal ones, exactly.
TEST(Verify, AShareThatIsReachedIsNotEnough) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    for (const auto& [v, token] : {std::pair(0., 0),
                                   {.25 - 0x1p-24, 0},
                                   {.25, 1},
                                   {.5 - 0x1p-24, 1},
                                   {.5, 2},
                                   {.75, 3},
                                   {1., 3}}) {
      SCOPED_TRACE(v);
      Round round(target, integers({1, 1}, {-1}), {}, reals({2, 4}, std::vector<double>(8, 0)), {},
                  reals({1, 2}, {.5, v}), {});
      round.run();
      round.expect({token}, 0, EXN_VERIFY_GOES_ON);
    }
  }
}

// A draft may give its token no probability at all: what p gives it decides. A token without a
// share of p is not kept, even by a uniform of 0.
TEST(Verify, ADraftOfNoProbability) {
  for (const double u : {0., .5, 1.}) {
    SCOPED_TRACE(u);
    expect_sampled(reals({1, 3}, {.5, 0, .5}), true, u, .26, 1, 1);
    expect_sampled(logs({1, 3}, {.5, 0, .5}), false, u, .26, 1, 1);
  }
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    for (const double q : {0., .5}) {
      Round round(target, integers({1, 1}, {1}), {}, logs({2, 3}, {.5, 0, .5, .3, .3, .4}),
                  reals({1, 3}, {1 - q, q, 0}), reals({1, 2}, {0, .5}), {});
      round.p.draft_kind = EXN_DRAFT_PROBABILITIES;
      round.run();
      round.expect({2}, 0, EXN_VERIFY_GOES_ON);
    }
  }
}

// Far below the others a share is 0 in f32, in whole tiles: the last token that has one is drawn.
TEST(Verify, TilesWithoutAShareAreNeverDrawn) {
  std::vector<double> z(2 * 40000, -200);
  for (size_t j = 0; j < 4; ++j) z[j] = 0;
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    for (const auto& [v, token] : {std::pair(.5, 2), {1., 3}}) {
      Round round(target, integers({1, 1}, {-1}), {}, reals({2, 40000}, z), {},
                  reals({1, 2}, {.5, v}), {});
      round.run();
      round.expect({token}, 0, EXN_VERIFY_GOES_ON);
    }
  }
}

// A row of no token leads nowhere, and after the last drafted token a draft has no row.
TEST(Verify, ReadsNoRowThatIsNotThere) {
  const double none = -std::numeric_limits<double>::infinity();
  std::vector<double> z(2 * 70, none);
  for (size_t j = 70; j < z.size(); ++j) z[j] = 0;
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    for (const int64_t drafted : {-1, 1}) {
      const HostTensor logits = reals({2, 70}, z);
      Round round(target, integers({1, 1}, {drafted}), {}, logits, {}, reals({1, 2}, {.5, .5}), {});
      const Fenced fenced(logits, false);
      const DLTensor inside = fenced.in_place_of(round.logits);
      round.p.logits = &inside;
      round.run();
      round.expect({}, 0, EXN_VERIFY_INVALID);
    }
    const HostTensor draft = reals({1, 70}, std::vector<double>(70, 0));
    Round round(target, integers({1, 1}, {1}), {}, reals({2, 70}, std::vector<double>(140, 0)),
                draft, reals({1, 2}, {0, 0}), {});
    const Fenced fenced(draft, true);
    const DLTensor inside = fenced.in_place_of(round.draft);
    round.p.draft = &inside;
    round.run();
    round.expect({1, 0}, 1, EXN_VERIFY_GOES_ON);
  }
}

// p has nothing but the drafted token, and a uniform of 1 rejects it: p takes the residual's place.
TEST(Verify, AnEmptyResidual) {
  const double none = -std::numeric_limits<double>::infinity();
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Round round(target, integers({1, 1}, {2}), {}, reals({2, 4}, {none, none, 3, none, 1, 2, 3, 4}),
                {}, reals({1, 2}, {1, .5}), {});
    round.run();
    round.expect({2}, 0, EXN_VERIFY_GOES_ON);
  }
}

// Rows after a rejection do not matter, nor do their uniforms.
TEST(Verify, RowsBehindARejection) {
  const double nan = kNaN, u = .9;
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const std::vector<double> z = {9, 0, 0, 9, 0, 0, nan, nan, nan, nan, nan, nan};
    Round round(target, integers({1, 3}, {0, 1, 1}), {}, reals({4, 3}, z), {},
                reals({1, 4}, {u, u, nan, .2}), {});
    round.run();
    round.expect({0, 0}, 1, EXN_VERIFY_GOES_ON);
  }
}

// The second round begins with what the first has left; a sequence that has ended is left out.
TEST(Verify, RoundsInARow) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Round round(target, integers({3, 2}, {-1, 2, 1, 2, 1, 2}),
                integers({9}, {5, 0, 0, 1, 2, 3, 9, 8, 7}), {}, {}, {}, make_integers({9}));
    round.p.capacity = 13;
    round.run();
    EXPECT_EQ(integers_of(round.outcome.read()),
              (Integers{EXN_VERIFY_GOES_ON, EXN_VERIFY_FULL, EXN_VERIFY_STOPPED}));
    round.run();
    EXPECT_EQ(integers_of(round.outcome.read()),
              (Integers{EXN_VERIFY_GOES_ON, EXN_VERIFY_OFF, EXN_VERIFY_OFF}));
    EXPECT_EQ(integers_of(round.length.read()), (Integers{12, 13, 11}));
    EXPECT_EQ(integers_of(round.position.read()), (Integers{22, 23, 21}));
    EXPECT_EQ(integers_of(round.token.read()), (Integers{5, 3, 9}));
    EXPECT_EQ(integers_of(round.count.read()), (Integers{1, 0, 0}));
  }
}

// ---- the target's distribution ------------------------------------------------------------------

constexpr int64_t kVocabulary = 8, kMost = 2;

std::vector<double> probabilities(uint64_t stream, int64_t row, float temperature) {
  std::vector<double> p(kVocabulary);
  double sum = 0;
  for (int64_t j = 0; j < kVocabulary; ++j) {
    const auto i = static_cast<uint64_t>(row * kVocabulary + j);
    p[static_cast<size_t>(j)] =
        std::exp(static_cast<double>(bell(word(31, stream, i))) / static_cast<double>(temperature));
    sum += p[static_cast<size_t>(j)];
  }
  for (double& x : p) x /= sum;
  return p;
}

// The smallest value of chi-square with `freedom` degrees that one in a million exceeds (Wilson and
// Hilferty 1931).
double one_in_a_million(double freedom) {
  const double variance = 2 / (9 * freedom);
  return freedom * std::pow(1 - variance + 4.753 * std::sqrt(variance), 3);
}

enum class Draft { kNone, kLogits, kProbabilities };

// Draws a million tokens of sequences whose rows are all alike, and counts those of each place.
void expect_distribution(const Target& target, Draft kind, int64_t rounds, int64_t sequences) {
  const float temperature = .8f, draft_temperature = 1.25f;
  const bool drawn = kind != Draft::kNone;
  HostTensor logits = make_tensor(Type::kF32, {sequences * (kMost + 1), kVocabulary});
  for (int64_t r = 0; r < logits.rows; ++r) {
    for (int64_t j = 0; j < kVocabulary; ++j) {
      const auto i = static_cast<uint64_t>(r % (kMost + 1) * kVocabulary + j);
      logits.set(r, j, static_cast<double>(bell(word(31, 0, i))));
    }
  }
  HostTensor draft;
  if (drawn) draft = make_tensor(Type::kF32, {sequences * kMost, kVocabulary});
  for (int64_t r = 0; r < draft.rows; ++r) {
    const std::vector<double> q = probabilities(1, r % kMost, draft_temperature);
    for (int64_t j = 0; j < kVocabulary; ++j) {
      const auto i = static_cast<uint64_t>(r % kMost * kVocabulary + j);
      const auto z = static_cast<double>(bell(word(31, 1, i)));
      draft.set(r, j, kind == Draft::kLogits ? z : q[static_cast<size_t>(j)]);
    }
  }
  std::vector<double> drafts[kMost];
  for (int64_t i = 0; i < kMost; ++i) drafts[i] = probabilities(1, i, draft_temperature);
  double counts[kMost + 1][kVocabulary] = {};
  uint64_t draws = 0;
  const auto random = [&]() { return static_cast<double>(unit(word(32, 0, draws++))); };
  for (int64_t n = 0; n < rounds; ++n) {
    HostTensor drafted = make_tensor(Type::kI32, {sequences, kMost});
    for (int64_t i = 0; i < drafted.size(); ++i) {
      const std::vector<double>& q = drafts[i % kMost];
      double left = random();
      int64_t token = 0;
      while (token + 1 < kVocabulary && left >= q[static_cast<size_t>(token)])
        left -= q[static_cast<size_t>(token++)];
      // What is not drawn may be anything, such as tokens in turn.
      drafted.set_integer(i, drawn ? token : (i + n) % kVocabulary);
    }
    HostTensor uniform = make_tensor(Type::kF32, {sequences, kMost + 1});
    for (int64_t i = 0; i < uniform.size(); ++i)
      uniform.set(i / uniform.cols, i % uniform.cols, random());
    Round round(target, drafted, {}, logits, draft, uniform, {});
    round.p.temperature = temperature;
    round.p.draft_temperature = draft_temperature;
    round.p.draft_kind = kind == Draft::kProbabilities ? EXN_DRAFT_PROBABILITIES : EXN_DRAFT_LOGITS;
    round.run();
    const HostTensor out = round.out.read();
    for (int64_t i = 0; i < out.size(); ++i) {
      const int64_t token = out.integer_at(i);
      if (token >= 0) ++counts[i % (kMost + 1)][token];
    }
  }
  int64_t places = 0;
  for (int64_t i = 0; i <= kMost; ++i) {
    const std::vector<double> p = probabilities(0, i, temperature);
    double all = 0, chi_square = 0;
    for (const double count : counts[i]) all += count;
    if (all < 40 * kVocabulary) continue;  // too few for their sum of squares to be chi-square
    places += 1;
    for (int64_t j = 0; j < kVocabulary; ++j) {
      const double expected = all * p[static_cast<size_t>(j)];
      chi_square += (counts[i][j] - expected) * (counts[i][j] - expected) / expected;
    }
    EXPECT_LT(chi_square, one_in_a_million(kVocabulary - 1)) << "of " << all << " at place " << i;
  }
  EXPECT_GE(places, sequences < 1000 ? 1 : kMost + 1);
}

TEST(Verify, KeepsTheDistributionOfTheTarget) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const bool few = std::getenv("EXEUNT_QUICK") != nullptr || target.emulated;
    for (const Draft kind : {Draft::kNone, Draft::kLogits, Draft::kProbabilities}) {
      SCOPED_TRACE(static_cast<int>(kind));
      expect_distribution(target, kind,
                          target.emulated ? 1
                          : few           ? 8
                                          : 84,
                          target.emulated ? 330 : 4000);
    }
  }
}

// ---- misuse -------------------------------------------------------------------------------------

class VerifyMisuse : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  }

  Round round_{
      targets().front(),           integers({2, 3}, {1, 2, 3, 4, 5, 6}), filled(Type::kI32, {8}, 1),
      normal(Type::kF32, {8, 10}), normal(Type::kBF16, {6, 10}),         zeros(Type::kF32, {2, 4}),
      make_integers({7, 8})};
  Placed lengths_{kCpu, make_integers({3, 2})};
  std::vector<Placed*> written_ = {&round_.accepted, &round_.token,    &round_.out,
                                   &round_.count,    &round_.last_row, &round_.outcome,
                                   &round_.length,   &round_.position, &round_.active};
};

TEST_F(VerifyMisuse, Greedy) {
  P& p = round_.p;
  p.logits = p.draft = p.uniform = nullptr;
  p.draft_length = lengths_.dl();
  p.capacity = 20;
  p.vocabulary = 10;
  Spoiler<P> spoil(kOp, p, written_);
  for (int64_t bad : {int64_t{-1}, int64_t{3}, int64_t{1} << 31})
    spoil.value(&P::capacity, bad, {"capacity", std::to_string(bad)});
}

TEST_F(VerifyMisuse, Sampled) {
  P& p = round_.p;
  p.argmax = nullptr;
  Spoiler<P> spoil(kOp, p, written_);
  spoil.value(&P::vocabulary, int64_t{11}, {"logits", "10", "vocabulary", "11"});
}

TEST_F(VerifyMisuse, OfASequence) {
  P& p = round_.p;
  p.logits = p.draft = p.uniform = nullptr;
  p.draft_length = lengths_.dl();
  p.capacity = 20;
  p.vocabulary = 10;
  const auto refused = [&](Placed* ids, int64_t at, int32_t value, const Words& words) {
    SCOPED_TRACE(words.front());
    const Poke poke(ids, at, value);
    EXPECT_EQ(run_once(targets().front(), kOp, p), EXN_INVALID_ARGUMENT);
    expect_words(words);
    for (const Placed* t : written_) EXPECT_TRUE(t == ids || t->unchanged());
  };
  refused(&lengths_, 1, 4, {"draft_length[1]", "4", "0..3"});
  refused(&lengths_, 1, -1, {"draft_length[1]", "-1", "0..3"});
  refused(&round_.drafted, 4, 10, {"drafted[1,1]", "10", "vocabulary"});
  refused(&round_.stop, 1, 10, {"stop[1]", "10", "0..9"});
  refused(&round_.stop, 0, -1, {"stop[0]", "-1", "0..9"});
  refused(&round_.length, 0, 17, {"length[0]", "17", "capacity", "20"});
  refused(&round_.length, 0, -2, {"length[0]", "-2", "0"});
  refused(&round_.position, 0, INT32_MAX - 3, {"position[0]", "2147483644", "2147483647"});
  // Beyond the draft, and of sequences left out, they may be anything.
  const Poke beyond(&round_.drafted, 5, 10);
  EXPECT_EQ(run_once(targets().front(), kOp, p), EXN_OK) << exn_last_error();
  for (Placed* t : written_) t->reset();
  static_cast<uint8_t*>(round_.active.dl()->data)[round_.active.dl()->byte_offset + 1] = 0;
  const Poke length(&lengths_, 1, 99);
  EXPECT_EQ(run_once(targets().front(), kOp, p), EXN_OK) << exn_last_error();
  EXPECT_EQ(integers_of(round_.outcome.read()), (Integers{EXN_VERIFY_GOES_ON, EXN_VERIFY_OFF}));
}

}  // namespace
}  // namespace exn::test
