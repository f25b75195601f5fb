// SPDX-License-Identifier: Apache-2.0
#include "backend.h"

namespace exn::cuda {

exn_status hidden_stack(const HiddenStackArgs&, Workspace&, exn_stream) { return fail(EXN_UNSUPPORTED, "exn_hidden_stack: the CUDA kernel is not built yet"); }

}  // namespace exn::cuda
