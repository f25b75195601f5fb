// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/stop_rule.cuh>

#include "backend.h"
#include "base/args/stop_rule.h"
#include "dispatch.h"

namespace exn::cuda {

// The kernels' headers stand alone, so they spell the ABI's constants themselves.
static_assert(static_cast<int>(Stop::kRunning) == EXN_STOP_RUNNING &&
                  static_cast<int>(Stop::kToken) == EXN_STOP_TOKEN &&
                  static_cast<int>(Stop::kConfident) == EXN_STOP_CONFIDENT &&
                  static_cast<int>(Stop::kAbstained) == EXN_STOP_ABSTAINED &&
                  static_cast<int>(Stop::kBudget) == EXN_STOP_BUDGET &&
                  static_cast<int>(Stop::kCancelled) == EXN_STOP_CANCELLED,
              "reasons");
static_assert(static_cast<int>(StopScope::kEach) == EXN_STOP_EACH &&
                  static_cast<int>(StopScope::kFirst) == EXN_STOP_FIRST,
              "scopes");
static_assert(static_cast<int>(Choice::kFirst) == EXN_CHOOSE_FIRST &&
                  static_cast<int>(Choice::kPerplexity) == EXN_CHOOSE_PERPLEXITY &&
                  static_cast<int>(Choice::kCertainty) == EXN_CHOOSE_CERTAINTY,
              "choices");
static_assert(kStopWords == EXN_STOP_STATE_WORDS && sizeof(StopState) == 4 * kStopWords,
              "state words");

namespace {

template <class T>
StopRuleTask<T> task_of(const StopRuleArgs& args) {
  StopRuleTask<T> task;
  task.rows = args.rows;
  task.token = args.token;
  task.stop_ids = args.stop_ids;
  task.stop_count = args.stop_count;
  task.log_p = args.log_p;
  task.logits = static_cast<const T*>(args.logits.data);
  task.stride = args.logits.stride;
  task.lse = args.lse;
  task.mean_log_p = args.mean_log_p;
  task.confidence = args.confidence;
  task.answer_ids = args.answer_ids;
  task.answer_count = args.answer_count;
  task.entropy = args.entropy;
  task.state = args.state;
  task.finished = args.finished;
  task.reason = args.reason;
  task.score = args.score;
  task.trials = args.trials;
  task.active_list = args.active_list;
  task.active_count = args.active_count;
  task.winner = args.winner;
  task.vocabulary = args.vocabulary;
  task.log_vocabulary = args.log_vocabulary;
  task.scope = static_cast<StopScope>(args.scope);
  task.choice = static_cast<Choice>(args.choice);
  task.budget = args.budget;
  task.temperature = args.temperature;
  task.confident_at = args.confident_at;
  task.abstain_below = args.abstain_below;
  task.trials_low = args.trials_low;
  task.trials_high = args.trials_high;
  task.most_trials = args.most_trials;
  task.first = args.first;
  return task;
}

}  // namespace

exn_status stop_rule(const StopRuleArgs& args, Workspace& workspace, exn_stream stream) {
  if (workspace.counting()) return EXN_OK;
  // Also for no rows: active_count is set to 0, and winner to -1.
  return run_on(args, "stop_rule_kernel", [&] {
    dispatch_float(args.logits.dtype, [&](auto tag) {
      using T = type_of<decltype(tag)>;
      EXN_LAUNCH((stop_rule_kernel<T>), 1, kStopRuleThreads, 0, stream_of(stream),
                 task_of<T>(args));
    });
  });
}

}  // namespace exn::cuda
