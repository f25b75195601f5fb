// SPDX-License-Identifier: Apache-2.0
#include "cache_fixture.h"
#include "misuse.h"

namespace exn::test {
namespace {
const auto kOp = EXN_TEST_OP(draft_rule);
using P = exn_draft_rule_params;
using Ids = std::vector<int32_t>;

HostTensor floats(std::vector<int64_t> shape, const std::vector<double>& values) {
  HostTensor t = make_tensor(Type::kF32, std::move(shape));
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t at = static_cast<int64_t>(i);
    t.set(at / t.cols, at % t.cols, values[i]);
  }
  return t;
}

HostTensor ids(std::vector<int64_t> shape, const Ids& values) {
  HostTensor t = make_tensor(Type::kI32, std::move(shape));
  for (size_t i = 0; i < values.size(); ++i) t.set_integer(static_cast<int64_t>(i), values[i]);
  return t;
}

void run(const Target& target, const P& p) {
  ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
}

// What DEL knows of one sequence.
struct Learned {
  Learned(const Target& target, const std::vector<double>& values, const Ids& words)
      : candidates(static_cast<int64_t>(values.size()) / 4),
        statistics(target, floats({1, candidates, 4}, values)),
        plan(target, ids({1, EXN_DRAFT_PLAN_WORDS}, words)) {}

  int64_t candidates;
  Placed statistics, plan;
};

// How many tokens one sequence drafts, given the score of each.
int64_t drafted(const Target& target, P p, const std::vector<double>& scores) {
  Placed state(target, filled(Type::kI32, {1, EXN_DRAFT_STATE_WORDS}, 77));
  p.struct_size = sizeof p;
  p.action = EXN_DRAFT_STEP;
  p.state = state.dl();
  int64_t count = 0;
  for (const double score : scores) {
    Placed at(target, floats({1}, {score})), drafting(target, poisoned(Type::kU8, {1})),
        length(target, poisoned(Type::kI32, {1}));
    p.score = at.dl();
    p.drafting = drafting.dl();
    p.length = length.dl();
    p.first = count == 0 ? 1 : 0;
    EXPECT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
    ++count;
    EXPECT_LE(length.read().integer_at(0), count);
    if (drafting.read().bytes[0] == 0) return length.read().integer_at(0);
  }
  return count + 1;
}

P stepping(int32_t rule, float threshold, int32_t least, int32_t most) {
  P p = {};
  p.rule = rule;
  p.threshold = threshold;
  p.min_steps = least;
  p.max_steps = most;
  return p;
}

// An update of one sequence; its plan afterwards.
Ids updated(const Target& target, const Learned& learned, const Ids& shadows,
            const std::vector<double>& probs, const Ids& finals, const Ids& layers,
            int32_t model_layers, float omega, int32_t form = EXN_FORM_CODE,
            bool expect_drafting = true) {
  const int64_t columns = static_cast<int64_t>(finals.size());
  Placed token(target, ids({1, learned.candidates, columns}, shadows)),
      prob(target, floats({1, learned.candidates, columns}, probs)),
      final_token(target, ids({1, columns}, finals)),
      candidate(target, ids({learned.candidates}, layers)),
      drafting(target, poisoned(Type::kU8, {1}));
  P p = {};
  p.struct_size = sizeof p;
  p.action = EXN_DRAFT_UPDATE;
  p.form = form;
  p.statistics = learned.statistics.dl();
  p.plan = learned.plan.dl();
  p.shadow_token = token.dl();
  p.shadow_prob = prob.dl();
  p.final_token = final_token.dl();
  p.candidate = candidate.dl();
  p.drafting = drafting.dl();
  p.max_steps = 18;
  p.model_layers = model_layers;
  p.omega = omega;
  EXPECT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
  EXPECT_EQ(drafting.read().bytes[0], expect_drafting ? 1 : 0);
  return integers_of(learned.plan.read());
}

TEST(DraftRule, SpecDecStopsAfterTheFifthToken) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const P p = stepping(EXN_DRAFT_SPECDEC, .3f, 2, 20);
    EXPECT_EQ(drafted(target, p, {1, .95, .90, .85, .80, .75}), 5);
    EXPECT_EQ(drafted(target, p, {0, .95, .90, .85, .80, .75}), 5);  // not looked at
    EXPECT_EQ(drafted(target, p, {kNaN, .1, 1}), 2);
    EXPECT_EQ(drafted(target, p, {1, kNaN, kNaN, .1, 1}), 4);  // counts as a token all the same
    EXPECT_EQ(drafted(target, stepping(EXN_DRAFT_SPECDEC, .3f, 4, 20), {1, .1, .1, .1, .1}), 4);
    EXPECT_EQ(drafted(target, stepping(EXN_DRAFT_SPECDEC, 1, 0, 3), {1, .1, .1, .1, .1}), 3);
  }
}

