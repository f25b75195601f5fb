// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/ffn_skip_rule.cuh>

#include "backend.h"
#include "base/args/ffn_skip_rule.h"

namespace exn::cuda {

static_assert(EXN_FFN_SKIP_STATE_WORDS == 2, "state words");

exn_status ffn_skip_rule(const FfnSkipRuleArgs& args, Workspace& workspace, exn_stream stream) {
  if (workspace.counting()) return EXN_OK;
  FfnSkipRuleTask task;
  task.rows = args.rows;
  task.cosine = args.cosine;
  task.token = args.token;
  task.state = args.state;
  task.skip = args.skip;
  task.layer = args.layer;
  task.cold_start = args.cold_start;
  task.cold_end = args.cold_end;
  task.warm_up = args.warm_up;
  task.token_index = args.token_index;
  task.budget = args.budget;
  task.threshold = args.threshold;
  return run_on(args, "ffn_skip_rule_kernel", [&] {
    if (task.rows == 0) return;
    EXN_LAUNCH(ffn_skip_rule_kernel, grid_for(ceil_div(task.rows, kFfnSkipRuleThreads)),
               kFfnSkipRuleThreads, 0, stream_of(stream), task);
  });
}

}  // namespace exn::cuda
