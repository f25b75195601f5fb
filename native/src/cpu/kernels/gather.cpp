// SPDX-License-Identifier: Apache-2.0
// gather on the CPU.
#include "isa.h"

namespace exn::cpu::EXN_ISA {

exn_status gather(const GatherArgs&, Workspace&) {
  return fail(EXN_UNSUPPORTED, "exn_gather: the CPU has no kernel yet");
}

}  // namespace exn::cpu::EXN_ISA
