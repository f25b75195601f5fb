// SPDX-License-Identifier: Apache-2.0
#include "isa.h"

namespace exn::cpu::EXN_ISA {

exn_status row_compaction(const RowCompactionArgs&, Workspace&) { return fail(EXN_UNSUPPORTED, "exn_row_compaction: the CPU kernel is not built yet"); }

}  // namespace exn::cpu::EXN_ISA
