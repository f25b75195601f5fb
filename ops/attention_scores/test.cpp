// SPDX-License-Identifier: Apache-2.0
#include "attention_scores/case.h"
#include "selection_fixture.h"

namespace exn::test {
namespace {
const Op<exn_attention_scores_params> kOp = {"attention_scores", exn_attention_scores_supported,
                                             exn_attention_scores_workspace_size,
                                             exn_attention_scores};

// A case's tensors on a device.
struct PlacedScores {
  PlacedScores(const Target& target, const AttentionScoresCase& c, const AttentionScoresInputs& in)
      : layout(c.cache.layout),
        query(target, in.query),
        k(target, in.cache.k),
        block_table(target, in.cache.block_table),
        sequence(target, in.sequence),
        visible(target, in.visible),
        limit(target, in.limit),
        scores(target, before(c, in)),
        selection(target, c.selection, in.selection, in.query.rows / c.window * c.score_heads()) {
    p.struct_size = sizeof p;
    p.query = query.dl();
    p.keys = {k.dl(), nullptr, block_table.dl(), layout, 0};
    p.sequence = sequence.dl();
    p.visible = visible.dl();
    p.limit = limit.dl();
    p.scores = scores.dl();
    if (c.selects) p.selection = selection.dl();
    p.columns = c.columns;
    p.first = c.first;
    p.window = c.window;
    p.scale = c.scale;
    p.kind = c.kind;
    p.reduction = c.reduction;
    p.pool = c.pool;
    p.pool_width = c.pool_width;
    p.accumulate = c.accumulate;
  }

  // What `scores` holds: poison, unless it is added to.
  static HostTensor before(const AttentionScoresCase& c, const AttentionScoresInputs& in) {
    if (!c.scores || c.accumulate) return in.scores;
    return poisoned(Type::kF32, {in.query.rows / c.window, c.score_heads(), c.columns});
  }

  std::vector<Placed*> read() {
    std::vector<Placed*> all = selection.read();
    for (Placed* t : {&query, &k, &block_table, &sequence, &visible, &limit}) all.push_back(t);
    return all;
  }
  std::vector<Placed*> written() {
    std::vector<Placed*> all;
    if (p.selection.indices != nullptr) all = selection.written();
    all.push_back(&scores);
    return all;
  }

