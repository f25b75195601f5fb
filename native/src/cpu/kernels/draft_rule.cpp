// SPDX-License-Identifier: Apache-2.0
// draft_rule on the CPU: a step is a few words per sequence, an update a table of candidates by
// draft lengths.
#include <cmath>
#include <cstring>

#include "../ids.h"
#include "base/args/draft_rule.h"
#include "elements.h"
#include "specdec.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr const char* kName = "exn_draft_rule";

long long wide(int64_t x) { return static_cast<long long>(x); }

struct State {
  float accepted;  // SPECDEC: C
  int32_t length;
  int32_t stopped;
};
static_assert(sizeof(State) == EXN_DRAFT_STATE_WORDS * 4, "the words of a state");

struct Plan {
  int32_t candidate;
  int32_t layers;
  int32_t length;  // d
  int32_t updates;
};
static_assert(sizeof(Plan) == EXN_DRAFT_PLAN_WORDS * 4, "the words of a plan");

// Statistics of a candidate, in this order.
enum { kMatches, kMismatches, kMatchSum, kMismatchSum, kStatistics };

Plan plan_of(const DraftRuleArgs& a, int64_t s) {
  Plan plan;
  std::memcpy(&plan, a.plan + s * EXN_DRAFT_PLAN_WORDS, sizeof plan);
  return plan;
}

float* statistics_of(const DraftRuleArgs& a, int64_t s, int64_t candidate) {
  return a.statistics + (s * a.candidates + candidate) * kStatistics;
}

exn_status check_plans(const DraftRuleArgs& a) {
  for (int64_t s = 0; s < a.sequences; ++s) {
    const Plan plan = plan_of(a, s);
    if (plan.candidate < 0 || plan.candidate >= a.candidates) {
      return fail(EXN_INVALID_ARGUMENT,
                  "%s: plan[%lld,0] is %d, but statistics has %lld candidates", kName, wide(s),
                  plan.candidate, wide(a.candidates));
    }
    if (plan.length < 0 || plan.updates < 0) {
      return fail(EXN_INVALID_ARGUMENT, "%s: plan[%lld,%d] is %d, expected at least 0", kName,
                  wide(s), plan.length < 0 ? 2 : 3, plan.length < 0 ? plan.length : plan.updates);
    }
  }
  return EXN_OK;
}

// Whom the outputs name: filled sequence by sequence.
class Listing {
 public:
  explicit Listing(const DraftRuleArgs& a) : a_(a) {}

  void add(int64_t s, bool drafts) {
    if (a_.drafting != nullptr) a_.drafting[s] = drafts ? 1 : 0;
    if (!drafts) return;
    if (a_.active_list != nullptr) a_.active_list[count_] = static_cast<int32_t>(s);
    ++count_;
  }
  void end() {
    if (a_.active_list != nullptr) {
      std::memset(a_.active_list + count_, 0xff,
                  static_cast<size_t>(a_.sequences - count_) * sizeof *a_.active_list);  // -1
    }
    if (a_.active_count != nullptr) *a_.active_count = static_cast<int32_t>(count_);
  }

 private:
  const DraftRuleArgs& a_;
  int64_t count_ = 0;
};

// ---- a step -------------------------------------------------------------------------------------

// Most tokens of the sequence's draft.
int32_t most_tokens(const DraftRuleArgs& a, int64_t s) {
  if (a.rule != EXN_DRAFT_DEL) return a.max_steps;
  const Plan plan = plan_of(a, s);
  if (plan.updates == 0) return 1;
  return a.form == EXN_FORM_PAPER && plan.length < a.max_steps ? plan.length : a.max_steps;
}

// DEL's threshold. 0 / 0 is NaN, below which is nothing.
float tau(const DraftRuleArgs& a, int64_t s) {
  const float* m = statistics_of(a, s, plan_of(a, s).candidate);
  return (m[kMatchSum] / m[kMatches] + m[kMismatchSum] / m[kMismatches]) / 2;
}

// What the rule makes of the token whose number is in the state, bounds aside.
bool rule_stops(const DraftRuleArgs& a, int64_t s, State* state) {
  switch (a.rule) {
    case EXN_DRAFT_FIXED:
      return false;
    case EXN_DRAFT_CONFIDENCE:
      return a.score[s] < a.threshold;
    case EXN_DRAFT_SPECDEC:
      if (!std::isnan(a.score[s])) {
        state->accepted = specdec_accepted(state->accepted, a.score[s], state->length);
      }
      return specdec_stops(state->accepted, a.threshold);
    default:
      return a.score[s] < tau(a, s);
  }
}

