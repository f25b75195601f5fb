// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>

#include "cache_fixture.h"

namespace exn::test {
namespace {
const auto kOp = EXN_TEST_OP(kv_append);

class KvAppendIds : public ::testing::TestWithParam<int32_t> {};

class KvAppendMisuse : public ::testing::TestWithParam<int32_t> {
 protected:
  void SetUp() override {
    if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  }
};

TEST_P(KvAppendMisuse, WrongIndicesWriteNothing) {
  const CacheSpec spec = little_cache(GetParam());
  PlacedCache cache(kCpu, spec, zero_cache(spec));
  Placed k(kCpu, normal(Type::kF32, {3, 2, 8})), v(kCpu, normal(Type::kF32, {3, 2, 8}, 1));
  Placed sequence(kCpu, make_integers({0, 1, 1})), slot(kCpu, make_integers({0, 0, 3}));
  const exn_kv_append_params p = {sizeof p, cache.dl(), k.dl(), v.dl(), sequence.dl(), slot.dl()};
  const std::vector<Placed*> written = {&cache.k, &cache.v};
  for (int32_t bad : {2, -1}) {
    const Poke poke(&sequence, 1, bad);
    expect_run_refused(kOp, p, written, {"sequence[1]", std::to_string(bad), "0..1"});
  }
  if (spec.layout != EXN_KV_PAGED) return;
  for (int32_t bad : {static_cast<int32_t>(spec.pages()), -1}) {
    const Poke poke(&cache.block_table, 3, bad);
    expect_run_refused(kOp, p, written, {"block_table[1,1]", std::to_string(bad), "0..6"});
    const Poke off(&slot, 2, -1);  // no row needs that page now
    EXPECT_EQ(run_once(targets().front(), kOp, p), EXN_OK) << exn_last_error();
    cache.k.reset();
    cache.v.reset();
  }
}

// Of a row that is off nothing else is looked at.
TEST_P(KvAppendIds, RowsThatAreOffMayNameAnySequence) {
  const CacheSpec spec = little_cache(GetParam());
  const HostTensor k = normal(Type::kF32, {3, 2, 8}), v = normal(Type::kF32, {3, 2, 8}, 1);
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    PlacedCache cache(target, spec, zero_cache(spec));
    Placed from_k(target, k), from_v(target, v);
    Placed sequence(target, make_integers({-1, 1, 7})), slot(target, make_integers({-1, 3, -1}));
    const exn_kv_append_params p = {sizeof p,    cache.dl(),    from_k.dl(),
                                    from_v.dl(), sequence.dl(), slot.dl()};
    ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
    HostTensor expected_k = cache.k.initial(), expected_v = cache.v.initial();
    for (int64_t i = 0; i < 16; ++i) {
      const size_t at = static_cast<size_t>(
          cache_index(spec, cache.block_table.initial(), 1, 3, i / 8, i % 8) * 4);
      const size_t from = static_cast<size_t>(64 + 4 * i);
      std::memcpy(&expected_k.bytes[at], &k.bytes[from], 4);
      std::memcpy(&expected_v.bytes[at], &v.bytes[from], 4);
    }
    EXPECT_EQ(cache.k.read().bytes, expected_k.bytes);
    EXPECT_EQ(cache.v.read().bytes, expected_v.bytes);
  }
}

// The host cannot read them: rows that name what is not there are off.
TEST_P(KvAppendIds, RowsThatNameNothingAreOffOnADevice) {
  const CacheSpec spec = little_cache(GetParam());
  const bool paged = spec.layout == EXN_KV_PAGED;
  for (const Target& target : targets()) {
    if (target.cpu()) continue;
    SCOPED_TRACE(target.name());
    CacheTensors zeros = zero_cache(spec);
    if (paged) zeros.block_table.set_integer(3, static_cast<int32_t>(spec.pages()));  // [1,1]
    PlacedCache cache(target, spec, zeros);
    Placed k(target, normal(Type::kF32, {5, 2, 8})),
        sequence(target, make_integers({0, -1, 2, 0, 1})),
        slot(target, make_integers({4, 0, 0, -2, paged ? 3 : 4}));
    const exn_kv_append_params p = {sizeof p, cache.dl(), k.dl(), k.dl(), sequence.dl(), slot.dl()};
    ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
    EXPECT_TRUE(cache.k.unchanged());
    EXPECT_TRUE(cache.v.unchanged());
  }
}

// One row for all: inputs may have a row stride of 0.
TEST_P(KvAppendIds, RowsMayBeOne) {
  const CacheSpec spec = little_cache(GetParam());
  const HostTensor row = normal(Type::kF32, {1, 2, 8});
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    PlacedCache cache(target, spec, zero_cache(spec));
    Placed k(target, row), slot(target, make_integers({2, 0, 1}));
    k.mutable_dl()->shape[0] = 3;
    k.mutable_dl()->strides[0] = 0;
    const exn_kv_append_params p = {sizeof p, cache.dl(), k.dl(), k.dl(), nullptr, slot.dl()};
    ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
    const HostTensor got = cache.k.read();
    for (int64_t i = 0; i < 48; ++i) {
      const int64_t at =
          cache_index(spec, cache.block_table.initial(), 0, i / 16, i / 8 % 2, i % 8);
      EXPECT_EQ(got.at(0, at), row.at(0, i % 16)) << i;
    }
  }
}

