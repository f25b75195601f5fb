// SPDX-License-Identifier: Apache-2.0
#include "draft_rule/case.h"

#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace draft_rule_op {

namespace {

enum DraftOutput { kLength, kDrafting, kActiveList, kActiveCount };

struct DraftRuleCase : CaseBase {
  int64_t sequences = 0;
  int64_t rounds = 0;
  int64_t steps = 0;  // of a round
  int32_t rule = EXN_DRAFT_FIXED;
  int32_t form = EXN_FORM_CODE;
  int32_t min_steps = 0;
  int32_t max_steps = 1;
  float threshold = 0;
  std::string scores;
  bool nan = false;
  std::vector<int64_t> stops;
  int64_t candidates = 1;
  std::vector<int64_t> layers;  // of each candidate, if given
  int32_t model_layers = 2;
  int64_t columns = 0;
  bool ragged = false;
  bool context = false;
  float omega = 1;
  bool given = false;  // statistics and plans to start with, else a reset
  bool resets = false;
  std::string hostile;
  uint32_t outputs = 0;

  bool learns() const { return rule == EXN_DRAFT_DEL; }
};

void read_case(const Row& row, DraftRuleCase* c) {
  c->sequences = row.integer("sequences");
  c->rounds = row.integer("rounds");
  c->steps = row.integer("steps");
  c->rule = row.choice("rule", {"fixed", "confidence", "specdec", "del"});
  c->form = row.choice("form", {"code", "paper"});
  c->min_steps = static_cast<int32_t>(row.integer("min_steps"));
  c->max_steps = static_cast<int32_t>(row.integer("max_steps"));
  c->threshold = row.number("threshold");
  c->scores = row.text("scores");
  c->nan = row.choice("special", {"-", "nan"}) == 1;
  if (row.text("stops") != "-") c->stops = read_list(row.text("stops"), ',');
  c->candidates = row.integer("candidates");
  if (row.text("layers") != "-") c->layers = read_list(row.text("layers"), ',');
  c->model_layers = static_cast<int32_t>(row.integer("model_layers"));
  c->columns = row.integer("columns");
  c->ragged = row.choice("lengths", {"-", "ragged"}) == 1;
  c->context = row.choice("context", {"-", "some"}) == 1;
  c->omega = row.number("omega");
  c->given = row.choice("start", {"reset", "given"}) == 1;
  c->resets = row.choice("resets", {"-", "some"}) == 1;
  c->hostile = row.text("hostile");
  c->outputs = row.subset("outputs", {"length", "drafting", "active_list", "active_count"});
}

enum Stream : uint64_t {
  kScores,
  kNans,
  kTokens,
  kFinals,
  kHits,
  kProbs,
  kUnknown,
  kColumns,
  kContext,
  kMask,
  kStatistics,
  kPlan,
};

float score_of(const std::string& kind, uint64_t w) {
  if (kind == "unit") return unit(w);
  if (kind == "eighths") return static_cast<float>((w >> 32) % 9) * 0.125f;
  if (kind == "high") return 1 - unit(w) * 0.125f;
  fail("scores: unknown word '" + kind + "'");
}

DraftInputs step_inputs(const DraftRuleCase& c, int64_t round, int64_t step) {
  DraftInputs in;
  if (c.scores != "-") in.score = make_tensor(Type::kF32, {c.sequences});
  if (!c.stops.empty()) {
    in.token = make_tensor(Type::kI32, {c.sequences});
    in.stop_tokens = make_tensor(Type::kI32, {static_cast<int64_t>(c.stops.size())});
    for (size_t i = 0; i < c.stops.size(); ++i)
      in.stop_tokens.set_integer(static_cast<int64_t>(i), c.stops[i]);
  }
  for (int64_t s = 0; s < c.sequences; ++s) {
    const int64_t i = (round * c.steps + step) * c.sequences + s;
    if (in.score.given()) {
      const bool nan = c.nan && pick(c.seed, kNans, i, 7) == 0;
      const uint64_t w = word(c.seed, kScores, static_cast<uint64_t>(i));
      in.score.set(0, s, nan ? kNaN : static_cast<double>(score_of(c.scores, w)));
    }
    if (in.token.given()) in.token.set_integer(s, pick(c.seed, kTokens, i, 50));
  }
  return in;
}

bool is_hostile(int64_t i) { return i % 3 == 1; }

HostTensor candidates_of(const DraftRuleCase& c) {
  if (c.layers.empty()) return {};
  HostTensor layers = make_tensor(Type::kI32, {c.candidates});
  for (int64_t k = 0; k < c.candidates; ++k) {
    const bool stray = c.hostile == "candidate" && is_hostile(k);
    layers.set_integer(k, stray ? (k % 2 == 0 ? 0 : c.model_layers) : c.layers[at(k)]);
  }
  return layers;
}

// The later a candidate leaves, the more often it agrees.
DraftInputs update_inputs(const DraftRuleCase& c, int64_t round) {
  DraftInputs in;
  in.shadow_token = make_tensor(Type::kI32, {c.sequences, c.candidates, c.columns});
  in.shadow_prob = make_tensor(Type::kF32, {c.sequences, c.candidates, c.columns});
  in.final_token = make_tensor(Type::kI32, {c.sequences, c.columns});
  if (c.ragged) in.columns = make_tensor(Type::kI32, {c.sequences});
  if (c.context) in.context = make_tensor(Type::kI32, {c.sequences});
  in.candidate = candidates_of(c);
  for (int64_t s = 0; s < c.sequences; ++s) {
    const int64_t row = round * c.sequences + s;
    const int64_t columns = c.ragged ? pick(c.seed, kColumns, row, c.columns + 1) : c.columns;
    const bool stray = c.hostile == "columns" && is_hostile(s);
    if (c.ragged) in.columns.set_integer(s, stray ? (s % 2 == 0 ? -1 : c.columns + 1) : columns);
    if (c.context) {
      const bool beyond = c.hostile == "context" && is_hostile(s);
      const int64_t known = round == 0 ? pick(c.seed, kContext, row, columns + 1) : 0;
      in.context.set_integer(s, beyond ? (s % 2 == 0 ? -1 : columns + 1) : known);
    }
    for (int64_t j = 0; j < c.columns; ++j) {
      const int64_t i = row * c.columns + j;
      const int64_t token = pick(c.seed, kFinals, i, 4);
      const bool lost = c.nan && pick(c.seed, kUnknown, i, 13) == 0;
      in.final_token.set_integer(s * c.columns + j, lost ? -1 : token);
      for (int64_t k = 0; k < c.candidates; ++k) {
        const int64_t shadow = (s * c.candidates + k) * c.columns + j;
        const uint64_t w = static_cast<uint64_t>((row * c.candidates + k) * c.columns + j);
        const double odds =
            0.3 + 0.6 * static_cast<double>(k + 1) / static_cast<double>(c.candidates);
        const bool hit = static_cast<double>(unit(word(c.seed, kHits, w))) < odds;
        const int64_t unknown =
            c.nan ? static_cast<int64_t>(word(c.seed, kUnknown + 100, w) % 9) : 9;
        in.shadow_token.set_integer(shadow, unknown == 0 ? -1 : hit ? token : (token + 1) % 4);
        const double prob = static_cast<double>(unit(word(c.seed, kProbs, w)));
        in.shadow_prob.set(0, shadow, unknown == 1 ? kNaN : prob);
      }
    }
  }
  return in;
}

DraftInputs reset_inputs(const DraftRuleCase& c, int64_t round) {
  DraftInputs in;
  in.candidate = candidates_of(c);
  if (round == 0) return in;
  in.mask = make_tensor(Type::kU8, {c.sequences});
  for (int64_t s = 0; s < c.sequences; ++s)
    in.mask.set_integer(s, pick(c.seed, kMask, round * c.sequences + s, 4) == 0);
  return in;
}

double float_word(const HostTensor& t, int64_t i) {
  float v;
  std::memcpy(&v, t.bytes.data() + i * 4, sizeof v);
  return static_cast<double>(v);
}

}  // namespace

