// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "attention/case.h"
#include "cache_fixture.h"

namespace exn::test {
namespace {
const auto kOp = EXN_TEST_OP(attention);

Outputs run(const AttentionCase& c, const AttentionInputs& in, const Target& target) {
  use(target);
  const std::unique_ptr<Instance> instance = instantiate(c, in, target);
  instance->prepare();
  instance->run(nullptr);
  return instance->outputs();
}

// Row `row` of `t`, [R,H,dh] or [R,H,N].
HostTensor row_of(const HostTensor& t, int64_t row) {
  HostTensor one = t;
  const int64_t columns = t.shape[1] * t.shape[2], stride = t.rows == 1 ? columns : t.stride,
                size = size_of(t.type);
  one.rows = 1;
  one.cols = one.stride = columns;
  one.shape[0] = 1;
  one.bytes.assign(t.bytes.begin() + row * stride * size,
                   t.bytes.begin() + (row * stride + columns) * size);
  return one;
}

HostTensor integer_of(const HostTensor& t, int64_t row) {
  if (!t.given()) return {};
  HostTensor one = make_tensor(Type::kI32, {1});
  one.set_integer(0, t.integer_at(row));
  return one;
}

class Attention : public ::testing::TestWithParam<AttentionCase> {};

// Each row alone gives the bits that it has beside others.
TEST_P(Attention, RowsDoNotDependOnTheBatch) {
  const AttentionCase& c = GetParam();
  if (c.query.rows < 2 || c.bench) GTEST_SKIP() << "one row, or a shape for benchmarks";
  const AttentionInputs in = make_inputs(c);
  for (const Target& target : targets()) {
    if (!target.cpu() && !c.batch_invariant) continue;
    SCOPED_TRACE(target.name());
    const Outputs all = run(c, in, target);
    const int64_t step = c.query.rows / 24 + 1;
    for (int64_t r = 0; r < c.query.rows; r += step) {
      AttentionInputs one;
      one.query = row_of(in.query, r);
      one.cache = in.cache;
      one.sequence = integer_of(in.sequence, r);
      one.visible = integer_of(in.visible, r);
      const Outputs alone = run(c, one, target);
      for (size_t i = 0; i < all.size() && all[i].size() > 0; ++i)
        ASSERT_EQ(row_of(alone[i], 0).bytes, row_of(all[i], r).bytes)
            << "output " << i << " row " << r;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Attention, ::testing::ValuesIn(wanted_cases(attention_cases())),
                         CaseName());

// Where the same slots lie does not change a bit.
TEST(Attention, LayoutsAgree) {
  AttentionCase c;
  c.cache = little_cache(EXN_KV_HEAD_MAJOR);
  c.cache.slots = 700;
  c.cache.page = 20;
  c.query_heads = 6;
  c.query = {5, 6 * 8, Type::kF32, 0, 0, "normal", 1, "-"};
  c.sequence = "mod";
  c.visible = "random";
  c.scale = 0.25f;
  for (const Target& target : targets()) {
    if (!target.cpu()) continue;
    SCOPED_TRACE(target.name());
    std::vector<std::vector<unsigned char>> outs;
    for (int32_t layout : {EXN_KV_HEAD_MAJOR, EXN_KV_TOKEN_MAJOR, EXN_KV_PAGED}) {
      c.cache.layout = layout;
      outs.push_back(run(c, make_inputs(c), target)[0].bytes);
    }
    EXPECT_EQ(outs[0], outs[1]);
    EXPECT_EQ(outs[0], outs[2]);
  }
}

// Rows that see nothing give zeros, whatever their sequence is, and do not touch the others.
TEST(Attention, RowsThatAreOff) {
  for (int32_t layout : {EXN_KV_HEAD_MAJOR, EXN_KV_TOKEN_MAJOR, EXN_KV_PAGED}) {
    const CacheSpec spec = little_cache(layout);
    const HostTensor query = normal(Type::kF32, {4, 4, 8});
    for (const Target& target : targets()) {
      SCOPED_TRACE(target.name() + ", layout " + std::to_string(layout));
      PlacedCache cache(target, spec, zero_cache(spec));
      Placed queries(target, query), out(target, poisoned(Type::kF32, {4, 4, 8})),
          scores(target, poisoned(Type::kF32, {4, 4, 4}));
      Placed sequence(target, make_integers({-1, 1, 9, -1})),
          visible(target, make_integers({-1, 3, 0, -1}));
      const exn_attention_params p = {sizeof p,
                                      queries.dl(),
                                      cache.dl(),
                                      sequence.dl(),
                                      visible.dl(),
                                      out.dl(),
                                      scores.dl(),
                                      0.5f,
                                      0,
                                      0,
                                      0};
      ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
      const HostTensor got = out.read(), got_scores = scores.read();
      for (int64_t i = 0; i < 4 * 32; ++i) EXPECT_EQ(got.at(0, i), 0) << i;  // V is 0
      for (int64_t i = 0; i < 4 * 16; ++i) {
        const bool sees = i / 16 == 1 && i % 4 < 3;
        EXPECT_EQ(got_scores.at(0, i), sees ? 0 : -kInf) << i;
      }
      EXPECT_TRUE(scores.guards_intact());
    }
  }
}

class AttentionMisuse : public ::testing::TestWithParam<int32_t> {
 protected:
  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  }

  CacheSpec spec_ = little_cache(GetParam());
  PlacedCache cache_{kCpu, spec_, zero_cache(spec_)};
  Placed query_{kCpu, normal(Type::kF32, {3, 4, 8})}, sequence_{kCpu, make_integers({0, 1, 1})},
      visible_{kCpu, make_integers({4, 1, 3})};
  Placed out_{kCpu, poisoned(Type::kF32, {3, 4, 8})},
      scores_{kCpu, poisoned(Type::kF32, {3, 4, 4})};
  exn_attention_params p_ = {sizeof p_,
                             query_.dl(),
                             cache_.dl(),
                             sequence_.dl(),
                             visible_.dl(),
                             out_.dl(),
                             scores_.dl(),
                             0.5f,
                             0,
                             0,
                             0};
  std::vector<Placed*> written_ = {&out_, &scores_};
};

TEST_P(AttentionMisuse, MoreScoresThanSlots) {
  Placed many(kCpu, poisoned(Type::kF32, {3, 4, 5}));
  p_.scores = many.dl();
  expect_refused(kOp, p_, written_, EXN_INVALID_ARGUMENT, {"scores", "5", "4"});
}

TEST_P(AttentionMisuse, NoHeads) {
  p_.scores = nullptr;
  Placed none(kCpu, normal(Type::kF32, {3, 0, 8})), nothing(kCpu, poisoned(Type::kF32, {3, 0, 8}));
  p_.query = none.dl();
  p_.out = nothing.dl();
  expect_refused(kOp, p_, {}, EXN_INVALID_ARGUMENT, {"H (heads of query)", "0", "1"});
}

// Kernels multiply H, dh and T, whose product may go to 2^56, with no row to compute as well.
TEST_P(AttentionMisuse, SizesWhoseProductIsOutOfRange) {
  if (spec_.layout == EXN_KV_PAGED) return;
  const int64_t heads = int64_t{1} << 24, slots = int64_t{1} << 24;
  int64_t row[3] = {0, heads, 0}, none[1] = {0};
  int64_t kept[3] = {1, slots, 0};  // [Hkv,T,dh], or [T,Hkv,dh]
  if (spec_.layout == EXN_KV_TOKEN_MAJOR) std::swap(kept[0], kept[1]);
  const auto with = [](Placed* t, int64_t* shape, int32_t rank) {
    DLTensor dl = *t->dl();
    dl.shape = shape;
    dl.ndim = rank;
    dl.strides = nullptr;
    return dl;
  };
  const DLTensor query = with(&query_, row, 3), out = with(&out_, row, 3),
                 visible = with(&visible_, none, 1), sequence = with(&sequence_, none, 1),
                 k = with(&cache_.k, kept, 3), v = with(&cache_.v, kept, 3);
  p_.query = &query;
  p_.out = &out;
  p_.visible = &visible;
  p_.sequence = &sequence;
  p_.scores = nullptr;
  p_.cache.k = &k;
  p_.cache.v = &v;
  row[2] = kept[2] = 256;
  EXPECT_EQ(kOp.supported(&p_), EXN_OK) << exn_last_error();
  row[2] = kept[2] = 257;
  expect_refused(kOp, p_, {}, EXN_INVALID_ARGUMENT,
                 {"H (heads of query) is 16777216", "dh (elements per head) is 257",
                  "T (slots of a sequence of cache) is 16777216", "exceeds 72057594037927936"});
}

TEST_P(AttentionMisuse, WrongIndicesWriteNothing) {
  for (int32_t bad : {2, -1}) {
    const Poke poke(&sequence_, 2, bad);
    expect_run_refused(kOp, p_, written_, {"sequence[2]", std::to_string(bad), "0..1"});
  }
  if (spec_.layout != EXN_KV_PAGED) return;
  for (int32_t bad : {7, -1}) {
    const Poke poke(&cache_.block_table, 3, bad);
    expect_run_refused(kOp, p_, written_, {"block_table[1,1]", std::to_string(bad), "0..6"});
    const Poke short_row(&visible_, 2, 2);  // no row sees that page now
    EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
    out_.reset();
    scores_.reset();
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, AttentionMisuse,
                         ::testing::Values(EXN_KV_HEAD_MAJOR, EXN_KV_TOKEN_MAJOR, EXN_KV_PAGED));

}  // namespace
}  // namespace exn::test
