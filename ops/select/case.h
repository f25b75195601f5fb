// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "selection.h"

namespace exn::test {
inline namespace select_op {

struct SelectCase : CaseBase {
  MatrixSpec scores;  // of all heads
  int64_t heads = 0;
  std::string limit;
  SelectionSpec selection;

  int64_t summed() const { return heads > 1 ? heads : 1; }
  int64_t rows() const { return scores.rows / summed(); }
};

struct SelectInputs {
  HostTensor scores, limit;
  SelectionInputs selection;
};

SelectExpected select_oracle(const SelectCase& c, const SelectInputs& in);

}  // namespace select_op
}  // namespace exn::test