// ---- oracle -------------------------------------------------------------------------------------

DraftOracle::Verdict DraftOracle::below(double score, double threshold, double band) {
  const double distance = std::fabs(score - threshold);
  if (distance > 0 && distance <= band) return Verdict::kEither;
  return score < threshold ? Verdict::kStop : Verdict::kGoOn;  // NaN is below nothing
}

DraftOracle::Verdict DraftOracle::verdict(const DraftCall& call, double score, size_t s) {
  State& state = states[s];
  const double threshold = static_cast<double>(call.threshold);
  if (call.rule == EXN_DRAFT_CONFIDENCE) return below(score, threshold, 0);
  if (call.rule == EXN_DRAFT_SPECDEC) {
    if (state.length > 1 && !std::isnan(score)) state.accepted *= score;
    // C has an error of u for each factor, and the difference to 1 one more.
    const double band = static_cast<double>(state.length + 1) * kUnit;
    return below(threshold, 1 - state.accepted, state.accepted == 1 ? 0 : band);
  }
  if (call.rule != EXN_DRAFT_DEL) return Verdict::kGoOn;
  const Statistics& m =
      statistics[s * static_cast<size_t>(candidates_) + static_cast<size_t>(plans[s].candidate)];
  const double tau = (m.match_sum / m.matches + m.mismatch_sum / m.mismatches) / 2;
  return below(score, tau, kBand * tau);
}

