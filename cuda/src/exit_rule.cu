// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/exit_rule.cuh>

#include "backend.h"
#include "base/args/exit_rule.h"

namespace exn::cuda {

// The kernels' headers stand alone, so they spell the ABI's constants themselves.
static_assert(static_cast<int>(Rule::kThreshold) == EXN_RULE_THRESHOLD &&
                  static_cast<int>(Rule::kPatience) == EXN_RULE_PATIENCE &&
                  static_cast<int>(Rule::kQuantile) == EXN_RULE_QUANTILE &&
                  static_cast<int>(Rule::kJei) == EXN_RULE_JEI &&
                  static_cast<int>(Rule::kSpecDec) == EXN_RULE_SPECDEC,
              "rules");
static_assert(static_cast<int>(Comparator::kGreaterEqual) == EXN_COMPARE_GE &&
                  static_cast<int>(Comparator::kGreater) == EXN_COMPARE_GT &&
                  static_cast<int>(Comparator::kLessEqual) == EXN_COMPARE_LE,
              "comparators");
static_assert(static_cast<int>(Decay::kNone) == EXN_DECAY_NONE &&
                  static_cast<int>(Decay::kCalmCode) == EXN_DECAY_CALM_CODE &&
                  static_cast<int>(Decay::kCalmPaper) == EXN_DECAY_CALM_PAPER,
              "decays");
static_assert(static_cast<int>(Scope::kEach) == EXN_SCOPE_EACH &&
                  static_cast<int>(Scope::kAll) == EXN_SCOPE_ALL &&
                  static_cast<int>(Scope::kLast) == EXN_SCOPE_LAST,
              "scopes");
static_assert(sizeof(int4) == EXN_EXIT_STATE_WORDS * sizeof(int32_t) && kHasLeft == 1,
              "state words");

exn_status exit_rule(const ExitRuleArgs& args, Workspace& workspace, exn_stream stream) {
  if (workspace.counting()) return EXN_OK;
  ExitRuleTask task;
  task.rows = args.rows;
  task.score = args.score;
  task.label = args.label;
  task.valid = args.valid;
  task.step = args.step;
  task.state = args.state;
  task.exit_mask = args.exit_mask;
  task.active_list = args.active_list;
  task.active_count = args.active_count;
  task.exit_layer = args.exit_layer;
  task.rule = static_cast<Rule>(args.rule);
  task.comparator = static_cast<Comparator>(args.comparator);
  task.decay = static_cast<Decay>(args.decay);
  task.scope = static_cast<Scope>(args.scope);
  task.threshold = args.threshold;
  task.decay_tau = args.decay_tau;
  task.decay_horizon = args.decay_horizon;
  task.step_index = args.step_index;
  task.patience = args.patience;
  task.min_steps = args.min_steps;
  task.max_steps = args.max_steps;
  task.layer = args.layer;
  task.first = args.first;
  task.force = args.force;
  // Also for no rows: active_count is set to 0.
  return run_on(args, "exit_rule_kernel", [&] {
    EXN_LAUNCH(exit_rule_kernel, 1, kExitRuleThreads, 0, stream_of(stream), task);
  });
}

}  // namespace exn::cuda
