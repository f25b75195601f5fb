// SPDX-License-Identifier: Apache-2.0
#include "backend.h"

namespace exn::cuda {

exn_status ffn_skip_rule(const FfnSkipRuleArgs&, Workspace&, exn_stream) { return fail(EXN_UNSUPPORTED, "exn_ffn_skip_rule: the CUDA kernel is not built yet"); }

}  // namespace exn::cuda
