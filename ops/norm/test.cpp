// SPDX-License-Identifier: Apache-2.0
#include "misuse.h"

namespace exn::test {
namespace {

const Op<exn_norm_params> kOp = EXN_TEST_OP(norm);

TEST(NormMisuse, EveryArgument) {
  Placed input(kCpu, normal(Type::kF32, {3, 8})), out(kCpu, poisoned(Type::kF32, {3, 8}, 2));
  Placed weight(kCpu, normal(Type::kF32, {8})), bias(kCpu, normal(Type::kF32, {8}));
  exn_norm_params p = {sizeof p, input.dl(),     weight.dl(), bias.dl(),
                       out.dl(), EXN_NORM_LAYER, 1e-5f};
  const std::vector<Placed*> written = {&out};
  expect_sound_struct_sizes(kOp, p, written);
  Spoiler<exn_norm_params> spoil(kOp, p, written);
  spoil.required(&exn_norm_params::input, "input");
  spoil.required(&exn_norm_params::weight, "weight");
  spoil.required(&exn_norm_params::out, "out");
  spoil.tensor(&input, "input", "bf16");
  spoil.tensor(&weight, "weight", "f32");
  spoil.tensor(&bias, "bias", "f32");
  spoil.tensor(&out, "out", "bf16");
  for (auto [t, name] :
       {std::pair<Placed*, const char*>{&weight, "weight"}, {&bias, "bias"}, {&out, "out"}}) {
    spoil.on_another_device(t, name);
  }
  spoil.size(&weight, "weight", 0, 7);
  spoil.size(&bias, "bias", 0, 9);
  spoil.size(&out, "out", 0, 2);
  spoil.size(&out, "out", 1, 7);
  for (int32_t bad : {-1, 3}) {
    spoil.value(&exn_norm_params::norm, bad, {"norm", std::to_string(bad)});
  }
  for (float bad : {-1.0f, kNaN, kInf}) spoil.value(&exn_norm_params::eps, bad, {"eps"});
  spoil.value(&exn_norm_params::norm, int32_t{EXN_NORM_RMS}, {"bias", "EXN_NORM_LAYER"});
  p.bias = nullptr;
  spoil.value(&exn_norm_params::norm, int32_t{EXN_NORM_NONE}, {"weight", "EXN_NORM_NONE"});
  spoil.overlap(&out, "out", input, "input", 32);
  spoil.overlap(&out, "out", weight, "weight");
  // In place, but in another dtype: the ranges differ, or the elements of a row would be
  // overwritten before they are read.
  out.mutable_dl()->dtype = dl_type(Type::kBF16);
  out.mutable_dl()->data = input.dl()->data;
  out.mutable_dl()->byte_offset = input.dl()->byte_offset;
  expect_refused(kOp, p, {&input, &out}, EXN_INVALID_ARGUMENT, {"overlaps", "out", "input"});
}

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
