// SPDX-License-Identifier: Apache-2.0
#include <exeunt/exit_rule.h>

#include "backends.h"
#include "base/args/exit_rule.h"

namespace exn {
namespace {

void check_options(const exn_exit_rule_params& p, Check& check) {
  check.one_of("rule", p.rule, EXN_RULE_THRESHOLD, EXN_RULE_SPECDEC);
  check.one_of("scope", p.scope, EXN_SCOPE_EACH, EXN_SCOPE_LAST);
  check.one_of("first", p.first, 0, 1);
  check.one_of("force", p.force, 0, 1);
  check.not_nan("threshold", p.threshold);
  if (p.rule == EXN_RULE_THRESHOLD) {
    check.one_of("comparator", p.comparator, EXN_COMPARE_GE, EXN_COMPARE_LE);
    check.one_of("decay", p.decay, EXN_DECAY_NONE, EXN_DECAY_CALM_PAPER);
    if (p.decay != EXN_DECAY_NONE) {
      check.finite("threshold", p.threshold);
      check.not_negative("decay_tau", p.decay_tau);
      check.positive("decay_horizon", p.decay_horizon);
      check.at_least("step_index", p.step_index, 0);
    }
  }
  if (p.rule == EXN_RULE_PATIENCE) check.at_least("patience", p.patience, 0);
  if (p.rule == EXN_RULE_SPECDEC) {
    check.at_least("min_steps", p.min_steps, 0);
    if (p.max_steps != 0) check.at_least("max_steps", p.max_steps, p.min_steps);
  }
}

void check_args(const exn_exit_rule_params& p, Check& check, ExitRuleArgs* a) {
  const Matrix state = check.matrix("state", p.state, kI32Only, Role::kInOut);
  check.same("state", "columns", state.cols, "EXN_EXIT_STATE_WORDS", EXN_EXIT_STATE_WORDS);
  if (state.rows > 1) {
    check.same("state", "elements between rows", state.stride, "a compact state",
               EXN_EXIT_STATE_WORDS);
  }
  a->rows = state.rows;
  a->state = static_cast<int32_t*>(state.data);
  check_options(p, check);
  const bool by_label = p.rule == EXN_RULE_PATIENCE && p.label != nullptr;
  if (p.score == nullptr && !by_label) {
    check.fail_argument("score is null, rule %d needs it", p.rule);
  }
  a->score = check.per_row<const float>("score", p.score, kF32Only, Role::kIn, "the rows of state",
                                        a->rows, Need::kOptional);
  a->label = check.per_row<const int32_t>("label", p.label, kI32Only, Role::kIn,
                                          "the rows of state", a->rows, Need::kOptional);
  a->valid = check.per_row<const uint8_t>("valid", p.valid, kU8Only, Role::kIn, "the rows of state",
                                          a->rows, Need::kOptional);
  a->step = check.per_row<const int32_t>("step", p.step, kI32Only, Role::kIn, "the rows of state",
                                         a->rows, Need::kOptional);
  a->exit_mask = check.per_row<uint8_t>("exit_mask", p.exit_mask, kU8Only, Role::kOut,
                                        "the rows of state", a->rows, Need::kOptional);
  a->active_list = check.per_row<int32_t>("active_list", p.active_list, kI32Only, Role::kOut,
                                          "the rows of state", a->rows, Need::kOptional);
  a->exit_layer = check.per_row<int32_t>("exit_layer", p.exit_layer, kI32Only, Role::kInOut,
                                         "the rows of state", a->rows, Need::kOptional);
  const Vector count =
      check.vector("active_count", p.active_count, kI32Only, Role::kOut, Need::kOptional);
  if (p.active_count != nullptr) check.same("active_count", "elements", count.size, "a count", 1);
  a->active_count = static_cast<int32_t*>(count.data);
  a->rule = p.rule;
  a->comparator = p.comparator;
  a->decay = p.decay;
  a->scope = p.scope;
  a->threshold = p.threshold;
  a->decay_tau = p.decay_tau;
  a->decay_horizon = p.decay_horizon;
  a->step_index = p.step_index;
  a->patience = p.patience;
  a->min_steps = p.min_steps;
  a->max_steps = p.max_steps;
  a->layer = p.layer;
  a->first = p.first;
  a->force = p.force;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(exit_rule, ExitRuleArgs, check_args)