  int32_t layout;
  Placed query, k, block_table, sequence, visible, limit, scores;
  PlacedSelection selection;
  exn_attention_scores_params p = {};
};

class AttentionScores : public ::testing::TestWithParam<AttentionScoresCase> {};

// Prompt s of a case alone.
AttentionScoresInputs prompt_of(const AttentionScoresCase& c, const AttentionScoresInputs& in,
                                int64_t s) {
  AttentionScoresInputs one = in;
  one.query.rows = one.query.shape[0] = c.window;
  const int64_t row = in.query.stride * size_of(in.query.type);
  one.query.bytes.assign(in.query.bytes.begin() + s * c.window * row,
                         in.query.bytes.begin() + ((s + 1) * c.window - 1) * row +
                             in.query.cols * size_of(in.query.type));
  const int64_t sequence = in.sequence.given() ? in.sequence.integer_at(s) : s;
  one.sequence = make_integers({static_cast<int32_t>(sequence)});
  one.visible = make_tensor(Type::kI32, {c.window});
  for (int64_t i = 0; i < c.window; ++i)
    one.visible.set_integer(i, in.visible.integer_at(s * c.window + i));
  if (in.limit.given()) one.limit = make_integers({static_cast<int32_t>(in.limit.integer_at(s))});
  one.selection = {};
  return one;
}

// A prompt alone gives the bits that it has beside others.
TEST_P(AttentionScores, PromptsDoNotDependOnTheBatch) {
  const AttentionScoresCase& c = GetParam();
  if (c.prompts() < 2 || c.bench || c.accumulate || !c.scores)
    GTEST_SKIP() << "one prompt, or no scores of its own, or a shape for benchmarks";
  const AttentionScoresInputs in = make_inputs(c);
  AttentionScoresCase bare = c;
  bare.selects = false;
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    PlacedScores all(target, bare, in);
    ASSERT_EQ(run_once(target, kOp, all.p), EXN_OK) << exn_last_error();
    const std::vector<unsigned char> bytes = all.scores.read().bytes;
    const int64_t size = c.score_heads() * c.columns * 4;
    for (int64_t s = 0; s < c.prompts() && size > 0; ++s) {
      PlacedScores alone(target, bare, prompt_of(c, in, s));
      ASSERT_EQ(run_once(target, kOp, alone.p), EXN_OK) << exn_last_error();
      const std::vector<unsigned char> expected(bytes.begin() + s * size,
                                                bytes.begin() + (s + 1) * size);
      ASSERT_EQ(alone.scores.read().bytes, expected) << "prompt " << s;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, AttentionScores,
                         ::testing::ValuesIn(wanted_cases(attention_scores_cases())), CaseName());

AttentionScoresCase little_case(int32_t layout) {
  AttentionScoresCase c;
  c.cache = little_cache(layout);
  c.query_heads = 4;
  c.window = 2;
  c.query = {4, 4 * 8, Type::kF32, 0, 0, "normal", 1, "-"};
  c.sequence = "-";
  c.visible = "all";
  c.limit = "-";
  c.columns = 4;
  c.scale = 0.25f;
  c.kind = EXN_SCORE_SOFTMAX;
  return c;
}

// Where the same slots lie does not change a bit.
TEST(AttentionScores, LayoutsAgree) {
  AttentionScoresCase c = little_case(EXN_KV_HEAD_MAJOR);
  c.cache.slots = c.columns = 700;
  c.cache.page = 20;
  c.visible = "random";
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    std::vector<std::vector<unsigned char>> scores;
    for (int32_t layout : {EXN_KV_HEAD_MAJOR, EXN_KV_TOKEN_MAJOR, EXN_KV_PAGED}) {
      c.cache.layout = layout;
      PlacedScores placed(target, c, make_inputs(c));
      ASSERT_EQ(run_once(target, kOp, placed.p), EXN_OK) << exn_last_error();
      scores.push_back(placed.scores.read().bytes);
    }
    EXPECT_EQ(scores[0], scores[1]);
    EXPECT_EQ(scores[0], scores[2]);
  }
}

// Raw scores of one query head over keys (x, 0), query (1, 0).
std::vector<float> scored_by_hand(const Target& target, const std::vector<float>& x, int32_t kind,
                                  int32_t pool, int32_t width) {
  AttentionScoresCase c;
  const int64_t n = static_cast<int64_t>(x.size());
  c.cache.layout = EXN_KV_HEAD_MAJOR;
  c.cache.slots = c.columns = n;
  c.cache.dim = 2;
  c.query = {1, 2, Type::kF32, 0, 0, "zero", 1, "-"};
  c.kind = kind;
  c.pool = pool;
  c.pool_width = width;
  AttentionScoresInputs in;
  in.query = make_tensor(Type::kF32, {1, 1, 2});
  in.query.rows = 1;
  in.query.set(0, 0, 1);
  in.query.set(0, 1, 0);
  in.cache.k = make_tensor(Type::kF32, {1, n, 2});
  for (int64_t t = 0; t < n; ++t) {
    in.cache.k.set(0, 2 * t, static_cast<double>(x[static_cast<size_t>(t)]));
    in.cache.k.set(0, 2 * t + 1, 7);
  }
  in.visible = make_integers({static_cast<int32_t>(n)});
  PlacedScores placed(target, c, in);
  EXPECT_EQ(run_once(target, kOp, placed.p), EXN_OK) << exn_last_error();
  std::vector<float> scores;
  const HostTensor got = placed.scores.read();
  for (int64_t j = 0; j < n; ++j) scores.push_back(static_cast<float>(got.at(0, j)));
  return scores;
}

TEST(AttentionScores, ByHand) {
  const std::vector<float> x = {1, 0, 0, 5, 0, 0, -2};
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const auto scored = [&](int32_t kind, int32_t pool, int32_t width) {
      return scored_by_hand(target, x, kind, pool, width);
    };
    EXPECT_EQ(scored(EXN_SCORE_RAW, EXN_POOL_NONE, 0), x);
    EXPECT_EQ(scored(EXN_SCORE_RAW, EXN_POOL_AVG, 1), x);
    EXPECT_EQ(scored(EXN_SCORE_RAW, EXN_POOL_AVG, 5),
              (std::vector<float>{.2f, 1.2f, 1.2f, 1.0f, .6f, .6f, -.4f}));
    EXPECT_EQ(scored(EXN_SCORE_RAW, EXN_POOL_MAX, 3), (std::vector<float>{1, 1, 5, 5, 5, 0, 0}));
    EXPECT_EQ(scored(EXN_SCORE_RAW, EXN_POOL_MAX, 255), std::vector<float>(7, 5));
    for (const float equal : {3.0f, -300.0f, 3000.0f}) {  // not of what they are against 0
      EXPECT_EQ(
          scored_by_hand(target, std::vector<float>(2, equal), EXN_SCORE_SOFTMAX, EXN_POOL_NONE, 0),
          std::vector<float>(2, .5f));
    }
  }
}

// V is not read: it may be left out, and hold anything.
TEST(AttentionScores, ValuesAreNotNeeded) {
  const AttentionScoresCase c = little_case(EXN_KV_TOKEN_MAJOR);
  const AttentionScoresInputs in = make_inputs(c);
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    PlacedScores placed(target, c, in);
    Placed v(target, in.cache.v);
    ASSERT_EQ(run_once(target, kOp, placed.p), EXN_OK) << exn_last_error();
    const HostTensor without = placed.scores.read();
    placed.scores.reset();
    placed.p.keys.v = v.dl();
    ASSERT_EQ(run_once(target, kOp, placed.p), EXN_OK) << exn_last_error();
    EXPECT_EQ(placed.scores.read().bytes, without.bytes);
  }
}

