// SPDX-License-Identifier: Apache-2.0
// hired_budget on the CPU.
#include "isa.h"

namespace exn::cpu::EXN_ISA {

exn_status hired_budget(const HiredBudgetArgs&, Workspace&) {
  return fail(EXN_UNSUPPORTED, "exn_hired_budget: the CPU has no kernel yet");
}

}  // namespace exn::cpu::EXN_ISA
