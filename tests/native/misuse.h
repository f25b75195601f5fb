// SPDX-License-Identifier: Apache-2.0
// Misuse: how the suites check that wrong arguments are refused with the right status and a
// sentence that names them and the two values that disagree, and that nothing is written.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "harness.h"

namespace exn::test {

inline const Target kCpu = {kDLCPU, "", false};
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

using Words = std::vector<std::string>;

inline void expect_words(const Words& words) {
  const std::string error = exn_last_error();
  for (const std::string& word : words) {
    EXPECT_NE(error.find(word), std::string::npos) << "'" << word << "' in: " << error;
  }
}

inline HostTensor normal(Type type, std::vector<int64_t> shape, uint64_t stream = 0) {
  HostTensor t = make_tensor(type, std::move(shape));
  fill(&t, 1, stream, "normal", 1, "-");
  return t;
}

inline HostTensor zeros(Type type, std::vector<int64_t> shape) {
  HostTensor t = make_tensor(type, std::move(shape));
  std::fill(t.bytes.begin(), t.bytes.end(), 0);
  return t;
}

// All three functions of an op must refuse the arguments with `status`, say `words`,
// and leave the outputs alone.
template <class Params>
void expect_refused(const Op<Params>& op, const Params& params, const std::vector<Placed*>& written,
                    exn_status status, const Words& words) {
  EXPECT_EQ(op.supported(&params), status);
  expect_words(words);
  size_t bytes = 12345;
  EXPECT_EQ(op.workspace_size(&params, &bytes), status);
  expect_words(words);
  EXPECT_EQ(bytes, 12345u) << "a refused size query wrote a size";
  DeviceMemory workspace(kCpu, 1 << 20);
  EXPECT_EQ(without_allocations(
                op.name, [&] { return op.run(&params, workspace.data(), 1 << 20, nullptr); }),
            status);
  expect_words(words);
  for (const Placed* t : written) {
    EXPECT_TRUE(t->unchanged()) << op.name << " wrote an output of a call that it refused";
  }
}

// Checks that hold for the params struct of every op.
template <class Params>
void expect_sound_struct_sizes(const Op<Params>& op, const Params& params,
                               const std::vector<Placed*>& written) {
  Params p = params;
  for (uint64_t size :
       {uint64_t{0}, uint64_t{8}, uint64_t{sizeof(Params) - 1}, uint64_t{5000}, ~uint64_t{0}}) {
    p.struct_size = size;
    expect_refused(op, p, written, EXN_INVALID_ARGUMENT, {"struct_size", std::to_string(size)});
  }
  struct {
    Params known;
    uint64_t unknown;
  } longer = {params, 0};
  longer.known.struct_size = sizeof longer;
  EXPECT_EQ(op.supported(&longer.known), EXN_OK) << exn_last_error();
  longer.unknown = 1;
  expect_refused(op, longer.known, written, EXN_UNSUPPORTED,
                 {"struct_size", std::to_string(sizeof longer), std::to_string(sizeof(Params))});
  EXPECT_EQ(op.supported(nullptr), EXN_INVALID_ARGUMENT);
  expect_words({"params", "null"});
  size_t bytes = 0;
  EXPECT_EQ(op.workspace_size(nullptr, &bytes), EXN_INVALID_ARGUMENT);
  EXPECT_EQ(op.workspace_size(&params, nullptr), EXN_INVALID_ARGUMENT);
  expect_words({"bytes", "null"});
  EXPECT_EQ(op.run(nullptr, nullptr, 0, nullptr), EXN_INVALID_ARGUMENT);
}

// Ways to spoil a tensor, each undone before the next.
template <class Params>
class Spoiler {
 public:
  Spoiler(const Op<Params>& op, const Params& params, std::vector<Placed*> written)
      : op_(op), params_(params), written_(std::move(written)) {}

  // A required tensor of rank `rank`, called `name`, that takes `dtypes`.
  void required(const DLTensor* Params::* field, const char* name) {
    SCOPED_TRACE(name);
    Params p = params_;
    p.*field = nullptr;
    expect_refused(op_, p, written_, EXN_INVALID_ARGUMENT, {name, "null"});
  }