// On CUDA scores, pooling and choice come out of one launch while a row fits into the block that
// chooses, and out of two beyond.
TEST(AttentionScores, OneLaunchOrTwo) {
  const auto reset = reinterpret_cast<void (*)()>(emulator_function("simt_reset"));
  const auto launches = reinterpret_cast<uint64_t (*)()>(emulator_function("simt_launch_count"));
  if (reset == nullptr || launches == nullptr) GTEST_SKIP() << "no emulated device in this run";
  for (int64_t columns : {100, 8192, 8193}) {
    SCOPED_TRACE(columns);
    AttentionScoresCase c = little_case(EXN_KV_HEAD_MAJOR);
    c.cache.slots = c.columns = columns;
    c.pool = EXN_POOL_AVG;
    c.pool_width = 5;
    c.selects = true;
    c.selection.k = c.selection.capacity = 10;
    PlacedScores placed(targets().front(), c, make_inputs(c));
    reset();
    ASSERT_EQ(run_once(targets().front(), kOp, placed.p), EXN_OK) << exn_last_error();
    EXPECT_EQ(launches(), columns <= 8192 ? 1u : 2u);
  }
}

// Scratch does not grow with the rows.
TEST(AttentionScores, WorkspaceIsBounded) {
  if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  use(targets().front());
  AttentionScoresCase c;
  c.cache = little_cache(EXN_KV_HEAD_MAJOR);
  c.cache.slots = c.columns = 4096;
  c.query_heads = 2;
  c.window = 4096;
  c.query = {2 * 4096, 2 * 8, Type::kF32, 0, 0, "zero", 1, "-"};
  c.sequence = c.limit = "-";
  c.visible = "causal";
  PlacedScores placed(kCpu, c, make_inputs(c));
  size_t bytes = 0;
  ASSERT_EQ(kOp.workspace_size(&placed.p, &bytes), EXN_OK) << exn_last_error();
  EXPECT_LT(bytes, size_t{6} << 20);
}

class AttentionScoresMisuse : public ::testing::TestWithParam<int32_t> {
 protected:
  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  }

  // Two prompts of two rows, summed over heads: two score rows of eight columns.
  static AttentionScoresCase the_case(int32_t layout) {
    AttentionScoresCase c = little_case(layout);
    c.cache.slots = 10;
    c.columns = 8;
    c.first = 1;
    c.reduction = EXN_HEADS_SUM;
    c.pool = EXN_POOL_AVG;
    c.pool_width = 3;
    c.selects = true;
    c.selection = spoilable_spec();
    return c;
  }
  static AttentionScoresInputs inputs(const AttentionScoresCase& c) {
    AttentionScoresInputs in = make_inputs(c);
    in.sequence = make_integers({1, 0});
    in.limit = make_integers({8, 4});
    in.selection = spoilable_inputs();
    return in;
  }

  AttentionScoresCase c_ = the_case(GetParam());
  PlacedScores placed_{kCpu, c_, inputs(c_)};
  exn_attention_scores_params& p_ = placed_.p;
  std::vector<Placed*> written_ = placed_.written();
};

