// SPDX-License-Identifier: Apache-2.0
//
// SpecDec++ for exit_rule and draft_rule: C, the chance that all tokens drafted so far are accepted.
// Rounds as written: a fused multiply-add would decide differently near a threshold.
#pragma once

#include "portable.cuh"

namespace exn::cuda {

// C after one more token. The score is of the token drafted before it, so the first has none.
__device__ __forceinline__ float specdec_accepted(float before, float score, bool first) {
  return first ? 1.0f : __fmul_rn(before, score);
}

__device__ __forceinline__ bool specdec_stops(float accepted, float threshold) {
  return __fsub_rn(1.0f, accepted) > threshold;
}

}  // namespace exn::cuda
