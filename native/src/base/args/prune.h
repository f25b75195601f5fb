// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/prune.h>

#include "../args.h"

namespace exn {

// A tensor of weights to prune. One without a norm whose elements lie in one run is seen as one row,
// unless each row is pruned on its own.
struct PruneTensor {
  const void* weight = nullptr;
  const float* norm = nullptr;  // [cols]
  uint8_t* mask = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;
  int64_t mask_stride = 0;
  int64_t wanted = 0;  // elements to prune of the tensor, or of each of its rows

  EXN_INLINE int64_t size() const { return rows * cols; }
};

struct PruneMaskArgs {
  int32_t device = 0;
  int32_t tensor_count = 0;
  int32_t scope = 0;
  bool largest = false;
  bool first = false;
  int64_t wanted = 0;  // of all tensors together
  PruneTensor tensors[EXN_PRUNE_MAX_TENSORS];
};

// What is to be 0 where a mask is: elements of so many bytes.
struct PruneValues {
  void* data = nullptr;
  int64_t stride = 0;
  int64_t element = 0;
};
constexpr int kPruned = 4;  // weight, grad, momentum, variance

// Seen as one row where the elements of all of them lie in one run.
struct PruneApplyTensor {
  const uint8_t* mask = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t mask_stride = 0;
  int32_t count = 0;
  PruneValues values[kPruned];
};

struct PruneApplyArgs {
  int32_t device = 0;
  int32_t tensor_count = 0;
  PruneApplyTensor tensors[EXN_PRUNE_MAX_TENSORS];
};

}  // namespace exn
