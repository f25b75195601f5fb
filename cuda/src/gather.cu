// SPDX-License-Identifier: Apache-2.0
#include "backend.h"

namespace exn::cuda {

exn_status gather(const GatherArgs&, Workspace&, exn_stream) {
  return fail(EXN_UNSUPPORTED, "exn_gather: CUDA has no kernel yet");
}

}  // namespace exn::cuda
