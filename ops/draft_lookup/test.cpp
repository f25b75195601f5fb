// SPDX-License-Identifier: Apache-2.0
#include "cache_fixture.h"

namespace exn::test {
namespace {
const auto kOp = EXN_TEST_OP(draft_lookup);

using P = exn_draft_lookup_params;
using Integers = std::vector<int32_t>;

HostTensor integers(std::vector<int64_t> shape, const std::vector<int64_t>& values) {
  HostTensor t = make_tensor(Type::kI32, std::move(shape));
  for (size_t i = 0; i < values.size(); ++i) t.set_integer(static_cast<int64_t>(i), values[i]);
  return t;
}

// One text in twenty slots, of which three more than its tokens are not 0.
struct Text {
  const Target& target;
  Placed context, length, drafted, count, matched;
  P p = {};

  Text(const Target& t, std::vector<int64_t> tokens, int64_t most)
      : target(t),
        context(t, with_more(tokens)),
        length(t, make_integers({static_cast<int64_t>(tokens.size())})),
        drafted(t, poisoned(Type::kI32, {1, most})),
        count(t, poisoned(Type::kI32, {1})),
        matched(t, poisoned(Type::kI32, {1})) {
    p.struct_size = sizeof p;
    p.context = context.dl();
    p.length = length.dl();
    p.drafted = drafted.dl();
    p.draft_length = count.dl();
    p.matched = matched.dl();
    p.min_ngram = 1;
    p.max_ngram = 3;
  }

  static HostTensor with_more(std::vector<int64_t> tokens) {
    const int64_t last = tokens.empty() ? 1 : tokens.back();
    tokens.insert(tokens.end(), 3, last);
    tokens.resize(20);
    return integers({1, 20}, tokens);
  }

  void expect(const Integers& draft, int32_t n, int32_t m) {
    ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
    EXPECT_EQ(integers_of(drafted.read()), draft);
    EXPECT_EQ(integers_of(count.read()), Integers{n});
    EXPECT_EQ(integers_of(matched.read()), Integers{m});
  }
};

TEST(DraftLookup, ByHand) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    // "3 4" was there twice: the latest counts, and what followed it is drafted.
    Text(target, {3, 4, 5, 3, 4, 6, 7, 3, 4}, 3).expect({6, 7, 3}, 3, 2);
    // Three tokens before an earlier place count more than one before a later one.
    Text(target, {1, 2, 3, 9, 8, 3, 7, 1, 2, 3}, 2).expect({9, 8}, 2, 3);
    // Where the text runs out, the draft goes on with itself.
    Text(target, {8, 1, 2, 1, 2, 1}, 5).expect({2, 1, 2, 1, 2}, 5, 3);
    Text(target, {5, 5}, 3).expect({5, 5, 5}, 3, 1);
    Text(target, {1, 2, 3, 4}, 2).expect({-1, -1}, 0, 0);
    Text(target, {}, 2).expect({-1, -1}, 0, 0);
    // An id below 0 ends the draft before it.
    Text(target, {1, 2, -3, 7, 1}, 3).expect({2, -1, -1}, 1, 1);
    Text shortest(target, {7, 1, 2, 9, 2}, 2);
    shortest.p.min_ngram = 2;
    shortest.expect({-1, -1}, 0, 0);
    Text further(target, {9, 1, 2, 3, 4, 5, 1, 2, 3, 4}, 1);
    further.p.most_matched = 8;
    further.expect({5}, 1, 4);
  }
}

// What ends the row before would make the beginning of a text the longest match.
TEST(DraftLookup, TextsBeginWhereTheyBegin) {
  constexpr int64_t kSlots = 100, kLength = 90;
  std::vector<int64_t> tokens(2 * kSlots, 11);
  for (int64_t i = 0; i < kLength; ++i) tokens[static_cast<size_t>(kSlots + i)] = 200 + i;
  const auto put = [&](int64_t at, std::initializer_list<int64_t> some) {
    std::copy(some.begin(), some.end(), tokens.begin() + kSlots + at);
  };
  put(0, {12, 13, 14});
  put(40, {50, 12, 13, 60, 61});
  put(kLength - 3, {11, 12, 13});
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Placed context(target, integers({2, kSlots}, tokens)),
        length(target, make_integers({4, kLength}));
    Placed drafted(target, poisoned(Type::kI32, {2, 2})), count(target, poisoned(Type::kI32, {2}));
    Placed matched(target, poisoned(Type::kI32, {2}));
    P p = {};
    p.struct_size = sizeof p;
    p.context = context.dl();
    p.length = length.dl();
    p.drafted = drafted.dl();
    p.draft_length = count.dl();
    p.matched = matched.dl();
    p.min_ngram = 1;
    p.max_ngram = 3;
    ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
    EXPECT_EQ(integers_of(drafted.read()), (Integers{11, 11, 60, 61}));
    EXPECT_EQ(integers_of(matched.read()), (Integers{3, 2}));
  }
}

