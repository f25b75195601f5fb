// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "cache_fixture.h"

namespace exn::test {
namespace {

const Op<exn_hidden_stack_params> kOp = {"hidden_stack", exn_hidden_stack_supported,
                                         exn_hidden_stack_workspace_size, exn_hidden_stack};

// Plays a case's script on one target.
class Script {
 public:
  Script(const HiddenStackCase& c, const Target& target) : c_(c), target_(target), oracle_(c) {
    stack_ = poisoned(c.rows.type, {c.capacity, c.rows.cols}, c.stack_pad, c.stack_offset);
    if (c.tags > 0) tags_ = poisoned(Type::kI32, {c.capacity, c.tags});
    count_ = integers({0});
  }

  void play() {
    for (int64_t n = 0; n < static_cast<int64_t>(c_.script.size()); ++n) {
      SCOPED_TRACE("call " + std::to_string(n));
      inputs_.push_back(make_inputs(c_, n));
      call(n);
      if (::testing::Test::HasFailure()) return;
    }
  }

 private:
  void call(int64_t n) {
    const HiddenStackInputs& in = inputs_.back();
    const int32_t action = c_.script[static_cast<size_t>(n)];
    const bool gather = action == EXN_STACK_GATHER;
    const int64_t over = oracle_.step(n, in);
    Placed stack(target_, stack_), stack_tags(target_, tags_), count(target_, count_),
        mask(target_, in.mask);
    Placed rows(target_, gather ? poisoned(c_.rows.type, {c_.gathered, c_.rows.cols}, c_.rows.pad,
                                           c_.rows.offset)
                                : in.rows);
    Placed tags(target_,
                gather && c_.tags > 0 ? poisoned(Type::kI32, {c_.gathered, c_.tags}) : in.tags);
    Placed overflow(target_, c_.overflow ? poisoned(Type::kI32, {1}) : HostTensor{});
    const exn_hidden_stack_params p = {sizeof p,  stack.dl(), stack_tags.dl(), count.dl(),
                                       rows.dl(), tags.dl(),  mask.dl(),       overflow.dl(),
                                       action,    0};
    std::vector<Placed*> read = {&mask}, written = {&stack, &stack_tags, &count, &overflow};
    (gather ? written : read).insert((gather ? written : read).end(), {&rows, &tags});
    if (over > 0 && target_.cpu()) {
      use(target_);
      written.insert(written.end(), {&rows, &tags});
      expect_run_refused(kOp, p, written, {"count is", "rows"});
      return;
    }
    exercise(target_, kOp, p, read, written);
    if (::testing::Test::HasFatalFailure()) return;
    if (c_.overflow) {
      EXPECT_EQ(overflow.read().integer_at(0), over);
    }
    judge_stack(stack, stack_tags, count);
    if (gather) judge_gathered(rows, tags, over);
  }

  // The bytes that entry `i` was pushed with.
  void expect_entry(const HostTensor& got, int64_t row, size_t i) {
    const HiddenStackOracle::Entry& e = oracle_.entries()[i];
    const HostTensor& from = inputs_[static_cast<size_t>(e.call)].rows;
    const int64_t size = size_of(from.type);
    if (from.cols == 0) return;
    EXPECT_EQ(std::memcmp(got.bytes.data() + row * got.stride * size,
                          from.bytes.data() + e.row * from.stride * size,
                          static_cast<size_t>(from.cols * size)),
              0)
        << "entry " << i;
  }

  void expect_tags(const HostTensor& got, int64_t row, size_t i) {
    const HiddenStackOracle::Entry& e = oracle_.entries()[i];
    for (int64_t m = 0; m < c_.tags; ++m) {
      EXPECT_EQ(got.integer_at(row * c_.tags + m),
                inputs_[static_cast<size_t>(e.call)].tags.integer_at(e.row * c_.tags + m))
          << "entry " << i << ", tag " << m;
    }
  }

