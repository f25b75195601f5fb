// SPDX-License-Identifier: Apache-2.0
// A norm that stands alone, or behind a sum, or a softmax.
#pragma once

#include "calls.h"
#include "match.h"

namespace exn::ort {

class RowNorm : public Step {
 public:
  RowNorm(const Graph& graph, const Norm& norm, const std::vector<std::string>& inputs,
          const std::vector<std::string>& outputs);

  void run(OrtKernelContext* context) const override;

 private:
  const Api& api_;
  int kind_;
  bool softmax_;
  float eps_;
  std::vector<float> weight_, bias_, add_;
  size_t input_, skip_ = 0;
  bool skips_;
  int output_ = -1, sum_ = -1;  // -1: nobody reads it
  int32_t type_;
  mutable Scratch scratch_;
};

}  // namespace exn::ort
