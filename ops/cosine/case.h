// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "expected.h"

namespace exn::test {
inline namespace cosine_op {

// One entry per row.
std::vector<Expected> cosine_oracle(const HostTensor& a, const HostTensor& b);

}  // namespace cosine_op
}  // namespace exn::test
