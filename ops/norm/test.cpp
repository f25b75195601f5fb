// SPDX-License-Identifier: Apache-2.0
#include "misuse.h"

namespace exn::test {
namespace {
const Op<exn_norm_params> kOp = EXN_TEST_OP(norm);

// A CUDA launch has a block for each row; nothing is read to see whether there are as many.
TEST(NormRows, MoreRowsThanALaunchHasBlocks) {
  int64_t shape[2] = {int64_t{1} << 32, 1};
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const DLDevice device = {static_cast<DLDeviceType>(target.device_type), 0};
    Placed weight(target, normal(Type::kF32, {1}));
    const uintptr_t nowhere = uintptr_t{1} << 40;
    void* const data = reinterpret_cast<void*>(nowhere);
    const DLTensor input = {data, device, 2, dl_type(Type::kF32), shape, nullptr, 0};
    const exn_norm_params p = {sizeof p, &input, weight.dl(), nullptr, &input, EXN_NORM_RMS, 1e-5f};
    if (target.device_type == kDLCPU) {
      EXPECT_EQ(exn_norm_supported(&p), EXN_OK) << exn_last_error();
      continue;
    }
    EXPECT_EQ(exn_norm_supported(&p), EXN_UNSUPPORTED);
    expect_words({"exn_norm", "4294967296", "2147483647"});
  }
}

TEST(NormMisuse, NoColumns) {
  Placed input(kCpu, normal(Type::kF32, {3, 8})), weight(kCpu, normal(Type::kF32, {8})),
      out(kCpu, poisoned(Type::kF32, {3, 8}));
  const exn_norm_params p = {sizeof p, input.dl(), weight.dl(), nullptr, out.dl(), EXN_NORM_RMS, 0};
  input.mutable_dl()->shape[1] = 0;
  expect_refused(kOp, p, {&out}, EXN_INVALID_ARGUMENT, {"D", "0", "1"});
}

}  // namespace
}  // namespace exn::test
