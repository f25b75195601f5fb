// SPDX-License-Identifier: Apache-2.0
#include <exeunt/exit_rule.h>

#include "backends.h"

namespace exn {
namespace {

// A compact [R] tensor of an exit rule; `rows` < 0 while unknown, then fixed by the first tensor that has it.
template <class T>
T* row_vector(Check& check, const char* name, const DLTensor* t, DTypes dtypes, Role role, int64_t rows) {
  const Vector v = check.vector(name, t, dtypes, role, Need::kOptional);
  if (t != nullptr) check.same(name, "elements", v.size, "the rows of state", rows);
  return static_cast<T*>(v.data);
}

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
  if (state.rows > 1) check.same("state", "elements between rows", state.stride, "a compact state", EXN_EXIT_STATE_WORDS);
  a->rows = state.rows;
  a->state = static_cast<int32_t*>(state.data);
  check_options(p, check);
  const bool by_label = p.rule == EXN_RULE_PATIENCE && p.label != nullptr;
  if (p.score == nullptr && !by_label) check.fail_argument("score is null, rule %d needs it", p.rule);
  a->score = row_vector<const float>(check, "score", p.score, kF32Only, Role::kIn, a->rows);
  a->label = row_vector<const int32_t>(check, "label", p.label, kI32Only, Role::kIn, a->rows);
  a->valid = row_vector<const uint8_t>(check, "valid", p.valid, kU8Only, Role::kIn, a->rows);
  a->step = row_vector<const int32_t>(check, "step", p.step, kI32Only, Role::kIn, a->rows);
  a->exit_mask = row_vector<uint8_t>(check, "exit_mask", p.exit_mask, kU8Only, Role::kOut, a->rows);
  a->active_list = row_vector<int32_t>(check, "active_list", p.active_list, kI32Only, Role::kOut, a->rows);
  a->exit_layer = row_vector<int32_t>(check, "exit_layer", p.exit_layer, kI32Only, Role::kInOut, a->rows);
  const Vector count = check.vector("active_count", p.active_count, kI32Only, Role::kOut, Need::kOptional);
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

constexpr Op<exn_exit_rule_params, ExitRuleArgs> kOp{"exn_exit_rule", check_args, &Backend::exit_rule};

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(exit_rule, exn::kOp)
