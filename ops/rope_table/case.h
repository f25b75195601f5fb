// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "expected.h"
#include "table.h"

namespace exn::test {
inline namespace rope_table_op {

struct RopeTableCase : CaseBase {
  int64_t positions = 0;
  int64_t pairs = 0;
  int64_t offset = 0;
  float base = 10000;
  float factor = 1;
  int32_t scaling = EXN_ROPE_SCALING_NONE;
};

// Row-major over the elements of the table.
std::vector<Expected> rope_table_oracle(const RopeTableCase& c);

}  // namespace rope_table_op
}  // namespace exn::test
