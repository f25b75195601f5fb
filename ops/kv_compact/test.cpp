// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "cache_fixture.h"
#include "kv_compact/case.h"

namespace exn::test {
namespace {
const Op<exn_kv_compact_params> kOp = {"kv_compact", exn_kv_compact_supported,
                                       exn_kv_compact_workspace_size, exn_kv_compact};

// A hostile case is refused, and only a hostile one is.
TEST(KvCompactTables, HostileOnesAreRefused) {
  int compactions = 0;
  for (const KvCompactCase& c : kv_compact_cases()) {
    if (c.big) continue;
    const auto one_of = [](const std::string& word, std::initializer_list<const char*> words) {
      return std::find(words.begin(), words.end(), word) != words.end();
    };
    bool bad =
        one_of(c.list, {"over", "negative"}) ||
        (c.in_place && one_of(c.list, {"swapped", "twice"})) || c.length == "over" ||
        one_of(c.sequence, {"twice", "over"}) || !one_of(c.form, {"packed", "gaps", "padded"}) ||
        one_of(c.pages, {"to_over", "to_minus", "to_shared"}) || c.id.rfind("longer", 0) == 0;
    if (one_of(c.pages, {"from_over", "from_minus", "from_shared"})) {
      bad = c.list == "identity";
    }
    EXPECT_EQ(kv_compact_oracle(c, make_inputs(c)).refused, bad) << c.id;
    compactions += bad ? 1 : 0;
  }
  EXPECT_GE(compactions, 30);
}

// ---- misuse -------------------------------------------------------------------------------------

// Two caches of two sequences, two heads and four slots; lists of sequences.
class KvCompactMisuse : public ::testing::TestWithParam<int32_t> {
 protected:
  using P = exn_kv_compact_params;

  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  }

  bool paged() const { return spec_.layout == EXN_KV_PAGED; }

  void refused(const Words& words) {
    expect_refused(kOp, p_, written_, EXN_INVALID_ARGUMENT, words);
  }

  void run_refused(const Words& words) { expect_run_refused(kOp, p_, written_, words); }

  void go_in_place() {
    p_.destination = p_.source;
    written_ = {&source_.k, &source_.v, &new_length_, &freed_, &freed_count_};
  }