bool is_stop_token(const DraftRuleArgs& a, int64_t s) {
  for (int64_t i = 0; i < a.stop_count; ++i) {
    if (a.token[s] == a.stop_tokens[i]) return true;
  }
  return false;
}

void step(const DraftRuleArgs& a) {
  Listing listing(a);
  for (int64_t s = 0; s < a.sequences; ++s) {
    State state = {1, 0, 0};
    int32_t* words = a.state + s * EXN_DRAFT_STATE_WORDS;
    if (a.first == 0) std::memcpy(&state, words, sizeof state);
    const int32_t most = most_tokens(a, s);
    if (most == 0) state.stopped = 1;
    if (state.stopped == 0) {
      if (state.length < INT32_MAX) ++state.length;
      const bool stops = rule_stops(a, s, &state) && state.length >= a.min_steps;
      state.stopped = stops || state.length >= most || is_stop_token(a, s) ? 1 : 0;
    }
    std::memcpy(words, &state, sizeof state);
    if (a.length != nullptr) a.length[s] = state.length;
    listing.add(s, state.stopped == 0);
  }
  listing.end();
}

// ---- an update ----------------------------------------------------------------------------------

int32_t layers_of(const DraftRuleArgs& a, int64_t candidate) {
  return a.candidate != nullptr ? a.candidate[candidate] : static_cast<int32_t>(candidate + 1);
}

exn_status check_columns(const DraftRuleArgs& a) {
  const exn_status status =
      check_ids(kName, "columns", a.columns, a.sequences, 0, static_cast<int64_t>(a.width));
  if (status != EXN_OK || a.context == nullptr) return status;
  for (int64_t s = 0; s < a.sequences; ++s) {
    const int64_t columns = a.columns != nullptr ? a.columns[s] : a.width;
    if (a.context[s] < 0 || a.context[s] > columns) {
      return fail(EXN_INVALID_ARGUMENT,
                  "%s: context[%lld] is %d, but the sequence has %lld columns", kName, wide(s),
                  a.context[s], wide(columns));
    }
  }
  return EXN_OK;
}

// The rows of one sequence.
struct Shadows {
  const int32_t* token;  // [K,N]
  const float* prob;
  const int32_t* final_token;  // [N]
  int64_t width;

  // Neither match nor mismatch.
  bool unknown(int64_t k, int64_t j) const {
    return token[k * width + j] < 0 || final_token[j] < 0 || std::isnan(prob[k * width + j]);
  }
  bool agrees(int64_t k, int64_t j) const { return token[k * width + j] == final_token[j]; }
};

// The columns that count: up to the first after the context where the drafter was wrong.
int64_t counted(const Shadows& rows, int64_t drafter, int64_t context, int64_t columns) {
  for (int64_t j = context; j < columns; ++j) {
    if (rows.unknown(drafter, j) || !rows.agrees(drafter, j)) return j + 1;
  }
  return columns;
}

void add_columns(const Shadows& rows, int64_t k, int64_t columns, float omega, float* m) {
  int64_t matches = 0, mismatches = 0;
  float match_sum = 0, mismatch_sum = 0;
  for (int64_t j = 0; j < columns; ++j) {
    if (rows.unknown(k, j)) continue;
    const float prob = rows.prob[k * rows.width + j];
    if (rows.agrees(k, j)) {
      ++matches;
      match_sum += prob;
    } else {
      ++mismatches;
      mismatch_sum += prob;
    }
  }
  m[kMatches] = omega * m[kMatches] + static_cast<float>(matches);
  m[kMismatches] = omega * m[kMismatches] + static_cast<float>(mismatches);
  m[kMatchSum] = omega * m[kMatchSum] + match_sum;
  m[kMismatchSum] = omega * m[kMismatchSum] + mismatch_sum;
}

// Of each candidate: alpha, the layers that it runs, its best TPL and at which d.
struct Table {
  float* alpha;
  float* layers;
  float* tpl;
  float* length;
};

