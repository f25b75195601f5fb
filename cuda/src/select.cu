// SPDX-License-Identifier: Apache-2.0
#include "backend.h"

namespace exn::cuda {

exn_status select(const SelectArgs&, Workspace&, exn_stream) {
  return fail(EXN_UNSUPPORTED, "exn_select: CUDA has no kernel yet");
}

}  // namespace exn::cuda
