// SPDX-License-Identifier: Apache-2.0
#include "isa.h"

namespace exn::cpu::EXN_ISA {

exn_status linear(const LinearArgs&, Workspace&) { return fail(EXN_UNSUPPORTED, "exn_linear: the CPU kernel is not built yet"); }

}  // namespace exn::cpu::EXN_ISA
