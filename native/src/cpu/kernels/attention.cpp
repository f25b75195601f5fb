// SPDX-License-Identifier: Apache-2.0
#include "isa.h"

namespace exn::cpu::EXN_ISA {

exn_status attention(const AttentionArgs&, Workspace&) { return fail(EXN_UNSUPPORTED, "exn_attention: the CPU kernel is not built yet"); }

}  // namespace exn::cpu::EXN_ISA
