// SPDX-License-Identifier: Apache-2.0
#include "isa.h"

namespace exn::cpu::EXN_ISA {

exn_status kv_append(const KvAppendArgs&, Workspace&) { return fail(EXN_UNSUPPORTED, "exn_kv_append: the CPU kernel is not built yet"); }
exn_status kv_copy(const KvCopyArgs&, Workspace&) { return fail(EXN_UNSUPPORTED, "exn_kv_copy: the CPU kernel is not built yet"); }
exn_status kv_length(const KvLengthArgs&, Workspace&) { return fail(EXN_UNSUPPORTED, "exn_kv_length: the CPU kernel is not built yet"); }

}  // namespace exn::cpu::EXN_ISA
