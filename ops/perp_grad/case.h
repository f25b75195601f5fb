// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "expected.h"

namespace exn::test {
inline namespace perp_grad_op {

struct PerpGradExpected {
  std::vector<Expected> out;
  // The gradient is so nearly parallel to the weights that rounding decides whether the guard
  // returns 0 or a vector of noise no longer than the gradient: `norm` bounds its length, `out` is
  // not to be compared.
  bool noise = false;
  double norm = 0;
};

// Both are one row of all their elements.
PerpGradExpected perp_grad_oracle(const HostTensor& weight, const HostTensor& grad, int32_t form);

}  // namespace perp_grad_op
}  // namespace exn::test
