// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>

#include "misuse.h"

namespace exn::test {
namespace {

const Op<exn_rope_table_params> kOp = EXN_TEST_OP(rope_table);

// An empty table needs no workspace, however many pairs it would have.
TEST(RopeTable, WithoutPositions) {
  int64_t shape[3] = {0, int64_t{1} << 46, 2};
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const DLDevice device = {static_cast<DLDeviceType>(target.device_type), 0};
    const DLTensor table = {nullptr, device, 3, dl_type(Type::kF32), shape, nullptr, 0};
    const exn_rope_table_params p = {sizeof p, &table, 10000, 1, EXN_ROPE_SCALING_NONE, 0};
    size_t bytes = 1;
    ASSERT_EQ(exn_rope_table_workspace_size(&p, &bytes), EXN_OK) << exn_last_error();
    EXPECT_EQ(bytes, 0u);
    EXPECT_EQ(exn_rope_table(&p, nullptr, 0, nullptr), EXN_OK) << exn_last_error();
  }
}

// 5 positions, of which the last one's last pair of 2 has the angle 4 / sqrt(base).
TEST(RopeTableMisuse, LargestAngle) {
  Placed table(kCpu, poisoned(Type::kF32, {5, 2, 2}));
  exn_rope_table_params p = {sizeof p, table.dl(), 0x1p-58, 1, EXN_ROPE_SCALING_NONE, 0};
  EXPECT_EQ(exn_rope_table_supported(&p), EXN_OK) << exn_last_error();
  p.base = 0x1p-60;
  expect_refused(kOp, p, {&table}, EXN_INVALID_ARGUMENT, {"base", "4.29497e+09", "2^31"});
  p.factor = 2;
  p.scaling = EXN_ROPE_SCALING_LINEAR;
  EXPECT_EQ(exn_rope_table_supported(&p), EXN_OK) << exn_last_error();
  // The first pair turns by 1 a position under any base.
  Placed one_pair(kCpu, poisoned(Type::kF32, {5, 1, 2}));
  p = {sizeof p, one_pair.dl(), 5e-324, 1, EXN_ROPE_SCALING_NONE, 0};
  EXPECT_EQ(exn_rope_table_supported(&p), EXN_OK) << exn_last_error();
}

TEST(RopeTableMisuse, Numbers) {
  Placed table(kCpu, poisoned(Type::kF32, {5, 4, 2}));
  const exn_rope_table_params p = {sizeof p, table.dl(), 10000, 2, EXN_ROPE_SCALING_NTK, 0};
  const std::vector<Placed*> written = {&table};
  Spoiler<exn_rope_table_params> spoil(kOp, p, written);
  spoil.value(&exn_rope_table_params::scaling, int32_t{EXN_ROPE_SCALING_NONE},
              {"factor", "2", "1"});
  spoil.value(&exn_rope_table_params::base, 5e-324, {"base", "angle", "2^31"});
  spoil.value(&exn_rope_table_params::base, 1e308, {"base", "inf", "finite"});
  Placed one_pair(kCpu, poisoned(Type::kF32, {5, 1, 2}));
  exn_rope_table_params q = p;
  q.table = one_pair.dl();
  expect_refused(kOp, q, {&one_pair}, EXN_INVALID_ARGUMENT, {"pairs", "1", "2"});
}

}  // namespace
}  // namespace exn::test
