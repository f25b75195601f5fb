// SPDX-License-Identifier: Apache-2.0
// stop_rule on the CPU: two scalar passes over the samples, which are few.
#include <cmath>
#include <cstring>

#include "../ids.h"
#include "base/args/stop_rule.h"
#include "base/status.h"
#include "elements.h"

namespace exn::cpu::EXN_ISA {
namespace {

struct State {
  int32_t status;
  int32_t tokens;
  float log_p;
  float log_p_rest;
  float certainty;
  float certainty_rest;
};
static_assert(sizeof(State) == EXN_STOP_STATE_WORDS * 4, "the state is EXN_STOP_STATE_WORDS words");

constexpr int32_t kReason = 0xff;
constexpr int32_t kFirst = 0x100;  // complete, and no other row was before
constexpr int32_t kNow = 0x200;    // ended in this call, between the two passes

State state_of(const StopRuleArgs& a, int64_t row) {
  State s = {};
  if (a.first == 0) std::memcpy(&s, a.state + row * EXN_STOP_STATE_WORDS, sizeof s);
  return s;
}

int32_t reason_of(const State& s) { return s.status & kReason; }

bool complete(const State& s) {
  return reason_of(s) == EXN_STOP_TOKEN || reason_of(s) == EXN_STOP_CONFIDENT;
}

// What the contents of the tensors alone can tell.
exn_status check_contents(const StopRuleArgs& a) {
  const int64_t last = int64_t{a.vocabulary} - 1;
  exn_status status = check_ids("exn_stop_rule", "stop_ids", a.stop_ids, a.stop_count, 0, last);
  if (status != EXN_OK) return status;
  status = check_ids("exn_stop_rule", "answer_ids", a.answer_ids, a.answer_count, 0, last);
  if (status != EXN_OK) return status;
  bool running = a.rows == 0;
  for (int64_t row = 0; row < a.rows; ++row) {
    if (a.first == 0 && (a.state[row * EXN_STOP_STATE_WORDS] & kReason) != 0) continue;
    running = true;
    if (a.token[row] < a.vocabulary) continue;
    return fail(EXN_INVALID_ARGUMENT, "exn_stop_rule: token[%lld] is %d, expected at most %d",
                static_cast<long long>(row), a.token[row], a.vocabulary - 1);
  }
  if (running) return EXN_OK;
  return fail(EXN_INVALID_ARGUMENT,
              "exn_stop_rule: state says that all %lld rows have ended, and first is 0",
              static_cast<long long>(a.rows));
}

bool is_stop(const StopRuleArgs& a, int32_t token) {
  bool found = false;
  for (int64_t i = 0; i < a.stop_count; ++i) found |= a.stop_ids[i] == token;
  return found;
}

// Knuth's two-sum; an infinity or a NaN has no rest.
void add_to(float* sum, float* rest, float x) {
  const float s = *sum + x;
  const float back = s - *sum;
  const float lost = (*sum - (s - back)) + (x - back);
  *sum = s;
  if (std::isfinite(s)) *rest += lost;
}

float logit_of(const Matrix& logits, int64_t row, int32_t token) {
  float z = 0;
  with_float_type(logits.dtype,
                  [&](auto type) { z = to_float(row_of<EXN_TYPE_OF(type)>(logits, row)[token]); });
  return z;
}

void count(const StopRuleArgs& a, int64_t row, State* s) {
  const int32_t token = a.token[row];
  s->tokens = s->tokens < INT32_MAX ? s->tokens + 1 : INT32_MAX;
  if (a.log_p != nullptr) add_to(&s->log_p, &s->log_p_rest, a.log_p[row]);
  if (a.logits.data != nullptr) {
    const float z = logit_of(a.logits, row, token);
    add_to(&s->log_p, &s->log_p_rest, z / a.temperature - a.lse[row]);
  }
  if (a.mean_log_p != nullptr) {
    add_to(&s->certainty, &s->certainty_rest, -a.mean_log_p[row] - a.log_vocabulary);
  }
}

// NaN where there is none.
float confidence_of(const StopRuleArgs& a, int64_t row) {
  if (a.confidence != nullptr) return a.confidence[row];
  if (a.answer_ids == nullptr) return NAN;
  float sum = 0;
  for (int64_t i = 0; i < a.answer_count; ++i) {
    sum += ::expf(logit_of(a.logits, row, a.answer_ids[i]) / a.temperature - a.lse[row]);
  }
  return sum;
}

// EXN_STOP_RUNNING, or why the row ends.
int32_t verdict(const StopRuleArgs& a, int64_t row, const State& s) {
  const int32_t token = a.token[row];
  if (token >= 0 && is_stop(a, token)) return EXN_STOP_TOKEN;
  const float c = confidence_of(a, row);
  if (a.confident_at > 0 && c >= a.confident_at) return EXN_STOP_CONFIDENT;
  if (c < a.abstain_below) return EXN_STOP_ABSTAINED;
  return s.tokens >= a.budget ? EXN_STOP_BUDGET : EXN_STOP_RUNNING;
}

float score_of(const StopRuleArgs& a, const State& s) {
  const float sum =
      a.choice == EXN_CHOOSE_CERTAINTY ? s.certainty + s.certainty_rest : s.log_p + s.log_p_rest;
  return s.tokens > 0 ? sum / static_cast<float>(s.tokens) : NAN;
}

int32_t trials_of(const StopRuleArgs& a, float entropy) {
  const float share = (entropy - a.trials_low) / (a.trials_high - a.trials_low);
  if (!(share > 0)) return 1;  // also NaN
  const float more = static_cast<float>(a.most_trials - 1) * (share < 1 ? share : 1);
  return static_cast<int32_t>(1.0f + more);
}

bool may_win(const StopRuleArgs& a, const State& s) {
  if (a.choice == EXN_CHOOSE_FIRST) return complete(s) && (s.status & kFirst) != 0;
  return complete(s) || reason_of(s) == EXN_STOP_BUDGET;
}

// The best of the rows so far, of which the first stays where others are as good.
struct Winner {
  int64_t row = -1;
  float score = 0;