  void judge_stack(const Placed& stack, const Placed& tags, const Placed& count) {
    const size_t held = oracle_.entries().size();
    count_ = count.read();
    EXPECT_EQ(count_.integer_at(0), static_cast<int64_t>(held));
    const HostTensor before = stack_, tags_before = tags_;
    stack_ = stack.read();
    if (c_.tags > 0) tags_ = tags.read();
    for (size_t i = 0; i < held; ++i) {
      expect_entry(stack_, static_cast<int64_t>(i), i);
      expect_tags(tags_, static_cast<int64_t>(i), i);
    }
    // What lies above the entries is nobody's business.
    const size_t above = held * static_cast<size_t>(stack_.stride * size_of(stack_.type));
    for (size_t b = above; b < stack_.bytes.size(); ++b)
      ASSERT_EQ(stack_.bytes[b], before.bytes[b]) << "byte " << b;
    for (size_t b = held * static_cast<size_t>(c_.tags) * 4; b < tags_.bytes.size(); ++b) {
      ASSERT_EQ(tags_.bytes[b], tags_before.bytes[b]) << "tag byte " << b;
    }
  }

  void judge_gathered(const Placed& rows, const Placed& tags, int64_t over) {
    const HostTensor got = rows.read();
    const size_t held = over > 0 ? 0 : oracle_.entries().size();
    for (size_t i = 0; i < held; ++i) expect_entry(got, static_cast<int64_t>(i), i);
    const size_t above = held * static_cast<size_t>(got.stride * size_of(got.type));
    for (size_t b = above; b < got.bytes.size(); ++b)
      ASSERT_EQ(got.bytes[b], rows.initial().bytes[b]) << "byte " << b;
    if (c_.tags == 0) return;
    const HostTensor got_tags = tags.read();
    for (size_t i = 0; i < held; ++i) expect_tags(got_tags, static_cast<int64_t>(i), i);
    for (int64_t i = static_cast<int64_t>(held) * c_.tags; i < got_tags.size(); ++i)
      EXPECT_EQ(got_tags.integer_at(i), -1);
  }

  const HiddenStackCase& c_;
  const Target& target_;
  HiddenStackOracle oracle_;
  std::vector<HiddenStackInputs> inputs_;
  HostTensor stack_, tags_, count_;
};

class HiddenStack : public ::testing::TestWithParam<HiddenStackCase> {};

TEST_P(HiddenStack, MatchesOracle) {
  for (const Target& target : targets()) {
    if (!wanted(GetParam(), target)) continue;
    SCOPED_TRACE(target.name());
    Script(GetParam(), target).play();
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, HiddenStack,
                         ::testing::ValuesIn(wanted_cases(hidden_stack_cases(cases_directory()))),
                         CaseName());

using P = exn_hidden_stack_params;

class HiddenStackMisuse : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  }

