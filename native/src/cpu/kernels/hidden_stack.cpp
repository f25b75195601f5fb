// SPDX-License-Identifier: Apache-2.0
#include "isa.h"

namespace exn::cpu::EXN_ISA {

exn_status hidden_stack(const HiddenStackArgs&, Workspace&) { return fail(EXN_UNSUPPORTED, "exn_hidden_stack: the CPU kernel is not built yet"); }

}  // namespace exn::cpu::EXN_ISA
