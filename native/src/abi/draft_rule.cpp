// SPDX-License-Identifier: Apache-2.0
#include <exeunt/draft_rule.h>

#include "backends.h"
#include "base/args/draft_rule.h"

namespace exn {
namespace {

constexpr int64_t kMostSteps = 65536;

// The inputs and outputs that only the other actions have.
void check_absent(const exn_draft_rule_params& p, Check& check) {
  const bool steps = p.action == EXN_DRAFT_STEP, updates = p.action == EXN_DRAFT_UPDATE;
  const char* because = steps     ? "action is EXN_DRAFT_STEP (0)"
                        : updates ? "action is EXN_DRAFT_UPDATE (1)"
                                  : "action is EXN_DRAFT_RESET (2)";
  if (!steps) {
    check.absent("score", p.score, because);
    check.absent("token", p.token, because);
    check.absent("stop_tokens", p.stop_tokens, because);
    check.absent("state", p.state, because);
    check.absent("length", p.length, because);
  }
  if (!updates) {
    check.absent("shadow_token", p.shadow_token, because);
    check.absent("shadow_prob", p.shadow_prob, because);
    check.absent("final_token", p.final_token, because);
    check.absent("columns", p.columns, because);
    check.absent("context", p.context, because);
  }
  if (steps) {
    check.absent("candidate", p.candidate, because);
    check.absent("mask", p.mask, because);
  }
  if (updates) check.absent("mask", p.mask, because);
  if (!steps && !updates) {
    check.absent("drafting", p.drafting, because);
    check.absent("active_list", p.active_list, because);
    check.absent("active_count", p.active_count, because);
  }
  if (steps && p.rule != EXN_DRAFT_DEL) {
    check.absent("statistics", p.statistics, "rule is not EXN_DRAFT_DEL (3)");
    check.absent("plan", p.plan, "rule is not EXN_DRAFT_DEL (3)");
  }
}

// One entry for each sequence.
template <class T>
T* each(Check& check, const char* name, const DLTensor* t, DTypes allowed, Role role,
        const DraftRuleArgs& a, Need need = Need::kOptional) {
  return check.per_row<T>(name, t, allowed, role, "the sequences", a.sequences, need);
}

void check_step(const exn_draft_rule_params& p, Check& check, DraftRuleArgs* a) {
  const Vector state = check.flat("state", p.state, {2, 2}, kI32Only, Role::kInOut);
  if (!check.ok()) return;
  a->sequences = p.state->shape[0];
  check.shape("state", p.state, {a->sequences, EXN_DRAFT_STATE_WORDS});
  a->state = static_cast<int32_t*>(state.data);
  if (p.score == nullptr && p.rule != EXN_DRAFT_FIXED) {
    check.fail_argument("score is null, rule %d needs it", p.rule);
  }
  a->score = each<const float>(check, "score", p.score, kF32Only, Role::kIn, *a);
  a->token = each<const int32_t>(check, "token", p.token, kI32Only, Role::kIn, *a);
  if (p.token == nullptr) check.absent("stop_tokens", p.stop_tokens, "token is null");
  const Vector stops =
      check.vector("stop_tokens", p.stop_tokens, kI32Only, Role::kIn, Need::kOptional);
  a->stop_tokens = static_cast<const int32_t*>(stops.data);
  a->stop_count = stops.size;
  a->length = each<int32_t>(check, "length", p.length, kI32Only, Role::kOut, *a);
  check.one_of("first", p.first, 0, 1);
  if (p.rule != EXN_DRAFT_FIXED) {
    check.at_least("min_steps", p.min_steps, 0);
    check.at_most("min_steps", p.min_steps, p.max_steps);
  }
  if (p.rule == EXN_DRAFT_CONFIDENCE || p.rule == EXN_DRAFT_SPECDEC) {
    check.not_nan("threshold", p.threshold);
  }
}

// What DEL has learned: of the sequences that `a` has by now, or whose number it takes from there.
void check_learned(const exn_draft_rule_params& p, Check& check, DraftRuleArgs* a) {
  const Role role = p.action == EXN_DRAFT_STEP ? Role::kIn : Role::kInOut;
  const Vector plan = check.flat("plan", p.plan, {2, 2}, kI32Only, role);
  const Vector statistics = check.flat("statistics", p.statistics, {3, 3}, kF32Only, role);
  if (!check.ok()) return;
  if (p.action != EXN_DRAFT_STEP) a->sequences = p.plan->shape[0];
  a->candidates = p.statistics->shape[1];
  check.at_least("K (candidates of statistics)", a->candidates, 1);
  check.at_most("K (candidates of statistics)", a->candidates, 1 << 20);
  check.shape("plan", p.plan, {a->sequences, EXN_DRAFT_PLAN_WORDS});
  check.shape("statistics", p.statistics, {a->sequences, a->candidates, 4});
  a->plan = static_cast<int32_t*>(plan.data);
  a->statistics = static_cast<float*>(statistics.data);
}

void check_candidates(const exn_draft_rule_params& p, Check& check, DraftRuleArgs* a) {
  check.at_least("model_layers", p.model_layers, 2);
  check.at_most("model_layers", p.model_layers, 1 << 20);
  a->candidate =
      check.per_row<const int32_t>("candidate", p.candidate, kI32Only, Role::kIn,
                                   "the candidates of statistics", a->candidates, Need::kOptional);
  if (p.candidate == nullptr) {
    check.at_most("K (candidates of statistics)", a->candidates,
                  static_cast<int64_t>(p.model_layers) - 1);
  }
}

void check_update(const exn_draft_rule_params& p, Check& check, DraftRuleArgs* a) {
  const Vector final_token = check.flat("final_token", p.final_token, {2, 2}, kI32Only, Role::kIn);
  const Vector shadow_token =
      check.flat("shadow_token", p.shadow_token, {3, 3}, kI32Only, Role::kIn);
  const Vector shadow_prob = check.flat("shadow_prob", p.shadow_prob, {3, 3}, kF32Only, Role::kIn);
  if (!check.ok()) return;
  a->width = p.final_token->shape[1];
  check.shape("final_token", p.final_token, {a->sequences, a->width});
  check.shape("shadow_token", p.shadow_token, {a->sequences, a->candidates, a->width});
  check.shape("shadow_prob", p.shadow_prob, {a->sequences, a->candidates, a->width});
  check.at_most("N (columns of final_token)", a->width, INT32_MAX);
  a->final_token = static_cast<const int32_t*>(final_token.data);
  a->shadow_token = static_cast<const int32_t*>(shadow_token.data);
  a->shadow_prob = static_cast<const float*>(shadow_prob.data);
  a->columns = each<const int32_t>(check, "columns", p.columns, kI32Only, Role::kIn, *a);
  a->context = each<const int32_t>(check, "context", p.context, kI32Only, Role::kIn, *a);
  if (!(p.omega >= 0 && p.omega <= 1)) {
    check.fail_argument("omega is %g, expected 0..1", static_cast<double>(p.omega));
  }
}

void check_args(const exn_draft_rule_params& p, Check& check, DraftRuleArgs* a) {
  check.reserved(p.reserved);
  check.one_of("action", p.action, EXN_DRAFT_STEP, EXN_DRAFT_RESET);
  const bool steps = p.action == EXN_DRAFT_STEP, updates = p.action == EXN_DRAFT_UPDATE;
  const bool by_del = steps && p.rule == EXN_DRAFT_DEL;
  if (steps) check.one_of("rule", p.rule, EXN_DRAFT_FIXED, EXN_DRAFT_DEL);
  check_absent(p, check);
  if (by_del || updates) check.one_of("form", p.form, EXN_FORM_CODE, EXN_FORM_PAPER);
  if (steps || updates) {
    check.at_least("max_steps", p.max_steps, 1);
    check.at_most("max_steps", p.max_steps, kMostSteps);
  }
  if (steps) check_step(p, check, a);
  if (by_del || !steps) check_learned(p, check, a);
  if (!steps) check_candidates(p, check, a);
  if (updates) check_update(p, check, a);
  check.at_most(p.action == EXN_DRAFT_STEP ? "S (rows of state)" : "S (rows of plan)", a->sequences,
                INT32_MAX);
  a->drafting = each<uint8_t>(check, "drafting", p.drafting, kU8Only, Role::kOut, *a);
  a->active_list = each<int32_t>(check, "active_list", p.active_list, kI32Only, Role::kOut, *a);
  a->active_count = check.per_row<int32_t>("active_count", p.active_count, kI32Only, Role::kOut,
                                           "a count", 1, Need::kOptional);
  a->mask = each<const uint8_t>(check, "mask", p.mask, kU8Only, Role::kIn, *a);
  a->action = p.action;
  a->rule = p.rule;
  a->form = p.form;
  a->first = p.first;
  a->min_steps = p.min_steps;
  a->max_steps = p.max_steps;
  a->model_layers = p.model_layers;
  a->threshold = p.threshold;
  a->omega = p.omega;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(draft_rule, DraftRuleArgs, check_args)