  void tensor(Placed* t, const char* name, const char* dtype_word) {
    SCOPED_TRACE(name);
    DLTensor* dl = t->mutable_dl();
    const DLTensor good = *dl;
    const auto spoilt = [&](const Words& words) {
      expect_refused(op_, params_, written_, EXN_INVALID_ARGUMENT, words);
      *dl = good;
    };
    dl->dtype = {kDLInt, 16, 1};
    spoilt({name, "16", dtype_word});
    dl->dtype.lanes = 2;
    spoilt({name, "lanes 2", dtype_word});
    dl->dtype = {kDLUInt, 32, 1};
    spoilt({name, "32", dtype_word});
    dl->ndim = good.ndim == 1 ? 2 : 1;
    std::vector<int64_t> other_shape(2, 1);
    dl->shape = other_shape.data();
    spoilt({name});
    dl->shape = nullptr;
    spoilt({name, "shape"});
    std::vector<int64_t> negative(good.shape, good.shape + good.ndim);
    negative[0] = -3;
    dl->shape = negative.data();
    spoilt({name, "-3"});
    dl->device.device_type = static_cast<DLDeviceType>(77);
    spoilt({name, "77"});
    dl->data = nullptr;
    dl->byte_offset = 0;
    spoilt({name, "null"});
    if (good.dtype.bits > 8) {
      dl->byte_offset += 1;
      spoilt({name, "aligned", std::to_string(good.dtype.bits / 8)});
    }
    dl->byte_offset = ~uint64_t{63};
    spoilt({name, "byte_offset", std::to_string(dl->byte_offset), "last address"});
    dl->data = reinterpret_cast<void*>(uintptr_t{0} - good.dtype.bits / 8);
    dl->byte_offset = 0;
    spoilt({name, "bytes", "last address"});
    std::vector<int64_t> strides(good.strides, good.strides + good.ndim);
    if (good.shape[good.ndim - 1] > 1) {
      strides.back() = 2;
      dl->strides = strides.data();
      spoilt({name, "stride", "2", "1"});
    }
  }

  // `t` is not the first tensor of the call.
  void on_another_device(Placed* t, const char* name) {
    SCOPED_TRACE(name);
    DLTensor* dl = t->mutable_dl();
    const DLTensor good = *dl;
    dl->device.device_id = 1;
    expect_refused(op_, params_, written_, EXN_INVALID_ARGUMENT, {name, "cpu:1", "cpu:0"});
    dl->device = {kDLCUDA, 0};
    expect_refused(op_, params_, written_, EXN_INVALID_ARGUMENT, {name, "cuda:0", "cpu:0"});
    *dl = good;
  }

  void size(Placed* t, const char* name, int axis, int64_t wrong) {
    SCOPED_TRACE(name);
    DLTensor* dl = t->mutable_dl();
    const int64_t good = dl->shape[axis];
    dl->shape[axis] = wrong;
    expect_refused(op_, params_, written_, EXN_INVALID_ARGUMENT,
                   {name, std::to_string(wrong), std::to_string(good)});
    dl->shape[axis] = good;
  }

  template <class Value>
  void value(Value Params::* field, Value wrong, const Words& words) {
    SCOPED_TRACE(::testing::PrintToString(wrong));
    Params p = params_;
    p.*field = wrong;
    expect_refused(op_, p, written_, EXN_INVALID_ARGUMENT, words);
  }

  // `out` begins where `other` does, shifted by `bytes`.
  void overlap(Placed* out, const char* name, const Placed& other, const char* other_name,
               uint64_t bytes = 0) {
    SCOPED_TRACE(std::string(name) + " over " + other_name);
    DLTensor* dl = out->mutable_dl();
    const DLTensor good = *dl;
    dl->data = other.dl()->data;
    dl->byte_offset = other.dl()->byte_offset + bytes;
    expect_refused(op_, params_, written_, EXN_INVALID_ARGUMENT, {"overlaps", name, other_name});
    *dl = good;
  }

 private:
  const Op<Params>& op_;
  const Params& params_;
  std::vector<Placed*> written_;
};

}  // namespace exn::test