TEST(DraftRule, ConfidenceKeepsTheTokenThatStops) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const P p = stepping(EXN_DRAFT_CONFIDENCE, .5f, 0, 4);
    EXPECT_EQ(drafted(target, p, {.9, .5, .49, .9}), 3);
    EXPECT_EQ(drafted(target, p, {.1, .9}), 1);
    EXPECT_EQ(drafted(target, p, {.9, .9, .9, .9, .9}), 4);
    EXPECT_EQ(drafted(target, p, {kNaN, kNaN, .1, .9}), 3);
  }
}

TEST(DraftRule, DelDraftsAboveTheMeanOfItsMeans) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    // tau of candidate 1: (1.8 / 2 + .6 / 2) / 2 = .6.
    const Learned known(target, {1, 1, 0, 0, 2, 2, 1.8, .6}, {1, 2, 3, 1});
    P p = stepping(EXN_DRAFT_DEL, kNaN, 0, 18);
    p.statistics = known.statistics.dl();
    p.plan = known.plan.dl();
    EXPECT_EQ(drafted(target, p, {.61, .99, .59, .9}), 3);
    EXPECT_EQ(drafted(target, p, std::vector<double>(30, .9)), 18);
    p.form = EXN_FORM_PAPER;
    EXPECT_EQ(drafted(target, p, std::vector<double>(30, .9)), 3);  // d
    // Without a mismatch there is no tau.
    const Learned sure(target, {5, 0, 4, 0}, {0, 1, 0, 1});
    p.statistics = sure.statistics.dl();
    p.plan = sure.plan.dl();
    p.form = EXN_FORM_CODE;
    EXPECT_EQ(drafted(target, p, std::vector<double>(30, 0)), 18);
    p.form = EXN_FORM_PAPER;
    EXPECT_EQ(drafted(target, p, std::vector<double>(30, .9)), 0);  // d = 0: it does not draft
    const Learned fresh(target, {0, 0, 0, 0}, {0, 1, 1, 0});
    p.statistics = fresh.statistics.dl();
    p.plan = fresh.plan.dl();
    EXPECT_EQ(drafted(target, p, std::vector<double>(30, .9)), 1);
    p.form = EXN_FORM_CODE;
    EXPECT_EQ(drafted(target, p, std::vector<double>(30, .9)), 1);
  }
}

// Of 32 layers; a column that is unknown, and omega = 1, leave the statistics.
TEST(DraftRule, TokensPerLayer) {
  struct {
    std::vector<double> alphas;
    Ids layers, plan;
  } tables[] = {
      {{.5, .7, .9}, {4, 8, 16}, {1, 8, 2, 8}},
      {{.5}, {4}, {0, 4, 2, 8}},
      {{.7}, {8}, {0, 8, 2, 8}},
      {{.9}, {16}, {0, 16, 3, 8}},
      {{0, 0}, {4, 8}, {0, 4, 0, 8}},
      {{1, 1}, {4, 8}, {0, 4, 17, 8}},
      {{kNaN, 0, 0}, {4, 8, 9}, {1, 8, 0, 8}},
      {{kNaN, .7}, {4, 8}, {1, 8, 2, 8}},
      {{kNaN, kNaN}, {4, 8}, {0, 9, 1, 8}},
      {{2, .7}, {4, 8}, {1, 8, 2, 8}},  // no alpha: of statistics that were not counted
      {{-1, 0}, {4, 8}, {1, 8, 0, 8}},
  };
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    for (const auto& table : tables) {
      std::vector<double> statistics;
      for (double alpha : table.alphas) {
        for (double value : {10 * alpha, 10 * (1 - alpha), 1.0, 1.0}) statistics.push_back(value);
      }
      const size_t candidates = table.alphas.size();
      const Learned learned(target, statistics, {0, 9, 1, 7});
      EXPECT_EQ(updated(target, learned, Ids(candidates, 3), std::vector<double>(candidates, .5),
                        {-1}, table.layers, 32, 1),
                table.plan);
    }
  }
}

// A device does not choose a candidate that runs no layer or all of them, whatever it promises:
// here as many tokens as the other one, or more. The CPU refuses it.
TEST(DraftRule, StrayCandidates) {
  for (const Target& target : targets()) {
    if (target.cpu()) continue;
    SCOPED_TRACE(target.name());
    for (const int32_t stray : {-1, 0, 32, 33}) {
      const Learned learned(target, {9, 0, 1, 1, 0, 9, 1, 1}, {1, 8, 1, 7});
      EXPECT_EQ(updated(target, learned, {3, 3}, {.5, .5}, {-1}, {stray, 8}, 32, 1),
                (Ids{1, 8, 0, 8}))
          << stray;
    }
  }
}