void DraftOracle::step(const DraftCall& call, const DraftInputs& in,
                       const std::vector<uint8_t>* observed) {
  drafting.assign(states.size(), 0);
  lengths.assign(states.size(), -1);
  for (size_t s = 0; s < states.size(); ++s) {
    const int64_t row = static_cast<int64_t>(s);
    State& state = states[s];
    if (call.first != 0) state = State{};
    const bool learned = call.rule == EXN_DRAFT_DEL;
    if (learned && !sound(s)) {
      state.stopped = true;
      continue;
    }
    int64_t most = call.max_steps;
    if (learned && plans[s].updates == 0) {
      most = 1;
    } else if (learned && call.form == EXN_FORM_PAPER) {
      most = std::min<int64_t>(most, plans[s].length);
    }
    if (most == 0) state.stopped = true;
    if (!state.stopped) {
      ++state.length;
      const double score = in.score.given() ? in.score.at(0, row) : 0;
      Verdict stops = verdict(call, score, s);
      if (state.length < call.min_steps) stops = Verdict::kGoOn;
      if (state.length >= most) stops = Verdict::kStop;
      for (int64_t i = 0; i < in.stop_tokens.size(); ++i) {
        if (in.token.integer_at(row) == in.stop_tokens.integer_at(i)) stops = Verdict::kStop;
      }
      ++decisions;
      if (stops == Verdict::kEither) {
        ++band_hits;
        if (observed == nullptr) undecided = true;
        if (observed != nullptr) stops = (*observed)[s] != 0 ? Verdict::kGoOn : Verdict::kStop;
      }
      state.stopped = stops == Verdict::kStop;
    }
    drafting[s] = state.stopped ? 0 : 1;
    lengths[s] = state.length;
  }
}

void DraftOracle::add_columns(const DraftCall& call, const DraftInputs& in, size_t s,
                              int64_t columns) {
  const int64_t width = in.final_token.shape[1];
  const double omega = static_cast<double>(call.omega);
  for (int64_t k = 0; k < candidates_; ++k) {
    const int64_t candidate = static_cast<int64_t>(s) * candidates_ + k;
    Statistics& m = statistics[at(candidate)];
    m.matches *= omega;
    m.mismatches *= omega;
    m.match_sum *= omega;
    m.mismatch_sum *= omega;
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t shadow = in.shadow_token.integer_at(candidate * width + j);
      const int64_t token = in.final_token.integer_at(static_cast<int64_t>(s) * width + j);
      const double prob = in.shadow_prob.at(0, candidate * width + j);
      if (shadow < 0 || token < 0 || std::isnan(prob)) continue;
      (shadow == token ? m.matches : m.mismatches) += 1;
      (shadow == token ? m.match_sum : m.mismatch_sum) += prob;
    }
  }
}

