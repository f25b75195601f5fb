// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "judge.h"
#include "table.h"

namespace exn::test {
inline namespace hired_budget_op {

enum HiredOutput { kHiredMarks, kHiredValid };

struct HiredBudgetCase : CaseBase {
  MatrixSpec attention;
  int64_t patch_rows = 1;
  int64_t patch_cols = 1;
  double rate = 0;
  double alpha = 0;
  int64_t grid_rows = 0;
  int64_t grid_cols = 0;
  int32_t score = EXN_HIRED_SUM;
  int32_t region = EXN_HIRED_GRID;
  int32_t remainder = EXN_HIRED_TRUNCATE;
  uint32_t outputs = 0;

  int64_t parts() const { return grid_rows * grid_cols; }
  int64_t patches() const { return patch_rows * patch_cols; }
};

std::vector<HiredBudgetCase> hired_budget_cases();
HostTensor make_attention(const HiredBudgetCase& c);

struct HiredBudgetExpected {
  std::vector<int32_t> budget;  // [I,P]
  std::vector<uint8_t> marks;   // [I,Nv]
  std::vector<uint8_t> valid;   // [I]
  // [I]: the order in which the attention of a region is summed may change a budget of the image.
  std::vector<bool> uncertain;
};

HiredBudgetExpected hired_budget_oracle(const HiredBudgetCase& c, const HostTensor& attention);

}  // namespace hired_budget_op
}  // namespace exn::test