void best_lengths(const DraftRuleArgs& a, const Table& table) {
  const f32v one = set1(1.0f), model = set1(static_cast<float>(a.model_layers));
  for_vectors(a.candidates, [&](int64_t k, int lanes) EXN_FLAT {
    const f32v alpha = load_part(table.alpha + k, lanes, 0.0f);
    const f32v layers = load_part(table.layers + k, lanes, 1.0f);
    f32v sum = one, tpl = div(one, model), length = zero();
    for (int32_t d = 1; d < a.max_steps; ++d) {
      sum = add(one, mul(alpha, sum));
      const f32v tokens = set1(static_cast<float>(d));
      const f32v other = div(sum, add(model, mul(tokens, layers)));
      const maskv better = less(tpl, other);
      tpl = select(better, other, tpl);
      length = select(better, tokens, length);
    }
    store_part(table.tpl + k, tpl, lanes);
    store_part(table.length + k, length, lanes);
  });
}

void choose(const DraftRuleArgs& a, const Table& table, Plan* plan) {
  float best = -1;
  for (int64_t k = 0; k < a.candidates; ++k) {
    const bool known = table.alpha[k] >= 0 && table.alpha[k] <= 1;  // not NaN
    if (!known || !(table.tpl[k] > best)) continue;
    best = table.tpl[k];
    *plan = {static_cast<int32_t>(k), layers_of(a, k), static_cast<int32_t>(table.length[k]),
             plan->updates};
  }
}

void update(const DraftRuleArgs& a, const Table& table) {
  for (int64_t k = 0; k < a.candidates; ++k) table.layers[k] = static_cast<float>(layers_of(a, k));
  Listing listing(a);
  for (int64_t s = 0; s < a.sequences; ++s) {
    int64_t columns = a.columns != nullptr ? a.columns[s] : a.width;
    if (columns == 0) {
      listing.add(s, false);
      continue;
    }
    const int64_t context = a.context != nullptr ? a.context[s] : 0;
    const int64_t first = s * a.candidates * a.width;
    const Shadows rows = {a.shadow_token + first, a.shadow_prob + first,
                          a.final_token + s * a.width, a.width};
    Plan plan = plan_of(a, s);
    if (plan.length > 0) columns = counted(rows, plan.candidate, context, columns);
    for (int64_t k = 0; k < a.candidates; ++k) {
      float* m = statistics_of(a, s, k);
      add_columns(rows, k, columns, a.omega, m);
      table.alpha[k] = m[kMatches] / (m[kMatches] + m[kMismatches]);
    }
    best_lengths(a, table);
    choose(a, table, &plan);
    if (plan.updates < INT32_MAX) ++plan.updates;
    std::memcpy(a.plan + s * EXN_DRAFT_PLAN_WORDS, &plan, sizeof plan);
    listing.add(s, a.form == EXN_FORM_CODE || plan.length > 0);
  }
  listing.end();
}

// ---- a reset ------------------------------------------------------------------------------------

void reset(const DraftRuleArgs& a) {
  const Plan fresh = {0, layers_of(a, 0), 1, 0};
  const size_t bytes = static_cast<size_t>(a.candidates * kStatistics) * sizeof(float);
  for (int64_t s = 0; s < a.sequences; ++s) {
    if (a.mask != nullptr && a.mask[s] == 0) continue;
    std::memset(statistics_of(a, s, 0), 0, bytes);
    std::memcpy(a.plan + s * EXN_DRAFT_PLAN_WORDS, &fresh, sizeof fresh);
  }
}

}  // namespace

exn_status draft_rule(const DraftRuleArgs& args, Workspace& ws) {
  const DraftRuleArgs a = args;  // a copy that no store can alias
  const int64_t floats = a.action == EXN_DRAFT_UPDATE ? a.candidates : 0;
  const Table table = {ws.take<float>(floats), ws.take<float>(floats), ws.take<float>(floats),
                       ws.take<float>(floats)};
  if (ws.counting()) return EXN_OK;
  exn_status status = EXN_OK;
  if (a.action != EXN_DRAFT_STEP) {
    status = check_ids(kName, "candidate", a.candidate, a.candidates, 1, a.model_layers - 1);
  }
  if (status == EXN_OK && a.action == EXN_DRAFT_UPDATE) status = check_columns(a);
  if (status == EXN_OK && a.action != EXN_DRAFT_RESET && a.plan != nullptr) status = check_plans(a);
  if (status != EXN_OK) return status;
  if (a.action == EXN_DRAFT_STEP) {
    step(a);
  } else if (a.action == EXN_DRAFT_UPDATE) {
    update(a, table);
  } else {
    reset(a);
  }
  ran(EXN_CPU_PATH(ws, "draft_rule"));
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
