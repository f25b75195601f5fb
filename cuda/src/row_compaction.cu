// SPDX-License-Identifier: Apache-2.0
#include "backend.h"

namespace exn::cuda {

exn_status row_compaction(const RowCompactionArgs&, Workspace&, exn_stream) { return fail(EXN_UNSUPPORTED, "exn_row_compaction: the CUDA kernel is not built yet"); }

}  // namespace exn::cuda
