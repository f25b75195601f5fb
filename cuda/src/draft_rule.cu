// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/draft_rule.cuh>

#include "backend.h"
#include "base/args/draft_rule.h"

namespace exn::cuda {

static_assert(static_cast<int>(DraftStop::kFixed) == EXN_DRAFT_FIXED &&
                  static_cast<int>(DraftStop::kConfidence) == EXN_DRAFT_CONFIDENCE &&
                  static_cast<int>(DraftStop::kSpecDec) == EXN_DRAFT_SPECDEC &&
                  static_cast<int>(DraftStop::kDel) == EXN_DRAFT_DEL,
              "rules");
static_assert(static_cast<int>(DraftForm::kCode) == EXN_FORM_CODE &&
                  static_cast<int>(DraftForm::kPaper) == EXN_FORM_PAPER,
              "forms");
static_assert(EXN_DRAFT_STATE_WORDS == 3 && EXN_DRAFT_PLAN_WORDS == 4, "state words");

exn_status draft_rule(const DraftRuleArgs& args, Workspace& workspace, exn_stream stream) {
  if (workspace.counting()) return EXN_OK;
  DraftRuleTask task;
  task.sequences = args.sequences;
  task.candidates = args.candidates;
  task.width = args.width;
  task.stop_count = args.stop_count;
  task.score = args.score;
  task.token = args.token;
  task.stop_tokens = args.stop_tokens;
  task.state = args.state;
  task.length = args.length;
  task.drafting = args.drafting;
  task.active_list = args.active_list;
  task.active_count = args.active_count;
  task.statistics = args.statistics;
  task.plan = args.plan;
  task.shadow_token = args.shadow_token;
  task.shadow_prob = args.shadow_prob;
  task.final_token = args.final_token;
  task.columns = args.columns;
  task.context = args.context;
  task.candidate = args.candidate;
  task.mask = args.mask;
  task.rule = static_cast<DraftStop>(args.rule);
  task.form = static_cast<DraftForm>(args.form);
  task.first = args.first;
  task.min_steps = args.min_steps;
  task.max_steps = args.max_steps;
  task.model_layers = args.model_layers;
  task.threshold = args.threshold;
  task.omega = args.omega;
  // Also for no sequences: active_count is set to 0.
  switch (args.action) {
    case EXN_DRAFT_STEP:
      return run_on(args, "draft_step_kernel", [&] {
        EXN_LAUNCH(draft_step_kernel, 1, kDraftRuleThreads, 0, stream_of(stream), task);
      });
    case EXN_DRAFT_UPDATE:
      return run_on(args, "draft_update_kernel", [&] {
        EXN_LAUNCH(draft_update_kernel, 1, kDraftRuleThreads, 0, stream_of(stream), task);
      });
    default:
      return run_on(args, "draft_reset_kernel", [&] {
        if (task.sequences == 0) return;
        const int64_t words = 4 * task.sequences * task.candidates;
        EXN_LAUNCH(draft_reset_kernel, grid_for(ceil_div(words, kDraftRuleThreads)),
                   kDraftRuleThreads, 0, stream_of(stream), task);
      });
  }
}

}  // namespace exn::cuda
