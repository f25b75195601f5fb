// SPDX-License-Identifier: Apache-2.0
#include "backend.h"

namespace exn::cuda {

exn_status rope_table(const RopeTableArgs&, Workspace&, exn_stream) { return fail(EXN_UNSUPPORTED, "exn_rope_table: the CUDA kernel is not built yet"); }
exn_status rope(const RopeArgs&, Workspace&, exn_stream) { return fail(EXN_UNSUPPORTED, "exn_rope: the CUDA kernel is not built yet"); }

}  // namespace exn::cuda
