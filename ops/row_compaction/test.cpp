// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "cache_fixture.h"

namespace exn::test {
namespace {
const auto kOp = EXN_TEST_OP(row_compaction);

// Of two entries that name one row the last one stays, whatever the threads.
TEST(RowCompaction, LastOfTwoScatteredRowsStays) {
  if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  const int64_t columns = 40000;  // enough for every thread
  const HostTensor rows = normal(Type::kF32, {4, columns});
  Placed input(kCpu, rows), list(kCpu, make_integers({1, 0, 1, 1})),
      out(kCpu, poisoned(Type::kF32, {2, columns}));
  const exn_row_compaction_params p = {sizeof p, input.dl(),       list.dl(),
                                       out.dl(), EXN_ROWS_SCATTER, 0};
  exercise(targets().front(), kOp, p, {&input, &list}, {&out});
  const HostTensor got = out.read();
  const size_t bytes = static_cast<size_t>(columns) * 4;
  EXPECT_EQ(std::memcmp(got.bytes.data(), rows.bytes.data() + bytes, bytes), 0);
  EXPECT_EQ(std::memcmp(got.bytes.data() + bytes, rows.bytes.data() + 3 * bytes, bytes), 0);
}

// Where the host cannot read the list, an entry beyond the rows is skipped.
TEST(RowCompaction, EntriesBeyondTheRowsAreSkippedOnADevice) {
  const HostTensor rows = normal(Type::kF32, {3, 8});
  for (const Target& target : targets()) {
    if (target.cpu()) continue;
    for (int32_t direction : {EXN_ROWS_GATHER, EXN_ROWS_SCATTER}) {
      Placed input(target, rows), list(target, make_integers({2, 3, 1})),
          out(target, poisoned(Type::kF32, {3, 8}));
      const exn_row_compaction_params p = {sizeof p, input.dl(), list.dl(), out.dl(), direction, 0};
      exercise(target, kOp, p, {&input, &list}, {&out});
      const bool gathers = direction == EXN_ROWS_GATHER;
      const int64_t off = gathers ? 1 : 0, first = gathers ? 0 : 2;  // rows of out
      const auto row = [](const HostTensor& t, int64_t r) { return t.bytes.data() + r * 32; };
      const HostTensor got = out.read();
      EXPECT_EQ(std::memcmp(row(got, off), row(out.initial(), off), 32), 0);
      EXPECT_EQ(std::memcmp(row(got, first), row(rows, gathers ? 2 : 0), 32), 0);
    }
  }
}

TEST(RowCompactionMisuse, IsRefused) {
  if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  using P = exn_row_compaction_params;
  Placed input(kCpu, normal(Type::kF32, {5, 8})), list(kCpu, make_integers({0, 4, -1})),
      out(kCpu, poisoned(Type::kF32, {4, 8}));
  P p = {sizeof p, input.dl(), list.dl(), out.dl(), EXN_ROWS_GATHER, 0};
  const std::vector<Placed*> written = {&out};
  input.mutable_dl()->shape[0] = 0;
  input.mutable_dl()->shape[1] = int64_t{1} << 50;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"input", "axis 1", "exceeds"});
  input.mutable_dl()->shape[0] = 5;
  input.mutable_dl()->shape[1] = 8;
  out.mutable_dl()->shape[0] = 2;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"rows of out", "2", "3"});
  out.mutable_dl()->shape[0] = 4;
  {
    const Poke poke(&list, 1, 5);
    expect_run_refused(kOp, p, written, {"list[1]", "5", "input has 5 rows"});
  }
  p.direction = EXN_ROWS_SCATTER;
  expect_run_refused(kOp, p, written, {"list[1]", "4", "out has 4 rows"});
  input.mutable_dl()->shape[0] = 2;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT, {"rows of input", "2", "3"});
}

}  // namespace
}  // namespace exn::test