// A NaN whose payload lies in the bits that a narrow type drops must not become an infinity, nor by
// rounding up a zero.
TEST_P(KvAppendIds, NansStayNans) {
  for (Type narrow : {Type::kBF16, Type::kF16}) {
    CacheSpec spec = little_cache(GetParam());
    spec.type = narrow;
    HostTensor row = normal(Type::kF32, {1, 2, 8});
    const uint32_t nans[4] = {0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF};
    for (int64_t i = 0; i < 16; i += 3) {
      std::memcpy(row.bytes.data() + i * 4, &nans[i / 3 % 4], 4);
    }
    for (const Target& target : targets()) {
      SCOPED_TRACE(target.name());
      PlacedCache cache(target, spec, zero_cache(spec));
      Placed k(target, row), slot(target, make_integers({2}));
      const exn_kv_append_params p = {sizeof p, cache.dl(), k.dl(), k.dl(), nullptr, slot.dl()};
      ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
      const HostTensor got = cache.k.read();
      for (int64_t i = 0; i < 16; ++i) {
        const double value =
            got.at(0, cache_index(spec, cache.block_table.initial(), 0, 2, i / 8, i % 8));
        EXPECT_EQ(std::isnan(value), i % 3 == 0) << name_of(narrow) << " element " << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, KvAppendIds,
                         ::testing::Values(EXN_KV_HEAD_MAJOR, EXN_KV_TOKEN_MAJOR, EXN_KV_PAGED));

// Rows without a sequence belong to sequence 0, which an empty cache lacks.
TEST_P(KvAppendMisuse, NoSequences) {
  CacheSpec spec = little_cache(GetParam());
  spec.sequences = 0;
  PlacedCache cache(kCpu, spec, zero_cache(spec));
  Placed k(kCpu, normal(Type::kF32, {3, 2, 8})), v(kCpu, normal(Type::kF32, {3, 2, 8}, 1));
  Placed slot(kCpu, make_integers({-1, 2, 0}));
  const exn_kv_append_params p = {sizeof p, cache.dl(), k.dl(), v.dl(), nullptr, slot.dl()};
  const std::vector<Placed*> written = {&cache.k, &cache.v};
  expect_run_refused(kOp, p, written, {"slot[1]", "is 2", "0 sequences"});
  const Poke second(&slot, 1, -1), third(&slot, 2, -1);
  EXPECT_EQ(run_once(targets().front(), kOp, p), EXN_OK) << exn_last_error();
}

// Of pages and tables that hold nothing, the slots are counted all the same.
TEST_P(KvAppendMisuse, MoreSlotsThanThereAreNumbers) {
  if (GetParam() != EXN_KV_PAGED) GTEST_SKIP() << "no pages";
  const int64_t huge = int64_t{1} << 40;
  Placed k(kCpu, zeros(Type::kF32, {0, huge, 2, 8})), v(kCpu, zeros(Type::kF32, {0, huge, 2, 8}));
  Placed table(kCpu, zeros(Type::kI32, {0, huge})), slot(kCpu, zeros(Type::kI32, {0}));
  Placed row(kCpu, zeros(Type::kF32, {0, 2, 8}));
  const exn_kv_append_params p = {sizeof p, {k.dl(), v.dl(), table.dl(), EXN_KV_PAGED, 0},
                                  row.dl(), row.dl(),
                                  nullptr,  slot.dl()};
  expect_refused(kOp, p, {&k, &v}, EXN_INVALID_ARGUMENT, {"T (slots", "2147483647"});
}

// The caller's error: builds for debugging refuse it, others keep the last row.
TEST_P(KvAppendMisuse, TwoRowsWithOneSlot) {
  const CacheSpec spec = little_cache(GetParam());
  PlacedCache cache(kCpu, spec, zero_cache(spec));
  const HostTensor rows = normal(Type::kF32, {3, 2, 8});
  Placed k(kCpu, rows), v(kCpu, normal(Type::kF32, {3, 2, 8}, 1));
  Placed sequence(kCpu, make_integers({1, 0, 1})), slot(kCpu, make_integers({2, 2, 2}));
  const exn_kv_append_params p = {sizeof p, cache.dl(), k.dl(), v.dl(), sequence.dl(), slot.dl()};
  if (library_asserts()) {
    expect_run_refused(kOp, p, {&cache.k, &cache.v}, {"slot[2]", "is 2", "row 0"});
    return;
  }
  ASSERT_EQ(run_once(targets().front(), kOp, p), EXN_OK) << exn_last_error();
  const HostTensor got = cache.k.read();
  for (int64_t i = 0; i < 16; ++i) {
    EXPECT_EQ(got.at(0, cache_index(spec, cache.block_table.initial(), 1, 2, i / 8, i % 8)),
              rows.at(0, 32 + i))
        << i;
    EXPECT_EQ(got.at(0, cache_index(spec, cache.block_table.initial(), 0, 2, i / 8, i % 8)),
              rows.at(0, 16 + i))
        << i;
  }
}

// The same where the slots have different names: two sequences share a page.
TEST_P(KvAppendMisuse, TwoRowsWithOneSlotOfASharedPage) {
  if (GetParam() != EXN_KV_PAGED) GTEST_SKIP() << "no pages";
  const CacheSpec spec = little_cache(EXN_KV_PAGED);
  CacheTensors tensors = zero_cache(spec);
  tensors.block_table.set_integer(1, tensors.block_table.integer_at(2));  // [0,1] is [1,0]
  PlacedCache cache(kCpu, spec, tensors);
  const HostTensor rows = normal(Type::kF32, {3, 2, 8});
  Placed k(kCpu, rows), v(kCpu, normal(Type::kF32, {3, 2, 8}, 1));
  Placed sequence(kCpu, make_integers({1, 0, 0})), slot(kCpu, make_integers({0, 0, 2}));
  const exn_kv_append_params p = {sizeof p, cache.dl(), k.dl(), v.dl(), sequence.dl(), slot.dl()};
  if (library_asserts()) {
    expect_run_refused(kOp, p, {&cache.k, &cache.v}, {"slot[2]", "is 2", "sequence 0", "row 0"});
    return;
  }
  ASSERT_EQ(run_once(targets().front(), kOp, p), EXN_OK) << exn_last_error();
  const HostTensor got = cache.k.read();
  for (int64_t i = 0; i < 16; ++i) {
    EXPECT_EQ(got.at(0, cache_index(spec, tensors.block_table, 1, 0, i / 8, i % 8)),
              rows.at(0, 32 + i))
        << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, KvAppendMisuse,
                         ::testing::Values(EXN_KV_HEAD_MAJOR, EXN_KV_TOKEN_MAJOR, EXN_KV_PAGED));

}  // namespace
}  // namespace exn::test
