// SPDX-License-Identifier: Apache-2.0
#include "backend.h"

namespace exn::cuda {

exn_status kv_compact(const KvCompactArgs&, Workspace&, exn_stream) {
  return fail(EXN_UNSUPPORTED, "exn_kv_compact: CUDA has no kernel yet");
}

}  // namespace exn::cuda