// Of several parts on CUDA, which are read from the end on.
TEST(DraftLookup, LongTexts) {
  constexpr int64_t kTokens = 40001, kSlots = 40010;
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const auto look_up = [&](const std::vector<int64_t>& places, int32_t next, int32_t m) {
      std::vector<int64_t> tokens(kSlots, -9);
      for (int64_t i = 0; i < kTokens; ++i) tokens[static_cast<size_t>(i)] = 7 * i;
      // Two tokens of the last ones, or one where the place is below 0.
      for (int64_t place : places) {
        const auto at = static_cast<size_t>(place < 0 ? -place : place);
        tokens[at] = tokens[kTokens - 1];
        if (place > 0) tokens[at - 1] = tokens[kTokens - 2];
      }
      Placed context(target, integers({1, kSlots}, tokens));
      Placed length(target, make_integers({kTokens}));
      Placed drafted(target, poisoned(Type::kI32, {1, 2})), count(target, zeros(Type::kI32, {1}));
      Placed matched(target, zeros(Type::kI32, {1}));
      P p = {};
      p.struct_size = sizeof p;
      p.context = context.dl();
      p.length = length.dl();
      p.drafted = drafted.dl();
      p.draft_length = count.dl();
      p.matched = matched.dl();
      p.min_ngram = 1;
      p.max_ngram = 2;
      ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
      const Integers none = {-1, -1}, some = {7 * next, 7 * (next + 1)};
      EXPECT_EQ(integers_of(drafted.read()), next == 0 ? none : some) << places.size();
      EXPECT_EQ(integers_of(matched.read()), Integers{m});
    };
    look_up({}, 0, 0);
    look_up({100, 200, -39000, -20000}, 201, 2);
    look_up({100, 20000, -39998}, 20001, 2);
    look_up({100, 39000, 20000}, 39001, 2);
    look_up({-1, -100, -16000, -9}, 16001, 1);
    look_up({1}, 2, 2);
    look_up({39995}, 39996, 2);
  }
}

// A draft, with the token after it, must fit: 16 tokens of 20 leave 3 to draft.
TEST(DraftLookup, FillsTheContext) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Text(target, std::vector<int64_t>(16, 4), 6).expect({4, 4, 4, -1, -1, -1}, 3, 3);
    Text(target, std::vector<int64_t>(17, 4), 6).expect({4, 4, -1, -1, -1, -1}, 2, 3);
  }
}

// Rounds without a host: what verify lets through is appended to the text, and the next draft is
// what followed it. The target says 0, 1, 2, 3, 0, 1, ... whatever it is asked.
TEST(DraftLookup, RoundsWithVerify) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Text text(target, {9, 0, 1, 2, 3, 0}, 3);
    Placed token(target, make_integers({0}));
    Placed out(target, filled(Type::kI32, {1, 4}, -1)), accepted(target, zeros(Type::kI32, {1}));
    Placed slots(target, make_integers({5})), active(target, filled(Type::kU8, {1}, 1));
    P& lookup = text.p;
    lookup.append = out.dl();
    lookup.active = active.dl();
    exn_verify_params verify = {};
    verify.struct_size = sizeof verify;
    verify.drafted = text.drafted.dl();
    verify.draft_length = text.count.dl();
    verify.active = active.dl();
    verify.accepted = accepted.dl();
    verify.token = token.dl();
    verify.out = out.dl();
    verify.length = slots.dl();
    verify.capacity = 19;
    Integers kept;
    for (int round = 0; round < 5; ++round) {
      ASSERT_EQ(run_once(target, kOp, lookup), EXN_OK) << exn_last_error();
      const int32_t length = integers_of(text.length.read())[0];
      HostTensor next = make_tensor(Type::kI32, {4});
      for (int64_t i = 0; i < 4; ++i) next.set_integer(i, (length - 1 + i) % 4);
      Placed best(target, next);
      verify.argmax = best.dl();
      ASSERT_EQ(run_once(target, EXN_TEST_OP(verify), verify), EXN_OK) << exn_last_error();
      kept.push_back(integers_of(accepted.read())[0]);
    }
    // 6 tokens, then 10, 14 and 18, of which the last round drafts 1; then the cache is full.
    EXPECT_EQ(kept, (Integers{3, 3, 3, 1, 0}));
    EXPECT_EQ(integers_of(text.length.read()), Integers{18});
    EXPECT_EQ(integers_of(text.count.read()), Integers{0});
    const Integers context = integers_of(text.context.read());
    for (size_t i = 1; i < 18; ++i) EXPECT_EQ(context[i], static_cast<int32_t>((i - 1) % 4)) << i;
  }
}