void DraftOracle::choose(const DraftCall& call, const DraftInputs& in, size_t s) {
  double best = -1;
  Plan chosen = plans[s];
  double runner_up = -1;  // the best of all but the chosen one and its exact equals
  for (int64_t k = 0; k < candidates_; ++k) {
    const Statistics& m = statistics[s * static_cast<size_t>(candidates_) + static_cast<size_t>(k)];
    const double alpha = m.matches / (m.matches + m.mismatches);
    const int64_t layers = in.candidate.given() ? in.candidate.integer_at(k) : k + 1;
    if (!(alpha >= 0 && alpha <= 1) || layers < 1 || layers >= call.model_layers) continue;
    double tokens = 0, power = 1;
    for (int64_t d = 0; d < call.max_steps; ++d) {
      tokens += power;
      power *= alpha;
      const double tpl = tokens / static_cast<double>(call.model_layers + d * layers);
      if (tpl > best) {
        runner_up = best;
        best = tpl;
        chosen.candidate = k;
        chosen.layers = layers;
        chosen.length = d;
      } else if (tpl < best || d > 0) {  // drafts of 0 tokens are equal to the bit
        runner_up = std::max(runner_up, tpl);
      }
    }
  }
  if (best > 0 && runner_up >= best * (1 - kBand)) undecided = true;
  chosen.updates += 1;
  plans[s] = chosen;
}

void DraftOracle::update(const DraftCall& call, const DraftInputs& in) {
  const int64_t width = in.final_token.shape[1];
  drafting.assign(states.size(), 0);
  for (size_t s = 0; s < plans.size(); ++s) {
    const int64_t row = static_cast<int64_t>(s);
    int64_t columns = in.columns.given() ? in.columns.integer_at(row) : width;
    const int64_t context = in.context.given() ? in.context.integer_at(row) : 0;
    const bool known = columns >= 0 && columns <= width && context >= 0 && context <= columns;
    if (!known || columns == 0 || !sound(s)) continue;
    for (int64_t j = context; plans[s].length > 0 && j < columns; ++j) {
      const int64_t shadow = (row * candidates_ + plans[s].candidate) * width + j;
      const int64_t token = in.final_token.integer_at(row * width + j);
      const bool right = token >= 0 && in.shadow_token.integer_at(shadow) == token &&
                         !std::isnan(in.shadow_prob.at(0, shadow));
      if (!right) columns = j + 1;
    }
    add_columns(call, in, s, columns);
    choose(call, in, s);
    drafting[s] = call.form == EXN_FORM_CODE || plans[s].length > 0 ? 1 : 0;
  }
}

void DraftOracle::reset(const DraftInputs& in) {
  for (size_t s = 0; s < plans.size(); ++s) {
    if (in.mask.given() && in.mask.integer_at(static_cast<int64_t>(s)) == 0) continue;
    plans[s] = Plan{};
    plans[s].layers = in.candidate.given() ? in.candidate.integer_at(0) : 1;
    for (int64_t k = 0; k < candidates_; ++k)
      statistics[s * static_cast<size_t>(candidates_) + static_cast<size_t>(k)] = Statistics{};
  }
}

