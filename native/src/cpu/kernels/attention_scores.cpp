// SPDX-License-Identifier: Apache-2.0
// attention_scores on the CPU.
#include "isa.h"

namespace exn::cpu::EXN_ISA {

exn_status attention_scores(const AttentionScoresArgs&, Workspace&) {
  return fail(EXN_UNSUPPORTED, "exn_attention_scores: the CPU has no kernel yet");
}

}  // namespace exn::cpu::EXN_ISA
