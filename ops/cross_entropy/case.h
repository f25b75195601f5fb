// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "judge.h"

namespace exn::test {
inline namespace cross_entropy_op {

struct CrossEntropyCase : CaseBase {
  MatrixSpec logits;
  int64_t grad_pad = 0;
  int64_t grad_offset = 0;
  Type label_type = Type::kI64;
  std::string labels;
  int64_t ignore_index = 0;
  int32_t normalizer = EXN_STABLEMAX;
  int32_t reduction = EXN_REDUCE_MEAN;
  bool loss = true;
  bool grad = true;
  bool in_place = false;
};

struct CrossEntropyInputs {
  HostTensor logits, labels;
};

CrossEntropyInputs make_inputs(const CrossEntropyCase& c);

struct CrossEntropyExpected {
  std::vector<Expected> loss;  // [R] or [1]
  std::vector<Expected> grad;  // row-major [R,V]
};

CrossEntropyExpected cross_entropy_oracle(const CrossEntropyCase& c, const CrossEntropyInputs& in);

std::unique_ptr<Instance> instantiate(const CrossEntropyCase& c, const CrossEntropyInputs& in,
                                      int32_t device_type);
Complaint judge(const CrossEntropyCase& c, const CrossEntropyExpected& expected,
                const Outputs& got);

}  // namespace cross_entropy_op
}  // namespace exn::test
