// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "expected.h"
#include "table.h"

namespace exn::test {
inline namespace norm_op {

struct NormCase : CaseBase {
  MatrixSpec input;
  Type out_type = Type::kF32;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  int32_t norm = EXN_NORM_RMS;
  float eps = 0;
  bool bias = false;
  bool in_place = false;
};

struct NormInputs {
  HostTensor input, weight, bias;
};

// Row-major over the elements of the output.
std::vector<Expected> norm_oracle(const NormCase& c, const NormInputs& in);

}  // namespace norm_op
}  // namespace exn::test
