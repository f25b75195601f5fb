// SPDX-License-Identifier: Apache-2.0
// Ops of the domain org.exeunt, for graphs that were made for them, such as one with an If that
// leaves early. Shapes: [...,D] are rows of D elements, [...] the same without the last axis.
//
//   ExitHead(hidden [...,D], weight [V,D], bias [V]?, norm_weight [D]?, norm_bias [D]?)
//     -> argmax i64 [...], p1?, margin?, entropy?, max_logit?, lse?      f32 [...]
//     norm "none" | "rms" | "layer", epsilon 1e-5, normalizer "softmax" | "stablemax",
//     temperature 1, softcap 0
//   RowStats(logits [...,V])  -> as ExitHead
//     normalizer, temperature, softcap
//   StableMax(logits f32 [...,V]) -> f32 [...,V]
//     log 0 | 1
//   Select(scores [...,N]) -> indices i64 [...,min(k,N)], ascending, then -1
//     k
//
// hidden, weight, logits and scores are f32, f16 or bf16, everything else f32. The mathematics is
// that of exeunt's headers.
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
  std::vector<std::shared_ptr<OrtCustomOp>> ops_;
};

}  // namespace exn::ort
