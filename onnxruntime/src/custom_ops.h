// SPDX-License-Identifier: Apache-2.0
// Ops of the domain org.exeunt, for graphs that were made for them.
#pragma once

#include <memory>
#include <vector>

#include "ort.h"

namespace exn::ort {

class CustomOps {
 public:
  explicit CustomOps(const Api& api);
  ~CustomOps();
  CustomOps(const CustomOps&) = delete;
  CustomOps& operator=(const CustomOps&) = delete;

  OrtCustomOpDomain* domain() { return domain_; }

 private:
  const Api& api_;
  OrtCustomOpDomain* domain_ = nullptr;
  std::vector<std::unique_ptr<OrtCustomOp>> ops_;
};

}  // namespace exn::ort
