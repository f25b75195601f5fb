// SPDX-License-Identifier: Apache-2.0
#include "isa.h"

namespace exn::cpu::EXN_ISA {

exn_status layer_schedule(const LayerScheduleArgs&, Workspace&) { return fail(EXN_UNSUPPORTED, "exn_layer_schedule: the CPU kernel is not built yet"); }

}  // namespace exn::cpu::EXN_ISA
