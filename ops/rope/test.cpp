// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>

#include "misuse.h"
#include "rope/case.h"

namespace exn::test {
namespace {
const Op<exn_rope_params> kOp = EXN_TEST_OP(rope);

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
    const exn_rope_params p = {sizeof p, &input, &position, table.dl(), &input, EXN_ROPE_HALF, 0};
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
      const DLTensor input = {reinterpret_cast<void*>(uintptr_t{1} << 40),
                              device,
                              3,
                              dl_type(Type::kF32),
                              shape,
                              nullptr,
                              0};
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

TEST(RopeTables, HeadsAreCompactAndRowsPadded) {
  const HostTensor t = make_heads(Type::kF16, 3, 2, 5, 4, 1);
  EXPECT_EQ(t.shape, (std::vector<int64_t>{3, 2, 5}));
  EXPECT_EQ(t.stride, 14);
  const Placed placed(kCpu, t);
  EXPECT_EQ(placed.dl()->strides[0], 14);
  EXPECT_EQ(placed.dl()->strides[1], 5);
  EXPECT_EQ(placed.dl()->strides[2], 1);
}

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
      ASSERT_EQ(run_once(target, EXN_TEST_OP(rope_table), make), EXN_OK) << exn_last_error();
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
      ASSERT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
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

RopeCase sample(int64_t dim, int64_t pairs) {
  RopeCase c;
  c.input = {3, 2 * dim, Type::kF32, 0, 0, "normal", 1, "-"};
  c.heads = 2;
  c.dim = dim;
  c.positions = 6;
  c.pairs = pairs;
  return c;
}

// Refused on the CPU, NaN in the rotated elements of that row alone on CUDA.
TEST(RopePosition, OutsideTheTable) {
  const RopeCase c = sample(10, 4);
  for (const Target& target : targets()) {
    for (int32_t bad : {-2, 6, INT32_MAX, INT32_MIN}) {
      SCOPED_TRACE(target.name() + ", position " + std::to_string(bad));
      RopeInputs in = make_inputs(c);
      std::vector<Expected> expected = rope_oracle(c, in);
      in.position.set_integer(1, bad);
      const std::unique_ptr<Instance> instance = instantiate(c, in, target);
      const exn_status status = run_once(target, instance->calls()[0]);
      if (target.cpu()) {
        EXPECT_EQ(status, EXN_INVALID_ARGUMENT);
        expect_words({"exn_rope", "position[1]", std::to_string(bad), "-1..5"});
        EXPECT_TRUE(instance->outputs_unchanged());
        continue;
      }
      ASSERT_EQ(status, EXN_OK) << exn_last_error();
      for (size_t i = 0; i < 20; ++i) {
        if (i % 10 < 8) expected[20 + i].value = std::nan("");
      }
      expect_all_agree("rope", expected, instance->outputs()[0]);
    }
  }
}

// In vectors and one by one: what comes out of a row at position -1 is left as it was.
TEST(RopePosition, MinusOneSwitchesOff) {
  for (const RopeCase& c : {sample(10, 4), sample(1040, 512)}) {
    for (const Target& target : targets()) {
      SCOPED_TRACE(target.name() + ", dh " + std::to_string(c.dim));
      RopeInputs in = make_inputs(c);
      std::vector<Expected> expected = rope_oracle(c, in);
      in.position.set_integer(1, -1);
      in.out = normal(Type::kF32, {3, 2, c.dim}, 9);
      const std::unique_ptr<Instance> instance = instantiate(c, in, target);
      ASSERT_EQ(run_once(target, instance->calls()[0]), EXN_OK) << exn_last_error();
      const HostTensor got = instance->outputs()[0];
      for (int64_t i = 2 * c.dim; i < 4 * c.dim; ++i) {
        EXPECT_EQ(got.at(0, i), in.out.at(0, i)) << i;
        expected[static_cast<size_t>(i)].value = in.out.at(0, i);
      }
      expect_all_agree("rope", expected, got);
    }
  }
}

TEST(RopeMisuse, EveryArgument) {
  RopeCase c = sample(10, 4);
  c.input.pad = c.out_pad = 2;
  const RopeInputs in = make_inputs(c);
  Placed input(kCpu, in.input), position(kCpu, in.position), table(kCpu, in.table),
      out(kCpu, in.out);
  const exn_rope_params p = {sizeof p,      input.dl(), position.dl(), table.dl(), out.dl(),
                             EXN_ROPE_HALF, 0};
  const std::vector<Placed*> written = {&out};
  // No rows, but of more elements than there are addresses.
  const int64_t huge = int64_t{1} << 40;
  int64_t none[3] = {0, huge, huge}, *const good = input.mutable_dl()->shape;
  input.mutable_dl()->shape = none;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT,
                 {"input has size " + std::to_string(huge) + " in axis 2"});
  input.mutable_dl()->shape = good;
  out.mutable_dl()->dtype = dl_type(Type::kF32);
  Placed wide(kCpu, normal(Type::kF32, {6, 6, 2}));
  exn_rope_params q = p;
  q.table = wide.dl();
  expect_refused(kOp, q, written, EXN_INVALID_ARGUMENT, {"table", "12", "10"});
  input.mutable_dl()->strides[1] = 11;
}

}  // namespace
}  // namespace exn::test
