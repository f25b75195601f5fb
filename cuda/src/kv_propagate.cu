// SPDX-License-Identifier: Apache-2.0
#include "backend.h"

namespace exn::cuda {

exn_status kv_propagate(const KvPropagateArgs&, Workspace&, exn_stream) { return fail(EXN_UNSUPPORTED, "exn_kv_propagate: the CUDA kernel is not built yet"); }

}  // namespace exn::cuda