  Placed stack_{kCpu, poisoned(Type::kF32, {5, 8})},
      stack_tags_{kCpu, poisoned(Type::kI32, {5, 2})}, count_{kCpu, integers({1})};
  Placed mask_{kCpu, filled(Type::kU8, {3}, 1)}, overflow_{kCpu, poisoned(Type::kI32, {1})};
};

TEST_F(HiddenStackMisuse, Push) {
  Placed rows(kCpu, normal(Type::kF32, {3, 8})), tags(kCpu, zeros(Type::kI32, {3, 2}));
  const P p = {sizeof p,  stack_.dl(), stack_tags_.dl(), count_.dl(),    rows.dl(),
               tags.dl(), mask_.dl(),  overflow_.dl(),   EXN_STACK_PUSH, 0};
  const std::vector<Placed*> written = {&stack_, &stack_tags_, &count_, &overflow_};
  expect_sound_struct_sizes(kOp, p, written);
  Spoiler<P> spoil(kOp, p, written);
  spoil.required(&P::stack, "stack");
  spoil.required(&P::count, "count");
  spoil.required(&P::rows, "rows");
  spoil.required(&P::tags, "tags");
  spoil.value<const DLTensor*>(&P::stack_tags, nullptr, {"tags", "stack_tags"});
  spoil.tensor(&stack_, "stack", "bf16");
  spoil.tensor(&stack_tags_, "stack_tags", "i32");
  spoil.tensor(&count_, "count", "i32");
  spoil.tensor(&rows, "rows", "bf16");
  spoil.tensor(&tags, "tags", "i32");
  spoil.tensor(&mask_, "mask", "u8");
  spoil.tensor(&overflow_, "overflow", "i32");
  spoil.on_another_device(&rows, "rows");
  spoil.on_another_device(&count_, "count");
  spoil.size(&rows, "rows", 1, 7);
  spoil.size(&tags, "tags", 1, 3);
  spoil.size(&tags, "tags", 0, 2);
  spoil.size(&stack_tags_, "stack_tags", 0, 4);
  spoil.size(&mask_, "mask", 0, 2);
  spoil.size(&count_, "count", 0, 0);
  spoil.size(&overflow_, "overflow", 0, 0);
  for (int32_t bad : {-1, 3}) spoil.value(&P::action, bad, {"action", std::to_string(bad)});
  spoil.overlap(&stack_, "stack", rows, "rows");
  spoil.overlap(&stack_tags_, "stack_tags", tags, "tags", 4);
  spoil.overlap(&overflow_, "overflow", count_, "count");
  rows.mutable_dl()->dtype = dl_type(Type::kI32);
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"rows", "i32"});
  rows.mutable_dl()->dtype = dl_type(Type::kF32);
  for (int32_t bad : {6, -1}) {
    const Poke poke(&count_, 0, bad);
    EXPECT_EQ(run_once(targets().front(), kOp, p), EXN_INVALID_ARGUMENT);
    expect_words({"count[0]", std::to_string(bad), "0..5"});
  }
  {
    const Poke full(&count_, 0, 3);
    EXPECT_EQ(run_once(targets().front(), kOp, p), EXN_INVALID_ARGUMENT);
    expect_words({"count is 3", "3 rows", "stack has 5 rows"});
    EXPECT_EQ(count_.read().integer_at(0), 3);
  }
  for (const Placed* t : written) EXPECT_TRUE(t->unchanged());
}

TEST_F(HiddenStackMisuse, Gather) {
  Placed rows(kCpu, poisoned(Type::kF32, {3, 8})), tags(kCpu, poisoned(Type::kI32, {3, 2}));
  const P p = {sizeof p,  stack_.dl(), stack_tags_.dl(), count_.dl(),      rows.dl(),
               tags.dl(), nullptr,     overflow_.dl(),   EXN_STACK_GATHER, 0};
  const std::vector<Placed*> written = {&stack_, &stack_tags_, &count_, &overflow_, &rows, &tags};
  Spoiler<P> spoil(kOp, p, written);
  spoil.required(&P::rows, "rows");
  spoil.value(&P::mask, mask_.dl(), {"mask", "EXN_STACK_PUSH"});
  spoil.size(&rows, "rows", 1, 7);
  spoil.overlap(&rows, "rows", stack_, "stack");
  const Poke many(&count_, 0, 4);
  EXPECT_EQ(run_once(targets().front(), kOp, p), EXN_INVALID_ARGUMENT);
  expect_words({"count is 4", "rows has 3 rows"});
  EXPECT_TRUE(rows.unchanged() && tags.unchanged() && overflow_.unchanged());
}

TEST_F(HiddenStackMisuse, Clear) {
  Placed rows(kCpu, normal(Type::kF32, {3, 8})), tags(kCpu, zeros(Type::kI32, {3, 2}));
  const P p = {sizeof p, stack_.dl(), stack_tags_.dl(), count_.dl(),     nullptr,
               nullptr,  nullptr,     overflow_.dl(),   EXN_STACK_CLEAR, 0};
  const std::vector<Placed*> written = {&stack_, &stack_tags_, &count_, &overflow_};
  Spoiler<P> spoil(kOp, p, written);
  spoil.value(&P::rows, rows.dl(), {"rows", "EXN_STACK_CLEAR"});
  spoil.value(&P::mask, mask_.dl(), {"mask", "EXN_STACK_PUSH"});
  // A count that means nothing is what a clear is for.
  const Poke nonsense(&count_, 0, -77);
  EXPECT_EQ(run_once(targets().front(), kOp, p), EXN_OK) << exn_last_error();
  EXPECT_EQ(count_.read().integer_at(0), 0);
}

}  // namespace
}  // namespace exn::test