namespace {

// ---- case ---------------------------------------------------------------------------------------

// Statistics and plans that a case starts with: of earlier rounds, or what a reset has to forget.
HostTensor first_statistics(const DraftRuleCase& c) {
  HostTensor t = make_tensor(Type::kF32, {c.sequences, c.candidates, 4});
  for (int64_t i = 0; i < t.size(); ++i) {
    const double value =
        static_cast<double>(unit(word(c.seed, kStatistics, static_cast<uint64_t>(i))));
    // About as many matches as mismatches, with probabilities of .2 to .75.
    const double given = i % 4 < 2 ? 4 + value : 1 + 2 * value;
    t.set(0, i, c.given ? given : kNaN);
  }
  return t;
}

HostTensor first_plan(const DraftRuleCase& c) {
  HostTensor t = make_tensor(Type::kI32, {c.sequences, EXN_DRAFT_PLAN_WORDS});
  for (int64_t s = 0; s < c.sequences; ++s) {
    const int64_t candidate = pick(c.seed, kPlan, s, c.candidates);
    const int64_t words[EXN_DRAFT_PLAN_WORDS] = {
        candidate, c.layers.empty() ? candidate + 1 : c.layers[at(candidate)],
        pick(c.seed, kPlan + 100, s, c.max_steps), 1 + s % 2};
    for (int64_t w = 0; w < EXN_DRAFT_PLAN_WORDS; ++w)
      t.set_integer(s * EXN_DRAFT_PLAN_WORDS + w, c.given ? words[w] : 0x55555555);
    if (c.hostile != "plan" || !is_hostile(s)) continue;
    const int64_t bad = s % 4;  // candidate below and beyond, d, updates
    const int64_t stray = bad == 1 ? c.candidates : -1;
    t.set_integer(s * EXN_DRAFT_PLAN_WORDS + (bad < 2 ? 0 : bad), stray);
  }
  return t;
}

DraftCall options_of(const DraftRuleCase& c, int32_t action) {
  DraftCall call = {};
  call.struct_size = sizeof call;
  call.action = action;
  call.rule = c.rule;
  call.form = c.form;
  call.min_steps = c.min_steps;
  call.max_steps = c.max_steps;
  call.model_layers = c.model_layers;
  call.threshold = c.threshold;
  call.omega = c.omega;
  return call;
}

// Plays all calls: visit(call, inputs) for each.
template <class Visit>
void play(const DraftRuleCase& c, Visit&& visit) {
  for (int64_t round = 0; round < c.rounds; ++round) {
    const bool resets = c.learns() && (round == 0 ? !c.given : c.resets);
    if (resets) visit(options_of(c, EXN_DRAFT_RESET), reset_inputs(c, round));
    for (int64_t step = 0; step < c.steps; ++step) {
      DraftCall call = options_of(c, EXN_DRAFT_STEP);
      call.first = step == 0 ? 1 : 0;
      visit(call, step_inputs(c, round, step));
    }
    if (c.learns()) visit(options_of(c, EXN_DRAFT_UPDATE), update_inputs(c, round));
  }
}

bool asks_for(const DraftRuleCase& c, DraftOutput output) { return (c.outputs >> output & 1) != 0; }

std::unique_ptr<Instance> instantiate(const DraftRuleCase& c, int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  HostTensor old_state = make_tensor(Type::kI32, {c.sequences, EXN_DRAFT_STATE_WORDS});
  std::fill(old_state.bytes.begin(), old_state.bytes.end(), static_cast<unsigned char>(0x55));
  const DLTensor *state = instance->in_out("state", old_state), *statistics = nullptr,
                 *plan = nullptr;
  if (c.learns()) {
    statistics = instance->in_out("statistics", first_statistics(c));
    plan = instance->in_out("plan", first_plan(c));
  }
  play(c, [&](DraftCall call, const DraftInputs& in) {
    const bool steps = call.action == EXN_DRAFT_STEP;
    const auto output = [&](DraftOutput which, const char* name, Type type, int64_t size) {
      return asks_for(c, which) ? instance->output(name, type, {size}) : nullptr;
    };
    call.score = instance->input(in.score);
    call.token = instance->input(in.token);
    call.stop_tokens = instance->input(in.stop_tokens);
    call.shadow_token = instance->input(in.shadow_token);
    call.shadow_prob = instance->input(in.shadow_prob);
    call.final_token = instance->input(in.final_token);
    call.columns = instance->input(in.columns);
    call.context = instance->input(in.context);
    call.candidate = instance->input(in.candidate);
    call.mask = instance->input(in.mask);
    call.statistics = statistics;
    call.plan = plan;
    if (steps) call.state = state;
    if (steps) call.length = output(kLength, "length", Type::kI32, c.sequences);
    if (call.action != EXN_DRAFT_RESET) {
      call.drafting = output(kDrafting, "drafting", Type::kU8, c.sequences);
      call.active_list = output(kActiveList, "active_list", Type::kI32, c.sequences);
      call.active_count = output(kActiveCount, "active_count", Type::kI32, 1);
    }
    instance->call(EXN_TEST_OP(draft_rule), call, c.hostile != "-");
  });
  return instance;
}

// The state that the calls leave.
class Judge {
 public:
  Judge(const DraftRuleCase& c, const Outputs& got)
      : c_(c), oracle_(c.sequences, c.candidates), got_(got), next_(c.learns() ? 3 : 1) {
    if (c.given) start();
  }

