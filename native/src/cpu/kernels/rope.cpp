// SPDX-License-Identifier: Apache-2.0
#include "isa.h"

namespace exn::cpu::EXN_ISA {

exn_status rope_table(const RopeTableArgs&, Workspace&) { return fail(EXN_UNSUPPORTED, "exn_rope_table: the CPU kernel is not built yet"); }
exn_status rope(const RopeArgs&, Workspace&) { return fail(EXN_UNSUPPORTED, "exn_rope: the CPU kernel is not built yet"); }

}  // namespace exn::cpu::EXN_ISA
