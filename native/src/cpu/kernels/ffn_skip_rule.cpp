// SPDX-License-Identifier: Apache-2.0
#include "isa.h"

namespace exn::cpu::EXN_ISA {

exn_status ffn_skip_rule(const FfnSkipRuleArgs&, Workspace&) { return fail(EXN_UNSUPPORTED, "exn_ffn_skip_rule: the CPU kernel is not built yet"); }

}  // namespace exn::cpu::EXN_ISA