  Complaint all() {
    Complaint complaint;
    int64_t number = 0;
    play(c_, [&](const DraftCall& call, const DraftInputs& in) {
      if (complaint.empty()) complaint = one(call, in);
      if (complaint.empty()) ++number;
    });
    if (!complaint.empty()) return "call " + text(number) + ": " + complaint;
    count_band("draft_rule", oracle_.band_hits, oracle_.decisions);
    return first_of({states(), c_.learns() ? statistics() : "", c_.learns() ? plans() : ""});
  }

 private:
  void start() {
    const HostTensor statistics = first_statistics(c_), plan = first_plan(c_);
    for (int64_t i = 0; i < c_.sequences * c_.candidates; ++i) {
      const auto value = [&](int64_t w) { return statistics.at(0, 4 * i + w); };
      oracle_.statistics[at(i)] = {value(0), value(1), value(2), value(3)};
    }
    for (int64_t s = 0; s < c_.sequences; ++s) {
      const auto word = [&](int64_t w) { return plan.integer_at(s * EXN_DRAFT_PLAN_WORDS + w); };
      oracle_.plans[at(s)] = {word(0), word(1), word(2), word(3)};
    }
  }

  Complaint one(const DraftCall& call, const DraftInputs& in) {
    if (call.action == EXN_DRAFT_RESET) {
      oracle_.reset(in);
      return "";
    }
    const bool steps = call.action == EXN_DRAFT_STEP;
    const HostTensor* length = steps && asks_for(c_, kLength) ? &got_[next_++] : nullptr;
    const HostTensor* drafting = asks_for(c_, kDrafting) ? &got_[next_++] : nullptr;
    if (steps && drafting != nullptr) {
      const std::vector<uint8_t> observed(drafting->bytes.begin(), drafting->bytes.end());
      oracle_.step(call, in, &observed);
    } else if (steps) {
      oracle_.step(call, in, nullptr);
    } else {
      oracle_.update(call, in);
    }
    if (oracle_.undecided) return "a decision within its band that no output shows";
    std::vector<int64_t> active;
    for (size_t s = 0; s < oracle_.drafting.size(); ++s) {
      if (oracle_.drafting[s] != 0) active.push_back(static_cast<int64_t>(s));
    }
    const int64_t count = static_cast<int64_t>(active.size());
    active.resize(at(c_.sequences), -1);
    const Complaint complaint = first_of(
        {length != nullptr ? compare_integers("length", oracle_.lengths, *length) : "",
         drafting != nullptr ? compare_integers("drafting", widened(oracle_.drafting), *drafting)
                             : ""});
    if (!complaint.empty()) return complaint;
    return first_of(
        {asks_for(c_, kActiveList) ? compare_integers("active_list", active, got_[next_++]) : "",
         asks_for(c_, kActiveCount) ? compare_integers("active_count", {count}, got_[next_++])
                                    : ""});
  }

