// SPDX-License-Identifier: Apache-2.0
#include "rotated_rows.h"

#include "base/args/linear.h"
#include "pool.h"

namespace exn::cpu {

void RotatedRows::read(int64_t first, int64_t count, int64_t step) {
  wide_.resize(size(2 * kAtOnce * dim_));
  narrow_.resize(size(kAtOnce * dim_));
  rotated_.resize(size(kAtOnce * dim_));
  parallel_for(count, 16, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      double* const w = wide_.data() + 2 * r * dim_;
      reader_.read(first + r * step, w, w + dim_);
      for (int64_t i = 0; i < dim_; ++i) narrow_[size(r * dim_ + i)] = static_cast<float>(w[i]);
    }
  });
}

exn_status RotatedRows::rotate(const float* rotation, int64_t count) {
  LinearArgs linear;
  linear.input = {narrow_.data(), DType::kF32, count, dim_, dim_, Blocks::kNone};
  linear.weight = {const_cast<float*>(rotation), DType::kF32, dim_, dim_, dim_, Blocks::kNone};
  linear.out = {rotated_.data(), DType::kF32, count, dim_, dim_, Blocks::kNone};
  Workspace counter;
  kernels_.linear(linear, counter);
  if (space_.size() < counter.used() + kScreenAlign) space_.resize(counter.used() + kScreenAlign);
  const auto at = reinterpret_cast<uintptr_t>(space_.data());
  const uintptr_t skip = (kScreenAlign - at % kScreenAlign) % kScreenAlign;
  Workspace carved(space_.data() + skip, counter.used());
  return kernels_.linear(linear, carved);
}

}  // namespace exn::cpu
