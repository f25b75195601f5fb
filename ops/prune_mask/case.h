// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "table.h"

namespace exn::test {
inline namespace prune_mask_op {

// One tensor of a call.
struct PruneInput {
  HostTensor weight;
  HostTensor norm;  // may be left out
  HostTensor mask;  // as it was before
};

// What all tensors of a call have in common.
struct PruneOptions {
  double ratio = 0;
  int32_t scope = EXN_PRUNE_TENSOR;
  int32_t which = EXN_PRUNE_SMALLEST;
  int32_t rounding = EXN_PRUNE_DOWN;
  bool first = true;
};

// The masks after a call.
std::vector<HostTensor> prune_oracle(const std::vector<PruneInput>& tensors,
                                     const PruneOptions& options);

}  // namespace prune_mask_op
}  // namespace exn::test
