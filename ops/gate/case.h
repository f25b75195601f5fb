// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "expected.h"
#include "table.h"

namespace exn::test {

struct GateCase : CaseBase {
  MatrixSpec features;
  Type weight_type = Type::kF32;
  float weight_scale = 1;
  int32_t kind = EXN_GATE_LINEAR;
  int32_t repeats = 0;
  bool hidden_bias = false;
  int64_t classes = 1;
  bool out_bias = false;
};

struct GateInputs {
  HostTensor features, hidden_weight, hidden_bias, out_weight, out_bias;
};

// One entry per row. A row with an infinity whose probability depends on the order of operations
// has bound +inf.
std::vector<Expected> gate_oracle(const GateCase& c, const GateInputs& in);

}  // namespace exn::test
