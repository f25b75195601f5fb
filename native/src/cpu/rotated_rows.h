// SPDX-License-Identifier: Apache-2.0
// Some rows of a head at a time, as they are and in the directions of a screen.
#pragma once

#include <vector>

#include "kernels.h"
#include "screen_draft.h"
#include "weight_reader.h"

namespace exn::cpu {

class RotatedRows {
 public:
  static constexpr int64_t kAtOnce = 1024;

  RotatedRows(const Matrix& weight, const Kernels& kernels)
      : reader_(weight), kernels_(kernels), dim_(weight.cols) {}

  // Takes `count` rows, every step-th from `first` on, up to kAtOnce.
  void read(int64_t first, int64_t count, int64_t step);
  // Multiplies them by `rotation` [D, D], transposed, in f32.
  exn_status rotate(const float* rotation, int64_t count);

  // Of the r-th row that was read: its elements and what the sums of their products are made of,
  // [2, D]; and what it is in the directions, [D].
  const double* wide(int64_t r) const { return wide_.data() + 2 * r * dim_; }
  const float* rotated(int64_t r) const { return rotated_.data() + r * dim_; }

 private:
  WeightReader reader_;
  const Kernels& kernels_;
  const int64_t dim_;
  std::vector<double> wide_;
  std::vector<float> narrow_, rotated_;
  std::vector<char> space_;  // of the product
};

}  // namespace exn::cpu