  Complaint states() {
    for (int64_t s = 0; s < c_.sequences && c_.steps > 0; ++s) {
      const DraftOracle::State& state = oracle_.states[at(s)];
      const int64_t at_word = s * EXN_DRAFT_STATE_WORDS;
      if (got_[0].integer_at(at_word + 1) != state.length ||
          got_[0].integer_at(at_word + 2) != (state.stopped ? 1 : 0)) {
        return "state of sequence " + text(s);
      }
      if (c_.rule != EXN_DRAFT_SPECDEC) continue;
      const double bound = static_cast<double>(c_.max_steps) * kUnit * state.accepted;
      const Complaint complaint =
          compare("C", text(s), {state.accepted, bound}, float_word(got_[0], at_word));
      if (!complaint.empty()) return complaint;
    }
    return "";
  }

  // Sums of terms that are not negative: a rounding for each, and two for each update.
  Complaint statistics() {
    const double share = static_cast<double>(2 * c_.rounds + c_.columns + 1) * kUnit;
    for (int64_t i = 0; i < c_.sequences * c_.candidates; ++i) {
      const DraftOracle::Statistics& m = oracle_.statistics[at(i)];
      const double expected[] = {m.matches, m.mismatches, m.match_sum, m.mismatch_sum};
      for (int64_t w = 0; w < 4; ++w) {
        const double value = expected[w];
        const Complaint complaint =
            compare("statistics", place(i / c_.candidates, i % c_.candidates) + place(0, w),
                    {value, share * value}, got_[1].at(0, 4 * i + w));
        if (!complaint.empty()) return complaint;
      }
    }
    return "";
  }

  Complaint plans() {
    std::vector<int64_t> words;
    for (const DraftOracle::Plan& plan : oracle_.plans) {
      for (int64_t w : {plan.candidate, plan.layers, plan.length, plan.updates}) words.push_back(w);
    }
    return compare_integers("plan", words, got_[2]);
  }

  const DraftRuleCase& c_;
  DraftOracle oracle_;
  const Outputs& got_;
  size_t next_;
};

Case make_case(const DraftRuleCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) { return instantiate(c, device_type); };
  result.judge = [c](const Outputs& got) { return Judge(c, got).all(); };
  result.cpu_refuses = c.hostile != "-";
  const int64_t updates = c.learns() ? c.rounds : 0;
  result.compulsory_bytes = static_cast<double>(
      c.sequences * (30 * c.rounds * c.steps + updates * c.candidates * (8 * c.columns + 32)));
  result.description = {{"sequences", text(c.sequences)},
                        {"candidates", text(c.candidates)},
                        {"calls", text(c.rounds * c.steps + updates)}};
  return result;
}

void describe_step(Maker& m, exn_draft_rule_params& p, int32_t rule, Dim sequences) {
  m.in(FIELD(score), kF32, {sequences}, rule == EXN_DRAFT_FIXED ? kOptional : kPlain);
  const bool ends = m.in(FIELD(token), kI32, {sequences}, kOptional) != nullptr;
  ends ? (void)m.in(FIELD(stop_tokens), kI32, {m.dim("stops", 0, 2, 9)}, kOptional)
       : m.none(FIELD(stop_tokens));
  m.in_out(FIELD(state), kI32, {sequences, m.fixed(EXN_DRAFT_STATE_WORDS)});
  m.out(FIELD(length), kI32, {sequences}, kOptional);
}

void describe_update(Maker& m, exn_draft_rule_params& p, Dim sequences, Dim candidates) {
  const Dim columns = m.dim("columns", 0, 6, 40);
  m.in(FIELD(shadow_token), kI32, {sequences, candidates, columns});
  m.in(FIELD(shadow_prob), kF32, {sequences, candidates, columns});
  m.in(FIELD(final_token), kI32, {sequences, columns});
  const Ids counts = {0, columns.size, true};
  const bool ragged = m.ids(FIELD(columns), {sequences}, counts, kOptional) != nullptr;
  // Beside them it may not be just anything.
  m.ids(FIELD(context), {sequences}, counts, ragged ? kOptional | kNever : kOptional);
}

