// SPDX-License-Identifier: Apache-2.0
#include "backend.h"

namespace exn::cuda {

exn_status kv_append(const KvAppendArgs&, Workspace&, exn_stream) { return fail(EXN_UNSUPPORTED, "exn_kv_append: the CUDA kernel is not built yet"); }
exn_status kv_copy(const KvCopyArgs&, Workspace&, exn_stream) { return fail(EXN_UNSUPPORTED, "exn_kv_copy: the CUDA kernel is not built yet"); }
exn_status kv_length(const KvLengthArgs&, Workspace&, exn_stream) { return fail(EXN_UNSUPPORTED, "exn_kv_length: the CUDA kernel is not built yet"); }

}  // namespace exn::cuda
