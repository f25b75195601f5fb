// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "common/case.h"
#include "expected.h"

namespace exn::test {
inline namespace rope_op {

struct RopeCase : CaseBase {
  MatrixSpec input;  // cols = heads * dim
  int64_t heads = 1;
  int64_t dim = 0;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  bool in_place = false;
  int64_t positions = 0;
  int64_t pairs = 0;
  std::string table = "normal";
  std::string position = "random";
  int32_t style = EXN_ROPE_HALF;
};

struct RopeInputs {
  HostTensor input, position, table;
  HostTensor out;  // as it is before the call; not given if in_place
};

RopeInputs make_inputs(const RopeCase& c);

// Row-major over the elements of the output.
std::vector<Expected> rope_oracle(const RopeCase& c, const RopeInputs& in);

std::unique_ptr<Instance> instantiate(const RopeCase& c, const RopeInputs& in, int32_t device_type);

}  // namespace rope_op
}  // namespace exn::test