// Whatever their slots: no prompt has a sequence there.
TEST_P(AttentionScoresMisuse, CachesWithoutSequencesTakeNoWorkspace) {
  const bool paged = placed_.block_table.dl() != nullptr;
  (paged ? placed_.block_table : placed_.k).mutable_dl()->shape[0] = 0;
  size_t bytes = 1;
  ASSERT_EQ(exn_attention_scores_workspace_size(&p_, &bytes), EXN_OK) << exn_last_error();
  EXPECT_EQ(bytes, 0u);
  expect_run_refused(kOp, p_, written_, {"sequence[0]", "1"});
}

TEST_P(AttentionScoresMisuse, IsRefused) {
  using P = exn_attention_scores_params;
  ASSERT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
  for (Placed* t : written_) t->reset();
  Spoiler<P> spoil(kOp, p_, written_);
  spoil.value(&P::pool_width, 4, {"pool_width", "4", "odd"});
  P p = p_;
  Placed v(kCpu, placed_.k.initial());
  p.selection.indices = nullptr;
  expect_refused(kOp, p, written_, EXN_INVALID_ARGUMENT, {"selection.count", "selection.indices"});
  for (auto [field, name] : {std::pair<const DLTensor * exn_selection::*, const char*>{
                                 &exn_selection::valid, "selection.valid"},
                             {&exn_selection::budget, "selection.budget"},
                             {&exn_selection::segments, "selection.segments"},
                             {&exn_selection::keep, "selection.keep"},
                             {&exn_selection::drop, "selection.drop"}}) {
    p = p_;
    p.selection = {};
    p.selection.*field = v.dl();
    expect_refused(kOp, p, written_, EXN_INVALID_ARGUMENT, {name, "selection.indices"});
  }
  spoil_selection(kOp, p_, &P::selection, &placed_.selection, written_);
}

TEST_P(AttentionScoresMisuse, HeadsAndPromptsThatDoNotFit) {
  Placed three(kCpu, normal(Type::kF32, {4, 3, 8}));
  p_.query = three.dl();
  Placed none(kCpu, normal(Type::kF32, {4, 0, 8}));
  p_.query = none.dl();
  expect_refused(kOp, p_, written_, EXN_INVALID_ARGUMENT, {"H (heads of query)", "0", "1"});
  Placed narrow(kCpu, normal(Type::kF32, {4, 4, 7}));
  p_.query = narrow.dl();
  Placed many(kCpu, normal(Type::kF32, {6, 4, 8}));
  p_.query = many.dl();
  p_.sequence = nullptr;
  expect_refused(kOp, p_, written_, EXN_INVALID_ARGUMENT, {"S (sequences of keys)", "2", "3"});
}

TEST_P(AttentionScoresMisuse, WrongIndicesWriteNothing) {
  for (int32_t bad : {2, -1}) {
    const Poke poke(&placed_.sequence, 1, bad);
    expect_run_refused(kOp, p_, written_, {"sequence[1]", std::to_string(bad), "0..1"});
  }
  if (c_.cache.layout != EXN_KV_PAGED) return;
  for (int32_t bad : {13, -1}) {
    const Poke poke(&placed_.block_table, 9, bad);
    expect_run_refused(kOp, p_, written_, {"block_table[1,4]", std::to_string(bad), "0..12"});
    {
      const Poke other_row(&placed_.visible, 0, 8);  // the last row of the prompt alone sees it
      expect_run_refused(kOp, p_, written_, {"block_table[1,4]", std::to_string(bad), "0..12"});
    }
    const Poke first_row(&placed_.visible, 0, 8);  // no row sees that page now
    const Poke second_row(&placed_.visible, 1, 7);
    EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
    for (Placed* t : written_) t->reset();
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, AttentionScoresMisuse,
                         ::testing::Values(EXN_KV_HEAD_MAJOR, EXN_KV_TOKEN_MAJOR, EXN_KV_PAGED));

}  // namespace
}  // namespace exn::test
