// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "common/case.h"
#include "expected.h"

namespace exn::test {
inline namespace ffn_op {

struct FfnCase : CaseBase {
  MatrixSpec hidden;
  int64_t width = 0;
  std::vector<MatrixSpec> weights = {MatrixSpec()};  // of gate, up and down in turn
  bool gate = true;
  bool biases = false;
  std::string skip = "-";
  int32_t norm = EXN_NORM_RMS;
  float norm_eps = 0;
  bool norm_bias = false;
  int32_t activation = EXN_ACT_SILU;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  bool in_place = false;
  int32_t rounding = EXN_INPUT_INT16;
  bool cosine = false;
  bool branch_cosine = false;
  bool decision = false;  // a call of ffn_skip_rule follows

  MatrixSpec gate_weight() const { return sized(weights, 0, gate ? width : 0, hidden.cols); }
  MatrixSpec up_weight() const { return sized(weights, 1, width, hidden.cols); }
  MatrixSpec down_weight() const { return sized(weights, 2, hidden.cols, width); }
};

std::vector<FfnCase> ffn_cases();

struct FfnInputs {
  HostTensor hidden, norm_weight, norm_bias, gate_weight, gate_bias, up_weight, up_bias,
      down_weight, down_bias, skip;

  // Rows that the mask does not skip.
  int64_t running() const;
};

FfnInputs make_inputs(const FfnCase& c);

struct FfnExpected {
  std::vector<Expected> out;  // [R,D]
  std::vector<Expected> cosine;
  std::vector<Expected> branch_cosine;
};

FfnExpected ffn_oracle(const FfnCase& c, const FfnInputs& in);

// Outputs: out, and the cosines that the case asks for.
std::unique_ptr<Instance> instantiate(const FfnCase& c, const FfnInputs& in, int32_t device_type);

}  // namespace ffn_op
}  // namespace exn::test
