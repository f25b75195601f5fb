// SPDX-License-Identifier: Apache-2.0
// exit_rule on the CPU: one scalar pass over the rows, about 40 bytes each.
#include <cmath>
#include <cstring>

#include "isa.h"

namespace exn::cpu::EXN_ISA {
namespace {

// A row's state words. Words 0 and 1 hold floats (or the previous label), word 2 counts calls or agreements.
struct State {
  float a;        // QUANTILE: prod(1 - lambda). JEI: sum of g. SPECDEC: prod p. PATIENCE: previous score
  float b;        // JEI: prod(1 - a)
  int32_t count;  // PATIENCE: agreements. SPECDEC: calls
  int32_t flags;
};
static_assert(sizeof(State) == EXN_EXIT_STATE_WORDS * 4, "the state is EXN_EXIT_STATE_WORDS words");

constexpr int32_t kLeft = 1;  // the row has left
constexpr int32_t kSeen = 2;  // the row has been through a call

State initial(int32_t rule) {
  State s = {};
  if (rule == EXN_RULE_QUANTILE || rule == EXN_RULE_SPECDEC) s.a = 1;
  if (rule == EXN_RULE_JEI) s.b = 1;
  return s;
}

float decayed_threshold(const ExitRuleArgs& r, int32_t step) {
  if (r.decay == EXN_DECAY_NONE) return r.threshold;
  const float fade = ::expf(-r.decay_tau * static_cast<float>(step) / r.decay_horizon);
  if (r.decay == EXN_DECAY_CALM_CODE) return 0.9f * r.threshold + 0.1f * r.threshold * fade;
  const float theta = 0.9f * r.threshold + 0.1f * fade;
  return theta < 0 ? 0 : theta > 1 ? 1 : theta;
}

bool over_threshold(const ExitRuleArgs& r, float score, float theta) {
  switch (r.comparator) {
    case EXN_COMPARE_GE:
      return score >= theta;
    case EXN_COMPARE_GT:
      return score > theta;
    default:
      return score <= theta;
  }
}

bool patience(const ExitRuleArgs& r, int64_t row, State* s) {
  const bool seen = (s->flags & kSeen) != 0;
  bool agrees;
  if (r.label != nullptr) {
    int32_t previous;
    std::memcpy(&previous, &s->b, sizeof previous);
    agrees = seen && r.label[row] == previous;
    std::memcpy(&s->b, &r.label[row], sizeof previous);
  } else {
    agrees = seen && ::fabsf(r.score[row] - s->a) < r.threshold;
    s->a = r.score[row];
  }
  s->count = agrees ? s->count + 1 : 0;
  return r.patience > 0 && s->count >= r.patience;
}

bool quantile(const ExitRuleArgs& r, float lambda, State* s) {
  s->a *= 1 - lambda;
  return 1 - s->a > r.threshold;
}

bool jei(const ExitRuleArgs& r, float g, State* s) {
  const float rest = 1 - s->a;
  const float p = g < rest ? (g > 0 ? g : 0) : (rest > 0 ? rest : 0);
  // Nothing left to distribute: unreachable after an exit, defined as certainty.
  const float ratio = s->b > 0 ? p / s->b : 1;
  const float a = ratio < 0 ? 0 : ratio > 1 ? 1 : ratio;
  s->a += g;
  s->b *= 1 - a;
  return a >= r.threshold;
}

bool specdec(const ExitRuleArgs& r, float p, State* s) {
  s->count += 1;
  if (s->count > 1) s->a *= p;
  if (r.max_steps > 0 && s->count >= r.max_steps) return true;
  return s->count >= r.min_steps && 1 - s->a > r.threshold;
}

// Updates the state of an active row and says whether its own verdict is to leave. `theta`: the threshold of all rows, unless
// each has a step of its own.
template <int32_t kRule>
bool verdict(const ExitRuleArgs& r, int64_t row, float theta, State* s) {
  const bool usable = r.valid == nullptr || r.valid[row] != 0;
  const float score = r.score != nullptr ? r.score[row] : 0;
  if (!usable || std::isnan(score)) return false;
  s->flags |= kSeen;
  if constexpr (kRule == EXN_RULE_THRESHOLD) {
    return over_threshold(r, score, r.step != nullptr ? decayed_threshold(r, r.step[row]) : theta);
  }
  if constexpr (kRule == EXN_RULE_QUANTILE) return quantile(r, score, s);
  if constexpr (kRule == EXN_RULE_JEI) return jei(r, score, s);
  return specdec(r, score, s);
}

template <>
bool verdict<EXN_RULE_PATIENCE>(const ExitRuleArgs& r, int64_t row, float, State* s) {
  const bool usable = r.valid == nullptr || r.valid[row] != 0;
  if (!usable || (r.score != nullptr && std::isnan(r.score[row]))) return false;
  const bool leave = patience(r, row, s);
  s->flags |= kSeen;
  return leave;
}

struct Verdicts {
  bool all = true;  // every active row wants to leave
  bool last = false;
};

// First pass: every row's own verdict.
template <int32_t kRule>
Verdicts judge(const ExitRuleArgs& args, uint8_t* leaves) {
  const ExitRuleArgs r = args;  // a copy that no store of bytes can alias
  State* state = reinterpret_cast<State*>(r.state);
  const float theta = kRule == EXN_RULE_THRESHOLD ? decayed_threshold(r, r.step_index) : 0;
  const State fresh = initial(kRule);
  Verdicts verdicts;
  for (int64_t row = 0; row < r.rows; ++row) {
    State s = fresh;
    if (r.first == 0) std::memcpy(&s, state + row, sizeof s);
    const bool active = (s.flags & kLeft) == 0;
    const bool leave = active && verdict<kRule>(r, row, theta, &s);
    leaves[row] = leave ? 1 : 0;
    if (active && !leave) verdicts.all = false;
    verdicts.last = leave;
    std::memcpy(state + row, &s, sizeof s);
  }
  return verdicts;
}

Verdicts judge(const ExitRuleArgs& r, uint8_t* leaves) {
  switch (r.rule) {
    case EXN_RULE_THRESHOLD:
      return judge<EXN_RULE_THRESHOLD>(r, leaves);
    case EXN_RULE_PATIENCE:
      return judge<EXN_RULE_PATIENCE>(r, leaves);
    case EXN_RULE_QUANTILE:
      return judge<EXN_RULE_QUANTILE>(r, leaves);
    case EXN_RULE_JEI:
      return judge<EXN_RULE_JEI>(r, leaves);
    default:
      return judge<EXN_RULE_SPECDEC>(r, leaves);
  }
}

}  // namespace

exn_status exit_rule(const ExitRuleArgs& args, Workspace& ws) {
  uint8_t* leaves = ws.take<uint8_t>(args.rows);
  if (ws.counting()) return EXN_OK;
  const ExitRuleArgs r = args;  // a copy that no store of bytes can alias
  ran(EXN_CPU_PATH("exit_rule"));
  const Verdicts verdicts = judge(r, leaves);

  int64_t active_count = 0;
  for (int64_t row = 0; row < r.rows; ++row) {
    int32_t* flags = r.state + row * EXN_EXIT_STATE_WORDS + 3;
    const bool active = (*flags & kLeft) == 0;
    const bool agreed = r.scope == EXN_SCOPE_EACH ? leaves[row] != 0 : r.scope == EXN_SCOPE_ALL ? verdicts.all : verdicts.last;
    const bool usable = r.valid == nullptr || r.valid[row] != 0;
    const bool leave = active && (r.force != 0 || (agreed && usable));
    if (leave) *flags |= kLeft;
    if (r.exit_mask != nullptr) r.exit_mask[row] = leave ? 1 : 0;
    if (r.exit_layer != nullptr) {
      if (leave) {
        r.exit_layer[row] = r.layer;
      } else if (r.first != 0) {
        r.exit_layer[row] = -1;
      }
    }
    if (active && !leave) {
      if (r.active_list != nullptr) r.active_list[active_count] = static_cast<int32_t>(row);
      ++active_count;
    }
  }
  if (r.active_list != nullptr) {
    for (int64_t i = active_count; i < r.rows; ++i) r.active_list[i] = -1;
  }
  if (r.active_count != nullptr) *r.active_count = static_cast<int32_t>(active_count);
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
