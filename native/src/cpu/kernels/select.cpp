// SPDX-License-Identifier: Apache-2.0
// select on the CPU.
#include "isa.h"

namespace exn::cpu::EXN_ISA {

exn_status select(const SelectArgs&, Workspace&) {
  return fail(EXN_UNSUPPORTED, "exn_select: the CPU has no kernel yet");
}

}  // namespace exn::cpu::EXN_ISA