  CacheSpec spec_ = little_cache(GetParam());
  PlacedCache source_{kCpu, spec_, zero_cache(spec_)};
  PlacedCache destination_{kCpu, spec_, zero_cache(spec_)};
  Placed list_{kCpu, make_integers({0, 2, 1, 2, 3})}, offsets_{kCpu, make_integers({0, 2, 5})};
  Placed sequence_{kCpu, make_integers({1, 0})}, length_{kCpu, make_integers({3, 4})};
  Placed new_length_{kCpu, poisoned(Type::kI32, {2})}, freed_{kCpu, poisoned(Type::kI32, {3})};
  Placed freed_count_{kCpu, poisoned(Type::kI32, {1})};
  P p_ = {sizeof p_,
          source_.dl(),
          destination_.dl(),
          list_.dl(),
          offsets_.dl(),
          nullptr,
          sequence_.dl(),
          length_.dl(),
          new_length_.dl(),
          nullptr,
          nullptr,
          0,
          0};
  std::vector<Placed*> written_ = {&destination_.k, &destination_.v, &new_length_};
};

TEST_P(KvCompactMisuse, IsRefused) {
  p_.offsets = nullptr;
  refused({"offsets is null", "count is null"});
  p_.offsets = offsets_.dl();
  p_.count = length_.dl();
  refused({"offsets is given", "count is given"});
}

TEST_P(KvCompactMisuse, OfPaddedLists) {
  Placed list(kCpu, filled(Type::kI32, {2, 3}, 0)), count(kCpu, make_integers({1, 3}));
  p_.list = list.dl();
  refused({"list", "rank 2", "1"});
  p_.offsets = nullptr;
  p_.count = count.dl();
  p_.list = list_.dl();
  refused({"list", "rank 1", "2"});
  p_.list = list.dl();
  for (int32_t bad : {-1, 4}) {
    const Poke poke(&count, 1, bad);
    run_refused({"count[1]", std::to_string(bad), "0..3"});
  }
  EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
}

TEST_P(KvCompactMisuse, OfAnotherCache) {
  const auto with = [&](auto change, const Words& words) {
    CacheSpec other = spec_;
    change(&other);
    PlacedCache cache(kCpu, other, zero_cache(other));
    const exn_kv_cache good = p_.source;
    p_.source = cache.dl();
    refused(words);
    p_.source = good;
  };
  with([](CacheSpec* c) { c->dim = 4; }, {"destination", "8", "source", "4"});
  with([](CacheSpec* c) { c->heads = 4; }, {"destination has 2 heads", "4 heads"});
  with([](CacheSpec* c) { c->sequences = 3; }, {"destination", "2", "sequences", "source", "3"});
  with([](CacheSpec* c) { c->type = Type::kBF16; }, {"destination", "f32", "source", "bf16"});
}

// One memory seen as two caches.
TEST_P(KvCompactMisuse, OfHalfAPlace) {
  p_.destination.k = p_.source.k;
  written_ = {&source_.k, &destination_.v, &new_length_};
  refused({"destination.k", "destination.v", "both or neither"});
  p_.destination.k = destination_.k.dl();
  p_.destination.v = p_.source.v;
  written_ = {&destination_.k, &source_.v, &new_length_};
  refused({"destination.v", "destination.k", "both or neither"});
  go_in_place();
  if (!paged()) {
    p_.destination.layout = 1 - spec_.layout;
    refused({"destination", "source"});
    return;
  }
  p_.destination.block_table = destination_.block_table.dl();
  refused({"destination.block_table", "source"});
  p_.destination.block_table = p_.source.block_table;
  // [7,2,2,8] as [14,1,2,8]: pages of one slot.
  DLTensor k = *p_.source.k, v = *p_.source.v;
  int64_t shape[4] = {14, 1, 2, 8};
  k.shape = v.shape = shape;
  k.strides = v.strides = nullptr;
  p_.destination.k = &k;
  p_.destination.v = &v;
  refused({"destination", "1", "slots of a page", "source", "2"});
}

TEST_P(KvCompactMisuse, OfFreedPages) {
  p_.freed = freed_.dl();
  refused({"freed", "in place"});
  p_.freed = nullptr;
  p_.freed_count = freed_count_.dl();
  refused({"freed_count", "freed is null"});
  go_in_place();
  p_.freed = freed_.dl();
  if (!paged()) {
    refused({"freed", "paged"});
    return;
  }
  EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
  for (Placed* t : written_) t->reset();
  Spoiler<P> spoil(kOp, p_, written_);
  spoil.overlap(&freed_, "freed", source_.block_table, "block_table");
}

TEST_P(KvCompactMisuse, WrongListsMoveNothing) {
  for (int32_t bad : {3, -1, 2147483647}) {  // list 0 is of a sequence of three slots
    const Poke poke(&list_, 1, bad);
    run_refused({"list[1]", std::to_string(bad), "0..2"});
  }
  for (int32_t bad : {5, -1}) {
    const Poke poke(&length_, 1, bad);
    run_refused({"length[1]", std::to_string(bad), "0..4"});
  }
  for (int32_t bad : {2, -1}) {
    const Poke poke(&sequence_, 1, bad);
    run_refused({"sequence[1]", std::to_string(bad), "0..1"});
  }
  {
    const Poke poke(&sequence_, 0, 0);
    run_refused({"sequence[1]", "0", "earlier"});
  }
  for (int32_t bad : {6, -1}) {
    const Poke poke(&offsets_, 1, bad);
    run_refused({"offsets[1]", std::to_string(bad), "0..5"});
  }
  {
    const Poke poke(&offsets_, 2, 1);
    run_refused({"offsets[2]", "1", "2"});
  }
  {
    const Poke poke(&offsets_, 1, 0);
    run_refused({"list 1", "5 entries", "4 slots"});
  }
  const Poke unsorted(&list_, 0, 2), twice(&list_, 1, 2);
  EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
  for (Placed* t : written_) t->reset();
  go_in_place();
  run_refused({"list[0]", "list[1]", "2", "ascend"});
}

TEST_P(KvCompactMisuse, WrongPagesMoveNothing) {
  if (!paged()) return;
  const std::string last = "0..6";
  for (int32_t bad : {-1, 7}) {
    {
      const Poke poke(&source_.block_table, 3, bad);  // slot 2 of sequence 1, which list 0 names
      run_refused({"source.block_table[1,1]", std::to_string(bad), last});
    }
    const Poke poke(&destination_.block_table, 1, bad);  // slot 2 of sequence 0, the end of list 1
    run_refused({"destination.block_table[0,1]", std::to_string(bad), last});
  }
  {
    // What list 0 fills is a single page of sequence 1.
    const Poke unused(&destination_.block_table, 3, -1);
    EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
    for (Placed* t : written_) t->reset();
  }
  const int32_t first = static_cast<int32_t>(destination_.block_table.initial().integer_at(2));
  {
    const Poke shared(&destination_.block_table, 0, first);
    run_refused({"destination.block_table[0,0]", std::to_string(first), "[1,0]"});
  }
  const Poke shared(&source_.block_table, 0, first);
  EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
  for (Placed* t : written_) t->reset();
  go_in_place();
  p_.freed = freed_.dl();
  run_refused({"block_table[0,0]", std::to_string(first), "[1,0]"});
}

INSTANTIATE_TEST_SUITE_P(Layouts, KvCompactMisuse,
                         ::testing::Values(EXN_KV_HEAD_MAJOR, EXN_KV_TOKEN_MAJOR, EXN_KV_PAGED));

}  // namespace
}  // namespace exn::test
