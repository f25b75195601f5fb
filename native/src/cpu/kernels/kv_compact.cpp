// SPDX-License-Identifier: Apache-2.0
// kv_compact on the CPU.
#include "isa.h"

namespace exn::cpu::EXN_ISA {

exn_status kv_compact(const KvCompactArgs&, Workspace&) {
  return fail(EXN_UNSUPPORTED, "exn_kv_compact: the CPU has no kernel yet");
}

}  // namespace exn::cpu::EXN_ISA
