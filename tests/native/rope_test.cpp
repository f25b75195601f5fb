// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>

#include "case_table_dense.h"
#include "table.h"
#include "misuse.h"
#include "oracle_dense.h"

namespace exn::test {
namespace {

const Op<exn_rope_table_params> kTable = {"rope_table", exn_rope_table_supported,
                                          exn_rope_table_workspace_size, exn_rope_table};
const Op<exn_rope_params> kRope = {"rope", exn_rope_supported, exn_rope_workspace_size, exn_rope};

class RopeTable : public ::testing::TestWithParam<RopeTableCase> {};

TEST_P(RopeTable, MatchesOracle) {
  const RopeTableCase& c = GetParam();
  const std::vector<Expected> expected = rope_table_oracle(c);
  for (const Target& target : targets()) {
    if (!wanted(c, target)) continue;
    SCOPED_TRACE(target.name());
    Placed table(target, poisoned(Type::kF32, {c.positions, c.pairs, 2}, 0, c.offset));
    const exn_rope_table_params params = {
        sizeof params, table.dl(), static_cast<double>(c.base), static_cast<double>(c.factor),
        c.scaling,     0};
    exercise(target, kTable, params, {}, {&table});
    if (HasFatalFailure()) return;
    expect_all_agree("rope_table", expected, table.read());
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, RopeTable,
                         ::testing::ValuesIn(wanted_cases(rope_table_cases())),
                         CaseName());

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

// A CUDA launch has a block for each row; nothing is read to see whether there are as many.
TEST(RopeRows, MoreRowsThanALaunchHasBlocks) {
  int64_t shape[3] = {int64_t{1} << 32, 1, 2};
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const DLDevice device = {static_cast<DLDeviceType>(target.device_type), 0};
    Placed table(target, zeros(Type::kF32, {1, 1, 2}));
    const auto at = [](int gigabytes) {
      return reinterpret_cast<void*>(static_cast<uintptr_t>(1024 + gigabytes) << 30);
    };
    const DLTensor input = {at(0), device, 3, dl_type(Type::kF32), shape, nullptr, 0};
    const DLTensor position = {at(100), device, 1, dl_type(Type::kI32), shape, nullptr, 0};
    const exn_rope_params p = {sizeof p,   &input, &position, table.dl(), &input,
                               EXN_ROPE_HALF, 0};
    if (target.device_type == kDLCPU) {
      EXPECT_EQ(exn_rope_supported(&p), EXN_OK) << exn_last_error();
      continue;
    }
    EXPECT_EQ(exn_rope_supported(&p), EXN_UNSUPPORTED);
    expect_words({"exn_rope", "4294967296", "2147483647"});
  }
}

// Nor to see whether a row is longer than the CUDA kernel counts.
TEST(RopeRows, LongerThanAKernelCounts) {
  for (int64_t heads : {int64_t{1} << 30, (int64_t{1} << 30) - 1}) {
    SCOPED_TRACE(heads);
    int64_t shape[3] = {1, heads, 2};
    for (const Target& target : targets()) {
      SCOPED_TRACE(target.name());
      const DLDevice device = {static_cast<DLDeviceType>(target.device_type), 0};
      Placed table(target, zeros(Type::kF32, {1, 1, 2})), position(target, zeros(Type::kI32, {1}));
      const DLTensor input = {reinterpret_cast<void*>(uintptr_t{1} << 40), device, 3,
                              dl_type(Type::kF32), shape, nullptr, 0};
      const exn_rope_params p = {sizeof p,      &input, position.dl(), table.dl(), &input,
                                 EXN_ROPE_HALF, 0};
      if (target.device_type == kDLCPU || heads < int64_t{1} << 30) {
        EXPECT_EQ(exn_rope_supported(&p), EXN_OK) << exn_last_error();
        continue;
      }
      EXPECT_EQ(exn_rope_supported(&p), EXN_UNSUPPORTED);
      expect_words({"exn_rope", "2147483648", "2147483647"});
    }
  }
}

class Rope : public ::testing::TestWithParam<RopeCase> {};

TEST_P(Rope, MatchesOracle) {
  const RopeCase& c = GetParam();
  const RopeInputs in = make_inputs(c);
  const std::vector<Expected> expected = rope_oracle(c, in);
  HostTensor poison =
      make_heads(c.input.type, c.input.rows, c.heads, c.dim, c.out_pad, c.out_offset);
  poison.bytes = poisoned(c.input.type, {c.input.rows, c.heads * c.dim}, c.out_pad).bytes;
  for (const Target& target : targets()) {
    if (!wanted(c, target)) continue;
    SCOPED_TRACE(target.name());
    Placed input(target, in.input), position(target, in.position), table(target, in.table);
    Placed separate(target, c.in_place ? HostTensor{} : poison);
    Placed& out = c.in_place ? input : separate;
    const exn_rope_params params = {sizeof params, input.dl(), position.dl(), table.dl(), out.dl(),
                                    c.style,       0};
    std::vector<Placed*> read = {&position, &table};
    if (!c.in_place) read.push_back(&input);
    exercise(target, kRope, params, read, {&out});
    if (HasFatalFailure()) return;
    expect_all_agree("rope", expected, out.read());
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Rope,
                         ::testing::ValuesIn(wanted_cases(rope_cases())),
                         CaseName());

// What a table and a rotation are for: lengths stay, and the product of two rotated heads depends
// on their distance alone.
TEST(RopeMeaning, ProductsDependOnDistance) {
  constexpr int64_t kPositions = 300, kPairs = 20, kDim = 2 * kPairs;
  for (const Target& target : targets()) {
    for (int32_t style : {EXN_ROPE_INTERLEAVED, EXN_ROPE_HALF}) {
      SCOPED_TRACE(target.name() + ", style " + std::to_string(style));
      Placed table(target, poisoned(Type::kF32, {kPositions, kPairs, 2}));
      const exn_rope_table_params make = {sizeof make,           table.dl(), 10000, 1,
                                          EXN_ROPE_SCALING_NONE, 0};
      ASSERT_EQ(run_once(target, kTable, make), EXN_OK) << exn_last_error();
      HostTensor x = make_heads(Type::kF32, 4, 1, kDim, 0, 0);
      fill(&x, 3, 0, "normal", 1, "-");
      for (int64_t i = 0; i < kDim; ++i) {  // rows 2 and 3 are rows 0 and 1 at other positions
        for (int64_t r = 0; r < 2; ++r) x.set(r + 2, i, x.at(r, i));
      }
      HostTensor at = make_tensor(Type::kI32, {4});
      const int64_t positions[4] = {40, 17, 250, 227};
      for (int64_t r = 0; r < 4; ++r) at.set_integer(r, positions[r]);
      Placed input(target, x), position(target, at), out(target, x);
      const exn_rope_params p = {sizeof p, input.dl(), position.dl(), table.dl(), out.dl(),
                                 style,    0};
      ASSERT_EQ(run_once(target, kRope, p), EXN_OK) << exn_last_error();
      const HostTensor y = out.read();
      const auto product = [](const HostTensor& t, int64_t a, int64_t b) {
        double sum = 0;
        for (int64_t i = 0; i < kDim; ++i) sum += t.at(a, i) * t.at(b, i);
        return sum;
      };
      for (int64_t r = 0; r < 4; ++r) EXPECT_NEAR(product(y, r, r), product(x, r, r), 1e-4);
      EXPECT_NEAR(product(y, 0, 1), product(y, 2, 3), 1e-4);
      EXPECT_GT(std::fabs(product(y, 0, 1) - product(y, 0, 3)), 0.1);
    }
  }
}

// Refused on the CPU, NaN in the rotated elements of that row alone on CUDA.
TEST(RopePosition, OutsideTheTable) {
  RopeCase c;
  c.input = {3, 20, Type::kF32, 0, 0, "normal", 1, "-"};
  c.heads = 2;
  c.dim = 10;
  c.positions = 6;
  c.pairs = 4;
  for (const Target& target : targets()) {
    for (int32_t bad : {-2, 6, INT32_MAX, INT32_MIN}) {
      SCOPED_TRACE(target.name() + ", position " + std::to_string(bad));
      RopeInputs in = make_inputs(c);
      std::vector<Expected> expected = rope_oracle(c, in);
      in.position.set_integer(1, bad);
      Placed input(target, in.input), position(target, in.position), table(target, in.table),
          out(target, in.input);
      const exn_rope_params p = {sizeof p, input.dl(), position.dl(), table.dl(), out.dl(),
                                 c.style,  0};
      const exn_status status = run_once(target, kRope, p);
      if (target.cpu()) {
        EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
        expect_words({"exn_rope", "position[1]", std::to_string(bad), "-1..5"});
        EXPECT_TRUE(out.unchanged());
        continue;
      }
      ASSERT_EQ(status, EXN_OK) << exn_last_error();
      for (size_t i = 0; i < 20; ++i) {
        if (i % 10 < 8) expected[20 + i].value = std::nan("");
      }
      expect_all_agree("rope", expected, out.read());
    }
  }
}

// In vectors and one by one: what comes out of a row at position -1 is left as it was.
TEST(RopePosition, MinusOneSwitchesOff) {
  for (int64_t dim : {10, 1040}) {
    RopeCase c;
    c.input = {3, 2 * dim, Type::kF32, 0, 0, "normal", 1, "-"};
    c.heads = 2;
    c.dim = dim;
    c.positions = 6;
    c.pairs = dim / 2 - (dim == 10 ? 1 : 8);
    for (const Target& target : targets()) {
      SCOPED_TRACE(target.name() + ", dh " + std::to_string(dim));
      RopeInputs in = make_inputs(c);
      std::vector<Expected> expected = rope_oracle(c, in);
      in.position.set_integer(1, -1);
      const HostTensor before = normal(Type::kF32, {3, 2, dim}, 9);
      Placed input(target, in.input), position(target, in.position), table(target, in.table),
          out(target, before);
      const exn_rope_params p = {sizeof p, input.dl(), position.dl(), table.dl(), out.dl(),
                                 c.style,  0};
      ASSERT_EQ(run_once(target, kRope, p), EXN_OK) << exn_last_error();
      const HostTensor got = out.read();
      for (int64_t i = 2 * dim; i < 4 * dim; ++i) {
        EXPECT_EQ(got.at(0, i), before.at(0, i)) << i;
        expected[static_cast<size_t>(i)].value = before.at(0, i);
      }
      expect_all_agree("rope", expected, got);
    }
  }
}

// 5 positions, of which the last one's last pair of 2 has the angle 4 / sqrt(base).
TEST(RopeMisuse, LargestAngle) {
  Placed table(kCpu, poisoned(Type::kF32, {5, 2, 2}));
  exn_rope_table_params p = {sizeof p, table.dl(), 0x1p-58, 1, EXN_ROPE_SCALING_NONE, 0};
  EXPECT_EQ(exn_rope_table_supported(&p), EXN_OK) << exn_last_error();
  p.base = 0x1p-60;
  expect_refused(kTable, p, {&table}, EXN_INVALID_ARGUMENT, {"base", "4.29497e+09", "2^31"});
  p.factor = 2;
  p.scaling = EXN_ROPE_SCALING_LINEAR;
  EXPECT_EQ(exn_rope_table_supported(&p), EXN_OK) << exn_last_error();
  // The first pair turns by 1 a position under any base.
  Placed one_pair(kCpu, poisoned(Type::kF32, {5, 1, 2}));
  p = {sizeof p, one_pair.dl(), 5e-324, 1, EXN_ROPE_SCALING_NONE, 0};
  EXPECT_EQ(exn_rope_table_supported(&p), EXN_OK) << exn_last_error();
}

TEST(RopeMisuse, Table) {
  Placed table(kCpu, poisoned(Type::kF32, {5, 4, 2}));
  const exn_rope_table_params p = {sizeof p, table.dl(), 10000, 2, EXN_ROPE_SCALING_NTK, 0};
  const std::vector<Placed*> written = {&table};
  expect_sound_struct_sizes(kTable, p, written);
  Spoiler<exn_rope_table_params> spoil(kTable, p, written);
  spoil.required(&exn_rope_table_params::table, "table");
  spoil.tensor(&table, "table", "f32");
  spoil.value(&exn_rope_table_params::reserved, 1, {"reserved", "1", "0"});
  for (int32_t bad : {-1, 3}) {
    spoil.value(&exn_rope_table_params::scaling, bad, {"scaling", std::to_string(bad)});
  }
  for (double bad : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    spoil.value(&exn_rope_table_params::base, bad, {"base"});
  }
  for (double bad : {0.5, -2.0, std::nan(""), HUGE_VAL}) {
    spoil.value(&exn_rope_table_params::factor, bad, {"factor"});
  }
  spoil.value(&exn_rope_table_params::scaling, int32_t{EXN_ROPE_SCALING_NONE},
              {"factor", "2", "1"});
  spoil.value(&exn_rope_table_params::base, 5e-324, {"base", "angle", "2^31"});
  spoil.value(&exn_rope_table_params::base, 1e308, {"base", "inf", "finite"});
  table.mutable_dl()->shape[2] = 3;
  expect_refused(kTable, p, written, EXN_INVALID_ARGUMENT, {"table", "3"});
  table.mutable_dl()->shape[2] = 2;
  table.mutable_dl()->strides[0] = 9;
  expect_refused(kTable, p, written, EXN_INVALID_ARGUMENT, {"table", "9", "8"});
  table.mutable_dl()->strides[0] = 8;
  Placed one_pair(kCpu, poisoned(Type::kF32, {5, 1, 2}));
  exn_rope_table_params q = p;
  q.table = one_pair.dl();
  expect_refused(kTable, q, {&one_pair}, EXN_INVALID_ARGUMENT, {"pairs", "1", "2"});
}

TEST(RopeMisuse, Rope) {
  RopeCase c;
  c.input = {3, 20, Type::kF32, 2, 0, "normal", 1, "-"};
  c.heads = 2;
  c.dim = 10;
  c.positions = 6;
  c.pairs = 4;
  const RopeInputs in = make_inputs(c);
  Placed input(kCpu, in.input), position(kCpu, in.position), table(kCpu, in.table),
      out(kCpu, in.input);
  const exn_rope_params p = {sizeof p,      input.dl(), position.dl(), table.dl(), out.dl(),
                             EXN_ROPE_HALF, 0};
  const std::vector<Placed*> written = {&out};
  expect_sound_struct_sizes(kRope, p, written);
  Spoiler<exn_rope_params> spoil(kRope, p, written);
  spoil.required(&exn_rope_params::input, "input");
  spoil.required(&exn_rope_params::position, "position");
  spoil.required(&exn_rope_params::table, "table");
  spoil.required(&exn_rope_params::out, "out");
  spoil.value(&exn_rope_params::reserved, -7, {"reserved", "-7", "0"});
  spoil.tensor(&input, "input", "bf16");
  spoil.tensor(&position, "position", "i32");
  spoil.tensor(&table, "table", "f32");
  spoil.tensor(&out, "out", "bf16");
  for (auto [t, name] :
       {std::pair<Placed*, const char*>{&position, "position"}, {&table, "table"}, {&out, "out"}}) {
    spoil.on_another_device(t, name);
  }
  spoil.size(&position, "position", 0, 2);
  spoil.size(&out, "out", 0, 2);
  spoil.size(&out, "out", 1, 1);
  for (int32_t bad : {-1, 2}) {
    spoil.value(&exn_rope_params::style, bad, {"style", std::to_string(bad)});
  }
  // No rows, but of more elements than there are addresses.
  const int64_t huge = int64_t{1} << 40;
  int64_t none[3] = {0, huge, huge}, *const good = input.mutable_dl()->shape;
  input.mutable_dl()->shape = none;
  expect_refused(kRope, p, written, EXN_INVALID_ARGUMENT,
                 {"input has size " + std::to_string(huge) + " in axis 2"});
  input.mutable_dl()->shape = good;
  out.mutable_dl()->dtype = dl_type(Type::kBF16);
  expect_refused(kRope, p, written, EXN_INVALID_ARGUMENT, {"out", "bf16", "input", "f32"});
  out.mutable_dl()->dtype = dl_type(Type::kF32);
  spoil.overlap(&out, "out", input, "input", 16);
  spoil.overlap(&out, "out", table, "table");
  Placed wide(kCpu, normal(Type::kF32, {6, 6, 2}));
  exn_rope_params q = p;
  q.table = wide.dl();
  expect_refused(kRope, q, written, EXN_INVALID_ARGUMENT, {"table", "12", "10"});
  input.mutable_dl()->strides[1] = 11;
  expect_refused(kRope, p, written, EXN_INVALID_ARGUMENT, {"input", "11", "10"});
}

}  // namespace
}  // namespace exn::test
