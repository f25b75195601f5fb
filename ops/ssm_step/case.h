// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "expected.h"
#include "table.h"

namespace exn::test {
inline namespace ssm_step_op {

struct SsmStepCase : CaseBase {
  MatrixSpec x;
  int32_t stage = EXN_SSM_SCAN;
  int64_t states = 1;
  int64_t width = 1;
  std::string weight = "mamba";
  int64_t weight_offset = 0;
  Type dt_type = Type::kF32;
  float dt_scale = 1;
  Type bc_type = Type::kF32;
  bool gated = false;
  Type z_type = Type::kF32;
  int64_t pad = 0;  // of dt, b, c and z
  bool bias = false;
  bool skip = false;
  bool has_out = true;
  Type out_type = Type::kF32;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  bool in_place = false;
  std::string sequence = "-";
  std::string active = "-";
};

struct SsmStepInputs {
  HostTensor x, state, weight, bias, dt, b, c, skip, z, sequence, active;
};

SsmStepInputs make_inputs(const SsmStepCase& c);

struct SsmStepExpected {
  std::vector<Expected> state;  // [S,Di,N]
  std::vector<Expected> out;    // [R,Di]
};

// Rows of no sequence are inactive.
SsmStepExpected ssm_step_oracle(const SsmStepCase& c, const SsmStepInputs& in);

}  // namespace ssm_step_op
}  // namespace exn::test
