// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "expected.h"
#include "table.h"

namespace exn::test {
inline namespace gate_op {

struct GateCase : CaseBase {
  MatrixSpec features;
  std::vector<MatrixSpec> weights = {MatrixSpec()};  // of hidden_weight and out_weight in turn
  int32_t kind = EXN_GATE_LINEAR;
  int32_t repeats = 0;
  bool hidden_bias = false;
  int64_t classes = 1;
  bool out_bias = false;

  // Times the hidden part is applied.
  int32_t hidden_layers() const { return kind == EXN_GATE_LINEAR ? 0 : repeats; }
  MatrixSpec hidden_weight() const {
    const int64_t matrices = kind == EXN_GATE_TANH ? repeats : 1;
    return sized(weights, 0, matrices * features.cols, features.cols);
  }
  MatrixSpec out_weight() const { return sized(weights, 1, classes, features.cols); }
};

struct GateInputs {
  HostTensor features, hidden_weight, hidden_bias, out_weight, out_bias;
};

// One entry per row. A row with an infinity whose probability depends on the order of operations
// has bound +inf.
std::vector<Expected> gate_oracle(const GateCase& c, const GateInputs& in);

}  // namespace gate_op
}  // namespace exn::test