// The drafter, candidate 0, is wrong at column 1: columns 0 and 1 count.
TEST(DraftRule, ColumnsEndBehindTheDraftersMismatch) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const Ids shadows = {1, 9, 3, 1, 2, 9}, finals = {1, 2, 3};
    const std::vector<double> probs = {.5, .25, 1, .75, .5, 1}, before(8, 2);
    const Learned learned(target, before, {0, 1, 2, 1});
    updated(target, learned, shadows, probs, finals, {1, 2}, 4, .5f);
    const HostTensor kept = learned.statistics.read();
    const double expected[] = {2, 2, 1.5, 1.25, 3, 1, 2.25, 1};
    for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(kept.at(0, i), expected[i]) << i;
    // With d = 0 all three do.
    const Learned whole(target, before, {0, 1, 0, 1});
    updated(target, whole, shadows, probs, finals, {1, 2}, 4, .5f);
    EXPECT_EQ(whole.statistics.read().at(0, 0), 3);
    EXPECT_EQ(whole.statistics.read().at(0, 5), 2);
  }
}

TEST(DraftRule, PaperDoesNotDraftWhereNothingIsGained) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const Learned learned(target, {0, 9, 0, 4}, {0, 1, 1, 1});
    const Ids plan = updated(target, learned, {2}, {.5}, {1}, {1}, 4, 1, EXN_FORM_PAPER, false);
    EXPECT_EQ(plan, (Ids{0, 1, 0, 2}));
    EXPECT_EQ(updated(target, learned, {2}, {.5}, {1}, {1}, 4, 1), (Ids{0, 1, 0, 3}));
  }
}

TEST(DraftRule, AStopTokenEndsTheDraftBeforeItsLeastLength) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Placed state(target, zeros(Type::kI32, {2, EXN_DRAFT_STATE_WORDS})),
        token(target, ids({2}, {5, 6})), stops(target, ids({3}, {9, 6, 8})),
        list(target, poisoned(Type::kI32, {2})), count(target, poisoned(Type::kI32, {1}));
    P p = stepping(EXN_DRAFT_FIXED, 0, 3, 4);
    p.struct_size = sizeof p;
    p.state = state.dl();
    p.token = token.dl();
    p.stop_tokens = stops.dl();
    p.active_list = list.dl();
    p.active_count = count.dl();
    p.first = 1;
    run(target, p);
    EXPECT_EQ(integers_of(list.read()), (Ids{0, -1}));
    EXPECT_EQ(integers_of(count.read()), (Ids{1}));
  }
}

// Words that no call has left there.
TEST(DraftRule, StateOfUnknownOrigin) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const Ids words = {0x7fc00000, INT32_MAX, 0, -1, -5, 0, 0, 2, 9};
    Placed score(target, zeros(Type::kF32, {3})), state(target, ids({3, 3}, words)),
        drafting(target, poisoned(Type::kU8, {3}));
    P p = stepping(EXN_DRAFT_SPECDEC, .3f, 0, 4);
    p.struct_size = sizeof p;
    p.score = score.dl();
    p.state = state.dl();
    p.drafting = drafting.dl();
    run(target, p);
    EXPECT_EQ(drafting.read().bytes, (std::vector<uint8_t>{0, 1, 0}));
    const Ids after = integers_of(state.read());
    EXPECT_EQ(after[1], INT32_MAX);
    EXPECT_EQ(after[4], -4);
    EXPECT_EQ(after[7], 2);
  }
}