void describe(Maker& m, exn_draft_rule_params& p) {
  const Dim sequences = m.dim("sequences", 0, 4, 70), candidates = m.dim("candidates", 1, 5, 40);
  const int32_t action = m.mode(FIELD(action), EXN_DRAFT_STEP, EXN_DRAFT_RESET);
  const bool steps = action == EXN_DRAFT_STEP, updates = action == EXN_DRAFT_UPDATE;
  int32_t rule = EXN_DRAFT_FIXED;
  if (steps) rule = m.mode(FIELD(rule), EXN_DRAFT_FIXED, EXN_DRAFT_DEL);
  if (!steps) m.any_integer(FIELD(rule), 0);
  const bool learned = steps && rule == EXN_DRAFT_DEL;
  m.zero(FIELD(reserved));
  if (steps) {
    describe_step(m, p, rule, sequences);
  } else {
    m.none(FIELD(score));
    m.none(FIELD(token));
    m.none(FIELD(stop_tokens));
    m.none(FIELD(state));
    m.none(FIELD(length));
  }
  const Dim four = m.fixed(4);
  if (learned) {
    m.in(FIELD(statistics), kF32, {sequences, candidates, four});
    m.integers(FIELD(plan), Role::kIn, {sequences, four});
  } else if (!steps) {
    m.in_out(FIELD(statistics), kF32, {sequences, candidates, four});
    m.integers(FIELD(plan), Role::kInOut, {sequences, four});
  } else {
    m.none(FIELD(statistics));
    m.none(FIELD(plan));
  }
  if (updates) {
    describe_update(m, p, sequences, candidates);
  } else {
    m.none(FIELD(shadow_token));
    m.none(FIELD(shadow_prob));
    m.none(FIELD(final_token));
    m.none(FIELD(columns));
    m.none(FIELD(context));
  }
  const int64_t layers = candidates.size + 1 + m.random().below(9);
  if (steps) {
    m.none(FIELD(candidate));
    m.any_integer(FIELD(model_layers), 0);
  } else {
    if (m.ids(FIELD(candidate), {candidates}, {1, layers - 1, true}, kOptional) != nullptr) {
      m.any_integer(FIELD(model_layers), layers);  // those that are looked at decide
    } else {
      m.integer(FIELD(model_layers), layers, candidates.size + 1, 1 << 20);
    }
  }
  if (steps || updates) {
    m.out(FIELD(drafting), kU8, {sequences}, kOptional);
    m.out(FIELD(active_list), kI32, {sequences}, kOptional);
    m.out(FIELD(active_count), kI32, {m.fixed(1)}, kOptional);
    m.none(FIELD(mask));
  } else {
    m.none(FIELD(drafting));
    m.none(FIELD(active_list));
    m.none(FIELD(active_count));
    m.in(FIELD(mask), kU8, {sequences}, kOptional);
  }
  const int64_t least = m.random().below(3), most = least + 1 + m.random().below(18);
  const bool bounded = steps && rule != EXN_DRAFT_FIXED;
  m.integer(FIELD(min_steps), least, bounded ? 0 : kAny64, bounded ? most : INT64_MAX);
  const int64_t fewest = bounded ? std::max<int64_t>(1, least) : 1;
  m.integer(FIELD(max_steps), most, steps || updates ? fewest : kAny64,
            steps || updates ? 65536 : INT64_MAX);
  const bool forms = learned || updates;
  m.integer(FIELD(form), m.random().below(2), forms ? 0 : kAny64, forms ? 1 : INT64_MAX);
  m.integer(FIELD(first), m.random().below(2), steps ? 0 : kAny64, steps ? 1 : INT64_MAX);
  const bool compares = rule == EXN_DRAFT_CONFIDENCE || rule == EXN_DRAFT_SPECDEC;
  compares ? m.real(FIELD(threshold), Domain::kNotNan) : m.unused(FIELD(threshold));
  updates ? m.real(FIELD(omega), Domain::kShare) : m.unused(FIELD(omega));
}

const Described kDescribed = EXN_DESCRIBED(draft_rule);

const RegisteredOp kRegistered("draft_rule", [] {
  return listed("draft_rule", read_cases<DraftRuleCase>("draft_rule", read_case), make_case);
});

}  // namespace

}  // namespace draft_rule_op
}  // namespace exn::test
