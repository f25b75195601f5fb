// SPDX-License-Identifier: Apache-2.0
// A norm that stands alone, or after a sum, or a softmax.
#pragma once

#include "frame.h"
#include "match.h"

namespace exn::ort {

class RowNorm : public Step {
 public:
  RowNorm(const Graph& graph, const Norm& norm);

  void bind(const Places& inputs, const Places& outputs) override;
  void run(Frame& frame) const override;

 private:
  const Api& api_;
  int kind_;
  bool softmax_;
  float eps_;
  std::vector<float> weight_, bias_, add_;
  bool skips_;
  Slot input_, skip_, output_, sum_;
  bool writes_ = false, writes_sum_ = false;  // whether anybody reads them
  mutable Scratch scratch_;
};

}  // namespace exn::ort
