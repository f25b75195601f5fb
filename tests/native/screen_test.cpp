// SPDX-License-Identifier: Apache-2.0
// Screens of LM heads (screen.h): exit_head answers with one as it does without, whatever head and
// states there are, and where answers are hard.
#include "screen_image.h"

namespace exn::test {
namespace {

class Screen : public ::testing::TestWithParam<HeadType> {
 protected:
  static HostTensor head(int64_t rows, int64_t cols, uint64_t seed) {
    const HeadType& h = GetParam();
    return make_head(h.type, h.blocks == nullptr ? nullptr : block_format(h.blocks), rows, cols,
                     seed);
  }
  // Columns that the head's blocks take, near those that are wanted.
  static int64_t columns(int64_t wanted) {
    if (GetParam().blocks == nullptr) return wanted;
    const int64_t of = block_format(GetParam().blocks)->elements;
    return (wanted + of - 1) / of * of;
  }
};

TEST_P(Screen, AnswersAsTheHeadDoes) {
  uint64_t seed = 1;
  int64_t certified = 0, asked = 0, before = 0;
  for (const int64_t wanted : {1, 31, 33, 64, 100}) {
    if (columns(wanted) == before) continue;  // blocks are long
    before = columns(wanted);
    for (const int64_t vocabulary : {1, 7, 513, 1500}) {
      ++seed;
      if (quick() && vocabulary > 513) continue;
      const int64_t dim = columns(wanted);
      const Model m(head(vocabulary, dim, seed), dim, seed % 2 == 0 ? 1 : 3,
                    seed % 3 == 0 ? 5.5f : 0, seed);
      for (const int64_t rows : {1, 3, 8, 11}) {
        for (const Type type : {Type::kF32, Type::kBF16}) {
          if (quick() && (type == Type::kF32) == (seed / 4 % 2 == 0)) continue;
          SCOPED_TRACE(std::to_string(vocabulary) + " x " + std::to_string(dim) + ", " +
                       std::to_string(rows) + " rows of " + name_of(type));
          Question q;
          q.hidden = hidden_of(m, type, rows, seed);
          q.level = static_cast<int32_t>(rows) % m.levels;
          q.budget = rows == 3 ? 1 : rows == 8 ? static_cast<int32_t>(vocabulary) : 0;
          if (rows == 8) q.temperature = 0.7f;
          if (rows == 11) q.softcap = 30;
          if (rows == 3) {
            for (int64_t v = 0; v < vocabulary; ++v) {
              q.bias.push_back(v % 5 == 2 ? -HUGE_VALF
                                          : bell(word(seed, 40, static_cast<uint64_t>(v))));
            }
          }
          certified += expect_same(m, q);
          asked += rows;
          q.mode = EXN_SCREEN_CALIBRATED;
          if (wanted == 64 && rows == 8) q.factor = 12;
          if (type == Type::kF32 && rows == 1) expect_same(m, q);
          if (HasFailure()) return;
        }
      }
    }
  }
  EXPECT_GT(certified, asked / 3) << "of " << asked;
}

std::vector<HeadType> heads_of_this_run() {
  std::vector<HeadType> heads;
  for (size_t i = 0; i < std::size(kHeads); ++i) {
    if (in_share(i)) heads.push_back(kHeads[i]);
  }
  return heads;
}

INSTANTIATE_TEST_SUITE_P(Heads, Screen, ::testing::ValuesIn(heads_of_this_run()),
                         [](const auto& head) { return std::string(head.param.name); });

// ---- answers where they are hard ----------------------------------------------------------------

TEST(ScreenAnswers, TiesGoToTheSmallestRow) {
  HostTensor head = make_bell(Type::kF32, {700, 64}, 3, 1, 0.25f);
  // Rows 5, 300 and 699 are one and the same, and so are all from 400 to 500.
  for (const int64_t v : {300, 699}) copy_row(head, 5, &head, v);
  for (int64_t v = 401; v <= 500; ++v) copy_row(head, 400, &head, v);
  const Model m(head, 64, 1, 0, 3);
  HostTensor x = make_tensor(Type::kF32, {3, 64});
  for (int64_t i = 0; i < 64; ++i) {
    x.set(0, i, 8 * head.at(300, i));
    x.set(1, i, 8 * head.at(450, i));
    x.set(2, i, 0);
  }
  Question q;
  q.hidden = x;
  for (const int32_t budget : {0, 3, 110, 700}) {
    q.budget = budget;
    expect_same(m, q);
    const Answers a = ask(m, q, true);
    EXPECT_EQ(a.argmax[0], 5);
    EXPECT_EQ(a.argmax[1], 400);
    EXPECT_EQ(a.argmax[2], 0);
  }
}

// As many rows that a screen cannot tell apart as a list of the first has, one more, one less: the
// last of all is the largest, by less than the bounds' own rounding.
TEST(ScreenAnswers, TheLastCandidateMayBeTheOne) {
  for (const int64_t alike : {2, 32, 33, 64, 65, 66, 67, 96, 97, 128, 129, 130, 257}) {
    if (quick() && alike != 33 && alike != 66 && alike != 67 && alike != 128 && alike != 129 &&
        alike != 130)
      continue;
    SCOPED_TRACE(alike);
    constexpr int64_t kDim = 32, kFirst = 10;
    HostTensor head = make_bell(Type::kF32, {alike + 40, kDim}, 4, 1, 0.25f);
    for (int64_t v = kFirst + 1; v < kFirst + alike; ++v) copy_row(head, kFirst, &head, v);
    Model m(head, kDim, 1, 0, 4);
    Question q;
    q.hidden = make_tensor(Type::kF32, {1, kDim});
    for (int64_t i = 0; i < kDim; ++i) {
      q.hidden.set(0, i, 10 * head.at(kFirst, i));
      const double w = m.head.at(kFirst, i);
      m.head.set(kFirst + alike - 1, i, w * (1 + 1e-6));
    }
    q.budget = static_cast<int32_t>(m.vocabulary);
    EXPECT_EQ(expect_same(m, q), 1);
    const Answers a = ask(m, q, true);
    EXPECT_EQ(a.argmax[0], kFirst + alike - 1);
    EXPECT_EQ(a.read[0], alike);
    // Of this head at most V / 50 + 64 rows are read unless somebody asks for more.
    q.budget = 0;
    EXPECT_EQ(expect_same(m, q), alike <= m.vocabulary / 50 + 64 ? 1 : 0);
    // One less than there are does not do, exactly as many do.
    q.budget = static_cast<int32_t>(alike) - 1;
    EXPECT_EQ(expect_same(m, q), 0);
    q.budget = static_cast<int32_t>(alike);
    EXPECT_EQ(expect_same(m, q), 1);
  }
}

// An image of which nothing is left but w m, which a test says, and the code of each row's bound.
// Rows of the head are multiples of one, so their logits are a number each.
class Plain {
 public:
  explicit Plain(const std::vector<double>& logits)
      : m_(head_of(logits), kDim, 1, 0, 11), image_(m_) {
    const auto clear = [&](int64_t at, int64_t count) {
      for (int64_t i = 0; i < count; ++i) image_.set(at, i, 0);
    };
    clear(image_.means, kDim);
    clear(image_.rotation, kDim * kDim);
    for (int32_t g = 0; g <= image_.groups; ++g) image_.set(88, g, 0);
    for (int64_t v = 0; v < m_.vocabulary; ++v) set(v, logits[static_cast<size_t>(v)], 0);
    x_ = emptied(make_tensor(Type::kF32, {1, kDim}));
    x_.set(0, 0, 1);
  }
  // What the screen takes a row's logit for, and how many units it may be off.
  void set(int64_t v, double logit, int code) {
    image_.set(image_.base, v, logit);
    image_.set_code(image_.groups, v, code);
  }
  // Makes a unit of the norms come to this.
  Answers ask_with(double unit, int32_t budget, float temperature = 1) {
    // Of y = 0 and |d| = |x| = 1 there remains R.
    image_.set(124, 0, 1);
    image_.set(128, 0, 0);
    image_.set(88, image_.groups, unit);
    sign(m_);
    Question q;
    q.hidden = x_;
    q.budget = budget;
    q.temperature = temperature;
    const Answers a = ask(m_, q, true), full = ask(m_, q, false);
    EXPECT_EQ(a.argmax[0], full.argmax[0]);
    EXPECT_EQ(a.top[0], full.top[0]);
    return a;
  }