  void offer(int64_t other, float its) {
    if (row >= 0 && !(its > score || (std::isnan(score) && !std::isnan(its)))) return;
    row = other;
    score = its;
  }
};

}  // namespace

exn_status stop_rule(const StopRuleArgs& args, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  const StopRuleArgs a = args;  // a copy that no store can alias
  const exn_status status = check_contents(a);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "stop_rule"));

  // First pass: every row by itself.
  bool was_complete = false, is_complete = false;
  for (int64_t row = 0; row < a.rows; ++row) {
    State s = state_of(a, row);
    if (reason_of(s) != EXN_STOP_RUNNING) {
      was_complete |= complete(s);
      continue;
    }
    if (a.token[row] >= 0) count(a, row, &s);
    s.status = verdict(a, row, s);
    is_complete |= complete(s);
    if (s.status != EXN_STOP_RUNNING) s.status |= kNow;
    std::memcpy(a.state + row * EXN_STOP_STATE_WORDS, &s, sizeof s);
  }
  const bool cancels = a.scope == EXN_STOP_FIRST && (was_complete || is_complete);

  // Second pass: what that means to the others, and the outputs.
  int64_t running = 0;
  Winner winner;
  for (int64_t row = 0; row < a.rows; ++row) {
    int32_t* at = a.state + row * EXN_STOP_STATE_WORDS;
    State s;
    std::memcpy(&s, at, sizeof s);
    if ((s.status & kNow) != 0) {
      s.status ^= kNow;
      if (complete(s) && !was_complete) s.status |= kFirst;
    }
    if (cancels && reason_of(s) == EXN_STOP_RUNNING) s.status = EXN_STOP_CANCELLED;
    at[0] = s.status;
    const bool runs = reason_of(s) == EXN_STOP_RUNNING;
    const float score = score_of(a, s);
    if (may_win(a, s)) winner.offer(row, a.choice == EXN_CHOOSE_FIRST ? 0 : score);
    if (a.finished != nullptr) a.finished[row] = runs ? 0 : 1;
    if (a.reason != nullptr) a.reason[row] = reason_of(s);
    if (a.score != nullptr) a.score[row] = score;
    if (a.trials != nullptr) a.trials[row] = runs ? trials_of(a, a.entropy[row]) : 0;
    if (!runs) continue;
    if (a.active_list != nullptr) a.active_list[running] = static_cast<int32_t>(row);
    ++running;
  }
  for (int64_t i = running; a.active_list != nullptr && i < a.rows; ++i) a.active_list[i] = -1;
  if (a.active_count != nullptr) *a.active_count = static_cast<int32_t>(running);
  if (a.winner != nullptr) *a.winner = static_cast<int32_t>(winner.row);
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
