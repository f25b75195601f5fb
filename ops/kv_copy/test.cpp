// SPDX-License-Identifier: Apache-2.0
#include "cache_fixture.h"

namespace exn::test {
namespace {
const auto kOp = EXN_TEST_OP(kv_copy);

// Two caches and a list of three entries.
class KvCopyMisuse : public ::testing::TestWithParam<int32_t> {
 protected:
  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  }

  CacheSpec spec_ = little_cache(GetParam());
  PlacedCache source_{kCpu, spec_, zero_cache(spec_)};
  PlacedCache destination_{kCpu, spec_, zero_cache(spec_)};
  Placed from_sequence_{kCpu, make_integers({0, 1, 1})}, from_slot_{kCpu, make_integers({0, 1, 3})};
  Placed to_sequence_{kCpu, make_integers({1, 0, 1})}, to_slot_{kCpu, make_integers({0, 1, 2})};
  exn_kv_copy_params p_ = {sizeof p_,           source_.dl(),    destination_.dl(),
                           from_sequence_.dl(), from_slot_.dl(), to_sequence_.dl(),
                           to_slot_.dl()};
  std::vector<Placed*> written_ = {&destination_.k, &destination_.v};
};

// Everything of the two caches must agree but the layout, the sequences and the slots.
TEST_P(KvCopyMisuse, OfAnotherCache) {
  CacheSpec other = spec_;
  other.dim = 4;
  PlacedCache narrow(kCpu, other, zero_cache(other));
  p_.source = narrow.dl();
  expect_refused(kOp, p_, written_, EXN_INVALID_ARGUMENT, {"source", "4", "destination", "8"});
  other = spec_;
  other.heads = 1;
  PlacedCache lone(kCpu, other, zero_cache(other));
  p_.source = lone.dl();
  expect_refused(kOp, p_, written_, EXN_INVALID_ARGUMENT,
                 {"source", "1", "heads", "destination", "2"});
  other = spec_;
  other.type = Type::kBF16;
  PlacedCache half(kCpu, other, zero_cache(other));
  p_.source = half.dl();
  expect_refused(kOp, p_, written_, EXN_INVALID_ARGUMENT, {"source", "bf16", "destination", "f32"});
}

TEST_P(KvCopyMisuse, InPlaceInAnotherLayout) {
  if (GetParam() != EXN_KV_HEAD_MAJOR) GTEST_SKIP() << "with head-major";
  // [2,2,4,8] with heads first, and [2,4,2,8] with slots first.
  CacheSpec other = spec_;
  other.layout = EXN_KV_TOKEN_MAJOR;
  PlacedCache relaid(kCpu, other, zero_cache(other));
  for (auto [to, from] : {std::pair{&relaid.k, &source_.k}, {&relaid.v, &source_.v}}) {
    to->mutable_dl()->data = from->dl()->data;
    to->mutable_dl()->byte_offset = from->dl()->byte_offset;
  }
  p_.destination = relaid.dl();
  expect_refused(kOp, p_, {&source_.k, &source_.v}, EXN_INVALID_ARGUMENT,
                 {"destination", "8 elements between heads", "source", "32"});
}

TEST_P(KvCopyMisuse, WrongIndicesWriteNothing) {
  for (int32_t bad : {4, -2, 2147483647}) {
    const std::string value = std::to_string(bad);
    {
      const Poke poke(&from_slot_, 2, bad);
      expect_run_refused(kOp, p_, written_, {"from_slot[2]", value, "-1..3"});
    }
    const Poke poke(&to_slot_, 1, bad);
    expect_run_refused(kOp, p_, written_, {"to_slot[1]", value, "-1..3"});
  }
  {
    const Poke poke(&from_sequence_, 0, 2);
    expect_run_refused(kOp, p_, written_, {"from_sequence[0]", "2", "0..1"});
  }
  {
    const Poke poke(&to_sequence_, 2, -1);
    expect_run_refused(kOp, p_, written_, {"to_sequence[2]", "-1", "0..1"});
  }
  {
    const Poke off(&from_slot_, 2, -1), from(&from_sequence_, 2, 9), to(&to_sequence_, 2, -1),
        slot(&to_slot_, 2, 77);
    EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
    destination_.k.reset();
    destination_.v.reset();
  }
  if (spec_.layout != EXN_KV_PAGED) return;
  const Poke page(&destination_.block_table, 3, 7);
  expect_run_refused(kOp, p_, written_, {"block_table[1,1]", "7", "0..6"});
  const Poke off(&from_slot_, 2, -1);  // the entry that needs the page
  EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
}

// Entries without a sequence belong to sequence 0, which an empty cache lacks.
TEST_P(KvCopyMisuse, NoSequences) {
  CacheSpec none = spec_;
  none.sequences = 0;
  PlacedCache empty(kCpu, none, zero_cache(none));
  exn_kv_copy_params p = p_;
  p.source = empty.dl();
  p.from_sequence = nullptr;
  expect_run_refused(kOp, p, written_, {"from_slot[0]", "is 0", "0 sequences"});
  p = p_;
  p.destination = empty.dl();
  p.to_sequence = nullptr;
  expect_run_refused(kOp, p, {&empty.k, &empty.v}, {"to_slot[0]", "is 0", "0 sequences"});
}

// The caller's error: builds for debugging refuse it, others keep the last entry. An entry that is
// off does not count.
TEST_P(KvCopyMisuse, TwoEntriesForOneSlot) {
  HostTensor k = source_.k.initial();
  fill(&k, 1, 0, "normal", 1, "-");
  Placed refilled(kCpu, k);
  p_.source.k = refilled.dl();
  const Poke same(&to_slot_, 2, 0);
  if (library_asserts()) {
    expect_run_refused(kOp, p_, written_, {"to_slot[2]", "is 0", "row 0"});
  } else {
    ASSERT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
    const HostTensor got = destination_.k.read();
    for (int64_t i = 0; i < 8; ++i) {
      const HostTensor& table = source_.block_table.initial();
      EXPECT_EQ(got.at(0, cache_index(spec_, table, 1, 0, 1, i)),
                k.at(0, cache_index(spec_, table, 1, 3, 1, i)))
          << i;
    }
  }
  const Poke off(&from_slot_, 0, -1);
  EXPECT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
}

// The same where the slots have different names: two sequences of the destination share a page.
TEST_P(KvCopyMisuse, TwoEntriesForOneSlotOfASharedPage) {
  if (GetParam() != EXN_KV_PAGED) GTEST_SKIP() << "no pages";
  HostTensor k = source_.k.initial();
  fill(&k, 1, 0, "normal", 1, "-");
  Placed refilled(kCpu, k);
  p_.source.k = refilled.dl();
  const HostTensor& table = destination_.block_table.initial();
  const Poke shared(&destination_.block_table, 3, static_cast<int32_t>(table.integer_at(0)));
  const Poke first(&to_sequence_, 0, 0);  // entry 0 goes to [0,0], entry 2 to [1,2]
  if (library_asserts()) {
    expect_run_refused(kOp, p_, written_, {"to_slot[2]", "is 2", "sequence 1", "row 0"});
    return;
  }
  ASSERT_EQ(run_once(targets().front(), kOp, p_), EXN_OK) << exn_last_error();
  const HostTensor got = destination_.k.read();
  for (int64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(got.at(0, cache_index(spec_, table, 0, 0, 1, i)),
              k.at(0, cache_index(spec_, source_.block_table.initial(), 1, 3, 1, i)))
        << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, KvCopyMisuse,
                         ::testing::Values(EXN_KV_HEAD_MAJOR, EXN_KV_TOKEN_MAJOR, EXN_KV_PAGED));

}  // namespace
}  // namespace exn::test