 private:
  static constexpr int64_t kDim = 32;
  static HostTensor head_of(const std::vector<double>& logits) {
    HostTensor head = emptied(make_tensor(Type::kF32, {static_cast<int64_t>(logits.size()), kDim}));
    for (int64_t v = 0; v < head.rows; ++v) head.set(v, 0, logits[static_cast<size_t>(v)]);
    return head;
  }
  Model m_;
  Image image_;
  HostTensor x_;
};

// Where bounds are nothing, what reaches them counts: the lowest of all that may be the largest.
TEST(ScreenAnswers, BoundsThatAreReachedCount) {
  std::vector<double> logits(600, -5);
  for (const size_t v : {7u, 77u, 590u}) logits[v] = 1;
  Plain plain(logits);
  Answers a = plain.ask_with(0, 3);
  EXPECT_EQ(a.certified[0], EXN_CERTIFIED_PROVEN);
  EXPECT_EQ(a.argmax[0], 7);
  EXPECT_EQ(a.read[0], 3);
  // More that may be larger by far, and are not: they are read first.
  for (size_t v = 100; v < 100 + 140; ++v) logits[v] = 1;
  Plain many(logits);
  for (int64_t v = 100; v < 100 + 140; ++v) many.set(v, 1, 100);
  a = many.ask_with(0.01, 600);
  EXPECT_EQ(a.certified[0], EXN_CERTIFIED_PROVEN);
  EXPECT_EQ(a.argmax[0], 7);
  EXPECT_EQ(a.read[0], 143);
}

// The rows with the largest bounds are read first, and where p1 is wide also last.
TEST(ScreenAnswers, TheWidestAreReadFirst) {
  // 256 rows whose bounds are 128 to 255 units, two of each, in no order; one is as large as it
  // may.
  constexpr int64_t kRows = 600, kWide = 256;
  const std::vector<int64_t> order = shuffled(kWide, 5, 1);
  std::vector<double> logits(kRows, 0);
  for (int64_t i = 0; i < kWide; ++i) {
    if (order[static_cast<size_t>(i)] / 2 == 127) logits[static_cast<size_t>(2 * i)] = 1.9;
  }
  Plain plain(logits);
  for (int64_t v = 0; v < kRows; ++v) plain.set(v, -30, 0);
  for (int64_t i = 0; i < kWide; ++i)
    plain.set(2 * i, 0, 128 + static_cast<int>(order[static_cast<size_t>(i)] / 2));
  // CPUs read 32 at first, devices 128, and all others are ruled out by what they find.
  const int32_t first = device().cpu() ? 32 : 128;
  Answers a = plain.ask_with(1.0 / 128, first);
  EXPECT_EQ(a.certified[0], EXN_CERTIFIED_PROVEN);
  EXPECT_EQ(a.read[0], first);
  if (!device().cpu()) return;  // which reads no more
  for (const int32_t budget : {33, 100, 255}) {
    SCOPED_TRACE(budget);
    a = plain.ask_with(1.0 / 128, budget);
    EXPECT_EQ(a.read[0], budget);
    // Two rows are 1.9; the others that were read are 0, those that were not are up to 2 off.
    double low = 2, high = 2;
    for (int64_t i = 0; i < kWide; ++i) {
      const auto rank = static_cast<double>(i);
      if (i < 2) continue;
      const double wide = (255 - std::floor(rank / 2)) / 128;
      low += std::exp((i < budget ? 0 : -wide) - 1.9);
      high += std::exp((i < budget ? 0 : wide) - 1.9);
    }
    EXPECT_NEAR(static_cast<double>(a.high[0]), 1 / low, 0.003 / low);
    EXPECT_NEAR(static_cast<double>(a.low[0]), 1 / high, 0.003 / high);
  }
  // Of what is 16 temperatures lower no difference would show.
  a = plain.ask_with(1.0 / 128, 255, 0.02f);
  EXPECT_EQ(a.read[0], 32 + 2 * (239 - 202));  // from 1.9 - 0.32 = 202.2 units on
  // Enough of them for all: nothing else is read.
  a = plain.ask_with(1.0 / 128, kRows);
  EXPECT_EQ(a.read[0], kWide);
}

// Wherever those with the largest bounds stand: here the first 32 are 17 that are wide and 15 that
// are not, and the largest logit comes behind them.
TEST(ScreenAnswers, NarrowOnesLeaveTheFront) {
  constexpr int64_t kRows = 600, kFew = 17, kLargest = 40, kEnd = 200;
  std::vector<double> logits(kRows, 0);
  logits[kLargest] = 1.5;
  Plain plain(logits);
  for (int64_t v = 0; v < kRows; ++v) plain.set(v, v < kEnd ? 0 : -30, v < kEnd ? 128 : 0);
  for (int64_t v = 0; v < kFew; ++v) plain.set(v, 0, 250);
  plain.set(kLargest, 0, 200);
  const int32_t first = device().cpu() ? 32 : 128;
  const Answers a = plain.ask_with(1.0 / 128, first);
  EXPECT_EQ(a.certified[0], EXN_CERTIFIED_PROVEN);
  EXPECT_LE(a.read[0], first);
}

// Rows that differ in their last bits, with the state along their difference.
TEST(ScreenAnswers, NearTiesAreTheHeads) {
  for (uint64_t seed = 0; seed < (quick() ? 2 : 20); ++seed) {
    HostTensor head = make_bell(Type::kF32, {600, 64}, seed, 1, 0.25f);
    for (int64_t v = 100; v < 140; ++v) {
      for (int64_t i = 0; i < 64; ++i) {
        const auto at = static_cast<uint64_t>(v * 64 + i);
        head.set(v, i, head.at(99, i) * (1 + 1e-7 * static_cast<double>(bell(word(seed, 2, at)))));
      }
    }
    const Model m(head, 64, 1, 0, seed);
    Question q;
    q.hidden = make_tensor(Type::kF32, {1, 64});
    for (int64_t i = 0; i < 64; ++i) q.hidden.set(0, i, 10 * head.at(120, i));
    EXPECT_EQ(expect_same(m, q), 1);
  }
}

// More candidates than are read at first, alike or not quite, in two stages and parts of columns.
TEST(ScreenAnswers, LongListsAreRead) {
  size_t index = 0;
  for (const double spread : {0.0, 1e-6, 0.5}) {
    if (!in_full() && !in_share(index++)) continue;
    SCOPED_TRACE(spread);
    constexpr int64_t kRows = 900, kDim = 300, kFirst = 100, kAlike = 500;
    HostTensor head = make_bell(Type::kF32, {kRows, kDim}, 6, 1, 0.25f);
    for (int64_t v = kFirst + 1; v < kFirst + kAlike; ++v) {
      for (int64_t i = 0; i < kDim; ++i) {
        const auto at = static_cast<uint64_t>(v * kDim + i);
        const double factor = 1 + spread * static_cast<double>(bell(word(6, 2, at)));
        head.set(v, i, head.at(kFirst, i) * factor);
      }
    }
    const Model m(head, kDim, 1, 0, 6);
    Question q;
    q.hidden = make_tensor(Type::kF32, {2, kDim});
    for (int64_t i = 0; i < kDim; ++i) {
      q.hidden.set(0, i, 10 * head.at(kFirst, i));
      q.hidden.set(1, i, 10 * head.at(7, i));
    }
    q.budget = kAlike + 20;
    EXPECT_EQ(expect_same(m, q), 2);
    const Answers a = ask(m, q, true);
    EXPECT_GE(a.read[0], spread < 1e-3 ? kAlike : 1);
    EXPECT_LT(a.read[1], kAlike);
    q.budget = 150;
    EXPECT_EQ(expect_same(m, q), spread < 1e-3 ? 1 : 2);
    q.budget = 40;
    expect_same(m, q);
  }
}

// Parts of 4 and of 8 blocks, of which several rows may meet an input together, and longer ones.
TEST(ScreenAnswers, ManyColumnsAreReadInParts) {
  // Most of the time goes into screens of many columns: quick runs make two.
  const std::pair<int64_t, float> kinds[] = {{257, 5.0f}, {512, 6.3f}, {256, 5.0f}, {600, 6.3f},
                                             {257, 6.3f}, {600, 5.0f}, {256, 6.3f}, {512, 5.0f}};
  for (size_t i = 0; i < (quick() ? 2 : std::size(kinds)); ++i) {
    if (!in_full() && !in_share(i)) continue;
    const auto [dim, bits] = kinds[i];
    SCOPED_TRACE(std::to_string(dim) + ", " + std::to_string(bits) + " bits");
    const Model m(make_head(Type::kF16, nullptr, 43, dim, 5), dim, 2, bits, 5);
    Question q;
    q.hidden = hidden_of(m, Type::kF32, 3, 5);
    q.level = 1;
    q.budget = 43;
    EXPECT_EQ(expect_same(m, q), 3);
  }
}

TEST(ScreenAnswers, WhatIsNotFiniteIsTheHeads) {
  const Model m(make_head(Type::kF32, nullptr, 300, 40, 8), 40, 1, 0, 8);
  Question q;
  q.hidden = hidden_of(m, Type::kF32, 12, 8);
  q.hidden.set(1, 3, std::nan(""));
  q.hidden.set(4, 39, HUGE_VAL);
  q.hidden.set(7, 0, 3e38);
  q.hidden.set(10, 0, 1e30);  // of the second eight, of which the first has no such row here
  expect_same(m, q);
  const Answers answers = ask(m, q, true);
  for (const size_t r : {1, 4, 7, 10}) EXPECT_EQ(answers.certified[r], EXN_CERTIFIED_NOT) << r;
  for (const double odd : {std::nan(""), HUGE_VAL, -HUGE_VAL, 1e38, -1e38}) {
    SCOPED_TRACE(odd);
    q.bias.assign(300, 0.5f);
    q.bias[17] = static_cast<float>(odd);
    const int64_t certified = expect_same(m, q);
    if (odd != -HUGE_VAL) {
      EXPECT_EQ(certified, 0);
    }
  }
  q.bias.assign(300, -HUGE_VALF);
  expect_same(m, q);
  q.bias[299] = 1;
  expect_same(m, q);
}

// A head that has changed since is not told, but what is read of it is looked at.
TEST(ScreenAnswers, RowsThatAreReadMustBeFinite) {
  for (const double odd : {std::nan(""), HUGE_VAL}) {
    Model m(make_head(Type::kF32, nullptr, 300, 40, 8), 40, 1, 0, 8);
    Question q;
    q.hidden = hidden_of(m, Type::kF32, 3, 8);
    const int32_t best = ask(m, q, true).argmax[2];
    q.hidden = part_of(q.hidden, 2, 1);
    m.head.set(best, 3, odd);
    EXPECT_EQ(expect_same(m, q), 0);
    EXPECT_EQ(ask(m, q, true).valid[0], 0);
  }
}

// A bias of -inf takes a row out of the choice, not its screen.
TEST(ScreenAnswers, MaskedRowsAreNotTheHeads) {
  const Model m(make_head(Type::kF32, nullptr, 300, 40, 8), 40, 1, 0, 8);
  Question q;
  q.hidden = hidden_of(m, Type::kF32, 12, 8);
  q.budget = 300;
  const int64_t without = expect_same(m, q);
  EXPECT_GT(without, 8);
  for (int v = 0; v < 300; ++v) q.bias.push_back(v % 3 == 1 ? -HUGE_VALF : 0.25f);
  EXPECT_EQ(expect_same(m, q), without);
}

TEST(ScreenAnswers, DoNotDependOnThreadsOrBatch) {
  const Model m(make_head(Type::kBF16, nullptr, 2000, 96, 4), 96, 2, 0, 4);
  Question q;
  q.hidden = hidden_of(m, Type::kF32, 19, 4);
  q.level = 1;
  const Answers all = ask(m, q, true);
  for (const int32_t threads : {1, 2, 3}) {
    ASSERT_EQ(exn_cpu_set_threads(threads), EXN_OK);
    for (int64_t r = 0; r < 19; ++r) {
      Question one = q;
      one.hidden = part_of(q.hidden, r, 1);
      const Answers a = ask(m, one, true);
      const auto at = static_cast<size_t>(r);
      EXPECT_EQ(a.argmax[0], all.argmax[at]);
      EXPECT_EQ(a.read[0], all.read[at]);
      EXPECT_TRUE(same_bits(a.p1[0], all.p1[at]) && same_bits(a.low[0], all.low[at]) &&
                  same_bits(a.high[0], all.high[at]) && same_bits(a.lse[0], all.lse[at]));
    }
  }
  ASSERT_EQ(exn_cpu_set_threads(0), EXN_OK);
}

}  // namespace
}  // namespace exn::test
