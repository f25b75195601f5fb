// SPDX-License-Identifier: Apache-2.0
#include "backend.h"

namespace exn::cuda {

exn_status linear(const LinearArgs&, Workspace&, exn_stream) { return fail(EXN_UNSUPPORTED, "exn_linear: the CUDA kernel is not built yet"); }

}  // namespace exn::cuda
