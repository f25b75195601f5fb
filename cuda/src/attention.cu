// SPDX-License-Identifier: Apache-2.0
#include "backend.h"

namespace exn::cuda {

exn_status attention(const AttentionArgs&, Workspace&, exn_stream) { return fail(EXN_UNSUPPORTED, "exn_attention: the CUDA kernel is not built yet"); }

}  // namespace exn::cuda
