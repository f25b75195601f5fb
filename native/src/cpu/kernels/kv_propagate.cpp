// SPDX-License-Identifier: Apache-2.0
#include "isa.h"

namespace exn::cpu::EXN_ISA {

exn_status kv_propagate(const KvPropagateArgs&, Workspace&) { return fail(EXN_UNSUPPORTED, "exn_kv_propagate: the CPU kernel is not built yet"); }

}  // namespace exn::cpu::EXN_ISA