class DraftLookupMisuse : public ::testing::Test {
 protected:
  DraftLookupMisuse() {
    p_.struct_size = sizeof p_;
    p_.context = context_.dl();
    p_.length = length_.dl();
    p_.append = append_.dl();
    p_.append_count = append_count_.dl();
    p_.active = active_.dl();
    p_.limit = limit_.dl();
    p_.drafted = drafted_.dl();
    p_.draft_length = count_.dl();
    p_.matched = matched_.dl();
    p_.min_ngram = 2;
    p_.max_ngram = 4;
    p_.most_matched = 8;
  }
  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  }

  Placed context_{kCpu, filled(Type::kI32, {2, 10}, 1)}, length_{kCpu, make_integers({4, 7})},
      append_{kCpu, filled(Type::kI32, {2, 3}, 1)}, append_count_{kCpu, make_integers({3, 2})},
      active_{kCpu, filled(Type::kU8, {2}, 1)}, limit_{kCpu, make_integers({5, 0})},
      drafted_{kCpu, poisoned(Type::kI32, {2, 4})}, count_{kCpu, poisoned(Type::kI32, {2})},
      matched_{kCpu, poisoned(Type::kI32, {2})};
  std::vector<Placed*> written_ = {&context_, &length_, &drafted_, &count_, &matched_};
  P p_ = {};
};

TEST_F(DraftLookupMisuse, EveryArgument) {
  Spoiler<P> spoil(kOp, p_, written_);
  for (auto [t, name] : {std::pair<Placed*, const char*>{&context_, "context"},
                         {&length_, "length"},
                         {&append_, "append"},
                         {&append_count_, "append_count"},
                         {&limit_, "limit"},
                         {&drafted_, "drafted"},
                         {&count_, "draft_length"},
                         {&matched_, "matched"}}) {
    if (t == &context_) continue;
  }
  spoil.value(&P::append, static_cast<const DLTensor*>(nullptr),
              {"append_count", "append is null"});
}

TEST_F(DraftLookupMisuse, OfASequence) {
  const auto refused = [&](Placed* ids, int64_t at, int32_t value, const Words& words) {
    SCOPED_TRACE(words.front());
    const Poke poke(ids, at, value);
    EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_INVALID_ARGUMENT);
    expect_words(words);
    for (const Placed* t : written_) EXPECT_TRUE(t == ids || t->unchanged());
  };
  refused(&length_, 1, 11, {"length[1]", "11", "0..10"});
  refused(&length_, 0, -1, {"length[0]", "-1", "0..10"});
  refused(&append_count_, 1, 4, {"append_count[1]", "4", "0..3"});
  refused(&append_count_, 0, -1, {"append_count[0]", "-1", "0..3"});
  refused(&limit_, 1, -1, {"limit[1]", "-1", "0"});
  refused(&length_, 0, 8, {"length[0]", "8", "3 tokens", "10"});
  // What follows an id below 0 is not appended.
  {
    const Poke length(&length_, 0, 8);
    const Poke end(&append_, 2, -1);
    EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
    EXPECT_EQ(integers_of(length_.read()), (Integers{10, 9}));
  }
  for (Placed* t : written_) t->reset();
  // Of sequences left out, they may be anything.
  static_cast<uint8_t*>(active_.dl()->data)[active_.dl()->byte_offset + 1] = 0;
  const Poke length(&length_, 1, 99);
  EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
  EXPECT_EQ(integers_of(count_.read()), (Integers{2, 0}));
  EXPECT_EQ(integers_of(length_.read()), (Integers{7, 99}));
}

}  // namespace
}  // namespace exn::test
