// SPDX-License-Identifier: Apache-2.0
#include "backend.h"

namespace exn::cuda {

exn_status attention_scores(const AttentionScoresArgs&, Workspace&, exn_stream) {
  return fail(EXN_UNSUPPORTED, "exn_attention_scores: CUDA has no kernel yet");
}

}  // namespace exn::cuda
