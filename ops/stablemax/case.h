// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "expected.h"

namespace exn::test {
inline namespace stablemax_op {

// Row-major [R,V].
std::vector<Expected> stablemax_oracle(const HostTensor& logits, int32_t normalizer, bool log);

}  // namespace stablemax_op
}  // namespace exn::test
