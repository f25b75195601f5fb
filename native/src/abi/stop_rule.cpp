// SPDX-License-Identifier: Apache-2.0
#include <exeunt/stop_rule.h>

#include <cmath>

#include "backends.h"
#include "base/args/stop_rule.h"

namespace exn {
namespace {

void share(const char* name, float value, Check& check) {
  if (!(value >= 0 && value <= 1)) {
    check.fail_argument("%s is %g, expected 0..1", name, static_cast<double>(value));
  }
}

void check_confidence(const exn_stop_rule_params& p, Check& check) {
  if (p.confidence == nullptr && p.answer_ids == nullptr) return;
  share("confident_at", p.confident_at, check);
  share("abstain_below", p.abstain_below, check);
  if (p.confident_at > 0 && p.abstain_below > p.confident_at) {
    check.fail_argument("abstain_below is %g, but confident_at is %g",
                        static_cast<double>(p.abstain_below), static_cast<double>(p.confident_at));
  }
}

void check_trials(const exn_stop_rule_params& p, Check& check) {
  if (p.trials == nullptr) return;
  if (p.entropy == nullptr) check.fail_argument("entropy is null, trials need it");
  check.not_negative("trials_low", p.trials_low);
  check.finite("trials_high", p.trials_high);
  if (!(p.trials_high > p.trials_low)) {
    check.fail_argument("trials_high is %g, but trials_low is %g",
                        static_cast<double>(p.trials_high), static_cast<double>(p.trials_low));
  }
  check.one_of("most_trials", p.most_trials, 1, 1 << 20);
}

void check_choice(const exn_stop_rule_params& p, Check& check) {
  check.one_of("scope", p.scope, EXN_STOP_EACH, EXN_STOP_FIRST);
  check.one_of("choice", p.choice, EXN_CHOOSE_FIRST, EXN_CHOOSE_CERTAINTY);
  if (p.choice == EXN_CHOOSE_PERPLEXITY && p.log_p == nullptr && p.logits == nullptr) {
    check.fail_argument("log_p and logits are null, choice %d needs one of them", p.choice);
  }
  if (p.choice == EXN_CHOOSE_CERTAINTY && p.mean_log_p == nullptr) {
    check.fail_argument("mean_log_p is null, choice %d needs it", p.choice);
  }
}

constexpr const char* kRows = "the rows of state";

void read_state(const exn_stop_rule_params& p, Check& check, StopRuleArgs* a) {
  const Matrix state = check.matrix("state", p.state, kI32Only, Role::kInOut);
  check.same("state", "columns", state.cols, "EXN_STOP_STATE_WORDS", EXN_STOP_STATE_WORDS);
  if (state.rows > 1) {
    check.same("state", "elements between rows", state.stride, "a compact state",
               EXN_STOP_STATE_WORDS);
  }
  a->rows = state.rows;
  a->state = static_cast<int32_t*>(state.data);
}

const float* read_numbers(const char* name, const DLTensor* t, int64_t rows, Check& check,
                          Need need = Need::kOptional) {
  return check.per_row<const float>(name, t, kF32Only, Role::kIn, kRows, rows, need);
}

// What a step knows of its tokens: their log probabilities, or the logits that these are made of.
void read_tokens(const exn_stop_rule_params& p, Check& check, StopRuleArgs* a) {
  a->token = check.per_row<const int32_t>("token", p.token, kI32Only, Role::kIn, kRows, a->rows);
  const Vector ids = check.vector("stop_ids", p.stop_ids, kI32Only, Role::kIn, Need::kOptional);
  a->stop_ids = static_cast<const int32_t*>(ids.data);
  a->stop_count = ids.size;
  a->log_p = read_numbers("log_p", p.log_p, a->rows, check);
  if (p.logits != nullptr) {
    check.absent("log_p", p.log_p, "so are logits");
    a->logits = check.matrix("logits", p.logits, kFloats, Role::kIn);
    check.same("logits", "rows", a->logits.rows, "state", a->rows);
    check.same("logits", "columns", a->logits.cols, "vocabulary", p.vocabulary);
    check.positive("temperature", static_cast<double>(p.temperature));
    a->lse = read_numbers("lse", p.lse, a->rows, check, Need::kRequired);
  } else {
    read_numbers("lse", p.lse, a->rows, check);
  }
  a->mean_log_p = read_numbers("mean_log_p", p.mean_log_p, a->rows, check);
}

void read_confidence(const exn_stop_rule_params& p, Check& check, StopRuleArgs* a) {
  a->confidence = read_numbers("confidence", p.confidence, a->rows, check);
  const Vector answers =
      check.vector("answer_ids", p.answer_ids, kI32Only, Role::kIn, Need::kOptional);
  if (p.answer_ids != nullptr) {
    check.absent("confidence", p.confidence, "so are answer_ids");
    if (p.logits == nullptr) check.fail_argument("logits is null, answer_ids need it");
  }
  a->answer_ids = static_cast<const int32_t*>(answers.data);
  a->answer_count = answers.size;
}

int32_t* read_one(const char* name, const DLTensor* t, Check& check) {
  const Vector v = check.vector(name, t, kI32Only, Role::kOut, Need::kOptional);
  if (t != nullptr) check.same(name, "elements", v.size, "a single number", 1);
  return static_cast<int32_t*>(v.data);
}

void read_results(const exn_stop_rule_params& p, Check& check, StopRuleArgs* a) {
  a->finished = check.per_row<uint8_t>("finished", p.finished, kU8Only, Role::kOut, kRows, a->rows,
                                       Need::kOptional);
  a->score =
      check.per_row<float>("score", p.score, kF32Only, Role::kOut, kRows, a->rows, Need::kOptional);
  const auto integers = [&](const char* name, const DLTensor* t) {
    return check.per_row<int32_t>(name, t, kI32Only, Role::kOut, kRows, a->rows, Need::kOptional);
  };
  a->reason = integers("reason", p.reason);
  a->trials = integers("trials", p.trials);
  a->active_list = integers("active_list", p.active_list);
  a->active_count = read_one("active_count", p.active_count, check);
  a->winner = read_one("winner", p.winner, check);
}

void read_settings(const exn_stop_rule_params& p, StopRuleArgs* a) {
  a->vocabulary = p.vocabulary;
  a->log_vocabulary = static_cast<float>(std::log(static_cast<double>(p.vocabulary)));
  a->scope = p.scope;
  a->choice = p.choice;
  a->budget = p.budget == 0 ? INT32_MAX : p.budget;
  a->temperature = p.temperature;
  a->confident_at = p.confident_at;
  a->abstain_below = p.abstain_below;
  a->trials_low = p.trials_low;
  a->trials_high = p.trials_high;
  a->most_trials = p.most_trials;
  a->first = p.first;
}

void check_args(const exn_stop_rule_params& p, Check& check, StopRuleArgs* a) {
  read_state(p, check, a);
  check.at_least("vocabulary", p.vocabulary, 1);
  check.at_least("budget", p.budget, 0);
  check.one_of("first", p.first, 0, 1);
  check.reserved(p.reserved);
  check_choice(p, check);
  check_confidence(p, check);
  check_trials(p, check);
  read_tokens(p, check, a);
  read_confidence(p, check, a);
  a->entropy = read_numbers("entropy", p.entropy, a->rows, check);
  read_results(p, check, a);
  read_settings(p, a);
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(stop_rule, StopRuleArgs, check_args)