TEST(DraftRuleMisuse, Step) {
  if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  Placed score(kCpu, zeros(Type::kF32, {2})), token(kCpu, zeros(Type::kI32, {2})),
      stops(kCpu, zeros(Type::kI32, {3})), state(kCpu, zeros(Type::kI32, {2, 3})),
      length(kCpu, poisoned(Type::kI32, {2})), drafting(kCpu, poisoned(Type::kU8, {2})),
      list(kCpu, poisoned(Type::kI32, {2})), count(kCpu, poisoned(Type::kI32, {1})),
      statistics(kCpu, zeros(Type::kF32, {2, 3, 4})), plan(kCpu, zeros(Type::kI32, {2, 4})),
      other(kCpu, zeros(Type::kI32, {2}));
  P p = stepping(EXN_DRAFT_DEL, 0, 1, 18);
  p.struct_size = sizeof p;
  p.score = score.dl();
  p.token = token.dl();
  p.stop_tokens = stops.dl();
  p.state = state.dl();
  p.length = length.dl();
  p.drafting = drafting.dl();
  p.active_list = list.dl();
  p.active_count = count.dl();
  p.statistics = statistics.dl();
  p.plan = plan.dl();
  const std::vector<Placed*> written = {&state, &length, &drafting, &list, &count};
  Spoiler<P> spoil(kOp, p, written);
  const Placed none(kCpu, zeros(Type::kF32, {2, 0, 4})), three(kCpu, zeros(Type::kF32, {2, 3, 3}));
  spoil.value(&P::statistics, none.dl(), {"K", "statistics", "0", "1"});
  spoil.value(&P::token, static_cast<const DLTensor*>(nullptr), {"stop_tokens", "token is null"});
  spoil.value(&P::rule, 0, {"statistics", "EXN_DRAFT_DEL"});
  {
    const Poke poke(&plan, 4, 3);
    expect_run_refused(kOp, p, written, {"plan[1,0]", "3", "3 candidates"});
  }
  {
    const Poke poke(&plan, 6, -2);
    expect_run_refused(kOp, p, written, {"plan[1,2]", "-2", "0"});
  }
  {
    const Poke poke(&plan, 3, -7);
    expect_run_refused(kOp, p, written, {"plan[0,3]", "-7", "0"});
  }
  p.statistics = p.plan = nullptr;
  p.rule = EXN_DRAFT_CONFIDENCE;
  p.threshold = kNaN;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"threshold", "NaN"});
}

TEST(DraftRuleMisuse, Update) {
  if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  Placed statistics(kCpu, zeros(Type::kF32, {2, 3, 4})), plan(kCpu, zeros(Type::kI32, {2, 4})),
      shadow_token(kCpu, zeros(Type::kI32, {2, 3, 5})),
      shadow_prob(kCpu, zeros(Type::kF32, {2, 3, 5})), final_token(kCpu, zeros(Type::kI32, {2, 5})),
      columns(kCpu, ids({2}, {5, 4})), context(kCpu, ids({2}, {0, 4})),
      candidate(kCpu, ids({3}, {1, 2, 7})), other(kCpu, zeros(Type::kI32, {2})),
      drafting(kCpu, poisoned(Type::kU8, {2}));
  P p = {};
  p.struct_size = sizeof p;
  p.action = EXN_DRAFT_UPDATE;
  p.statistics = statistics.dl();
  p.plan = plan.dl();
  p.shadow_token = shadow_token.dl();
  p.shadow_prob = shadow_prob.dl();
  p.final_token = final_token.dl();
  p.columns = columns.dl();
  p.context = context.dl();
  p.candidate = candidate.dl();
  p.drafting = drafting.dl();
  p.max_steps = 18;
  p.model_layers = 8;
  p.omega = .95f;
  const std::vector<Placed*> written = {&statistics, &plan, &drafting};
  Spoiler<P> spoil(kOp, p, written);
  const Placed fewer(kCpu, zeros(Type::kI32, {2, 2, 5})),
      narrower(kCpu, zeros(Type::kF32, {2, 3, 4}));
  for (int32_t bad : {1, (1 << 20) + 1}) {
    spoil.value(&P::model_layers, bad, {"model_layers", std::to_string(bad)});
  }
  {
    const Poke poke(&context, 1, 5);
    expect_run_refused(kOp, p, written, {"context[1]", "5", "4 columns"});
  }
  {
    const Poke poke(&plan, 4, -1);
    expect_run_refused(kOp, p, {&statistics, &drafting}, {"plan[1,0]", "-1"});
  }
  p.candidate = nullptr;
  p.model_layers = 3;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"K", "3", "2"});
}

TEST(DraftRuleMisuse, Reset) {
  if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  Placed statistics(kCpu, zeros(Type::kF32, {2, 3, 4})), plan(kCpu, filled(Type::kI32, {2, 4}, 9)),
      mask(kCpu, make_tensor(Type::kU8, {2})), other(kCpu, zeros(Type::kU8, {2}));
  P p = {};
  p.struct_size = sizeof p;
  p.action = EXN_DRAFT_RESET;
  p.statistics = statistics.dl();
  p.plan = plan.dl();
  p.mask = mask.dl();
  p.model_layers = 8;
  Spoiler<P> spoil(kOp, p, {&statistics, &plan});
  spoil.value(&P::model_layers, 3, {"K", "3", "2"});
}

}  // namespace
}  // namespace exn::test
