// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "judge.h"

namespace exn::test {
inline namespace elr_op {

struct ElrCase : CaseBase {
  MatrixSpec logits;
  int64_t grad_pad = 0;
  int64_t grad_offset = 0;
  Type label_type = Type::kI64;
  std::string labels = "random";
  int64_t ignore_index = -100;
  int64_t samples = 0;
  std::string index = "shuffled";
  std::string targets = "warm";
  int64_t target_pad = 0;
  int64_t target_offset = 0;
  float beta = 0.7f;
  float lambda = 3;
  int32_t reduction = EXN_REDUCE_MEAN;
  bool loss = true;
  bool grad = true;
  bool in_place = false;
};

struct ElrInputs {
  HostTensor logits, labels, index, targets;
};

ElrInputs make_inputs(const ElrCase& c);

struct ElrExpected {
  std::vector<Expected> targets;  // [N,V]
  std::vector<Expected> loss;     // [R] or [1]
  std::vector<Expected> grad;     // [R,V]
};

// A row whose label or index cannot be is NaN, as on a device.
ElrExpected elr_oracle(const ElrCase& c, const ElrInputs& in);

std::unique_ptr<Instance> instantiate(const ElrCase& c, const ElrInputs& in, int32_t device_type);
Complaint judge(const ElrCase& c, const ElrExpected& expected, const Outputs& got);

}  // namespace elr_op
}  // namespace exn::test
