// SPDX-License-Identifier: Apache-2.0
// SpecDec++ for exit_rule and draft_rule: C, the chance that all tokens drafted so far are accepted.
#pragma once

#include "isa.h"

namespace exn::cpu::EXN_ISA {

// C after the call-th token. The score is of the token drafted before it, so the first has none.
static EXN_SIMD float specdec_accepted(float before, float score, int32_t call) {
  return call > 1 ? before * score : before;
}

static EXN_SIMD bool specdec_stops(float accepted, float threshold) {
  return 1 - accepted > threshold;
}

}  // namespace exn::cpu::EXN_ISA
