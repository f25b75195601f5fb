// SPDX-License-Identifier: Apache-2.0
#include "backend.h"

namespace exn::cuda {

exn_status hired_budget(const HiredBudgetArgs&, Workspace&, exn_stream) {
  return fail(EXN_UNSUPPORTED, "exn_hired_budget: CUDA has no kernel yet");
}

}  // namespace exn::cuda
