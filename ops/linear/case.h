// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "common/case.h"
#include "expected.h"

namespace exn::test {
inline namespace linear_op {

struct LinearCase : CaseBase {
  MatrixSpec input;
  MatrixSpec weight;
  std::string bias = "-";
  std::string residual = "-";
  int64_t residual_pad = 0;
  Type out_type = Type::kF32;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  bool in_place = false;
  int32_t rounding = EXN_INPUT_INT16;
  MatrixSpec adapter_down;  // rows: 0 without an adapter
  MatrixSpec adapter_up;
  bool adapter_scaled = false;
  bool adapts() const { return adapter_down.rows > 0; }
};

std::vector<LinearCase> linear_cases();

struct LinearInputs {
  HostTensor input, weight, bias, residual, down, up, scale;
};

LinearInputs make_inputs(const LinearCase& c);

// Row-major over the elements of the output.
std::vector<Expected> linear_oracle(const LinearCase& c, const LinearInputs& in);

// The exact products, with errors for an input of which blocks lose such a share (linear.h).
std::vector<Expected> linear_bounds(const LinearInputs& in, double share);

std::unique_ptr<Instance> instantiate(const LinearCase& c, const LinearInputs& in,
                                      int32_t device_type);

}  // namespace linear_op
}  // namespace exn::test
