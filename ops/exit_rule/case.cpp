// SPDX-License-Identifier: Apache-2.0
#include "exit_rule/case.h"

#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace exit_rule_op {

namespace {

enum ExitOutput { kExitMask, kActiveList, kActiveCount, kExitLayer };

struct ExitRuleCase : CaseBase {
  int64_t rows = 0;
  int64_t layers = 0;
  int64_t tokens = 0;
  int32_t rule = EXN_RULE_THRESHOLD;
  int32_t comparator = EXN_COMPARE_GE;
  int32_t decay = EXN_DECAY_NONE;
  float tau = 0;
  float horizon = 1;
  bool step_tensor = false;
  int32_t scope = EXN_SCOPE_EACH;
  float threshold = 0;
  int32_t patience = 0;
  int32_t min_steps = 0;
  int32_t max_steps = 0;
  std::string scores;
  int64_t labels = 0;  // 0: none
  bool valid = false;
  bool nan = false;
  bool force = false;
  uint32_t outputs = 0;
};

void read_case(const Row& row, ExitRuleCase* c) {
  c->rows = row.integer("rows");
  c->layers = row.integer("layers");
  c->tokens = row.integer("tokens");
  c->rule = row.choice("rule", {"threshold", "patience", "quantile", "jei", "specdec"});
  c->comparator = row.choice("comparator", {"ge", "gt", "le"});
  c->decay = row.choice("decay", {"none", "calm_code", "calm_paper"});
  c->tau = row.number("tau");
  c->horizon = row.number("horizon");
  c->step_tensor = row.choice("step", {"index", "tensor"}) == 1;
  c->scope = row.choice("scope", {"each", "all", "last"});
  c->threshold = row.number("threshold");
  c->patience = static_cast<int32_t>(row.integer("patience"));
  c->min_steps = static_cast<int32_t>(row.integer("min_steps"));
  c->max_steps = static_cast<int32_t>(row.integer("max_steps"));
  c->scores = row.text("scores");
  c->labels = row.text("labels") == "-" ? 0 : row.integer("labels");
  c->valid = row.choice("valid", {"-", "some"}) == 1;
  c->nan = row.choice("special", {"-", "nan"}) == 1;
  c->force = row.flag("force");
  c->outputs = row.subset("outputs", {"exit_mask", "active_list", "active_count", "exit_layer"});
}

float score_of(const std::string& kind, uint64_t w) {
  if (kind == "unit") return unit(w);
  if (kind == "grid") return static_cast<float>((w >> 32) % 11) * 0.1f;
  if (kind == "eighths") return static_cast<float>((w >> 32) % 9) * 0.125f;
  if (kind == "low") return unit(w) * 0.125f;
  if (kind == "high") return 1 - unit(w) * 0.125f;
  fail("scores: unknown word '" + kind + "'");
}

// Of one call: token `token`, layer `layer`.
ExitRuleInputs make_inputs(const ExitRuleCase& c, int64_t token, int64_t layer) {
  ExitRuleInputs in;
  if (c.scores != "-") in.score = make_tensor(Type::kF32, {c.rows});
  if (c.labels > 0) in.label = make_tensor(Type::kI32, {c.rows});
  if (c.valid) in.valid = make_tensor(Type::kU8, {c.rows});
  if (c.step_tensor) in.step = make_tensor(Type::kI32, {c.rows});
  for (int64_t r = 0; r < c.rows; ++r) {
    const uint64_t i = static_cast<uint64_t>((token * c.layers + layer) * c.rows + r);
    if (in.score.given()) {
      const bool nan = c.nan && word(c.seed, 3, i) % 7 == 0;
      in.score.set(0, r, nan ? kNaN : static_cast<double>(score_of(c.scores, word(c.seed, 0, i))));
    }
    if (in.label.given()) {
      in.label.set_integer(
          r, static_cast<int64_t>(word(c.seed, 1, i) % static_cast<uint64_t>(c.labels)));
    }
    if (in.valid.given()) in.valid.set_integer(r, word(c.seed, 2, i) % 5 != 0);
    if (in.step.given()) in.step.set_integer(r, 8 * token + r);
  }
  return in;
}

float decayed(const ExitRuleCall& call, const ExitRuleInputs& in, int64_t row) {
  if (call.decay == EXN_DECAY_NONE) return call.threshold;
  const float t = in.step.given() ? static_cast<float>(in.step.integer_at(row))
                                  : static_cast<float>(call.step_index);
  const float fade = std::exp(-call.decay_tau * t / call.decay_horizon);
  if (call.decay == EXN_DECAY_CALM_CODE) {
    return 0.9f * call.threshold + 0.1f * call.threshold * fade;
  }
  return std::min(1.0f, std::max(0.0f, 0.9f * call.threshold + 0.1f * fade));
}

bool usable(const ExitRuleInputs& in, int64_t row) {
  const bool valid = !in.valid.given() || in.valid.integer_at(row) != 0;
  return valid && !(in.score.given() && std::isnan(in.score.at(0, row)));
}

}  // namespace

ExitRuleOracle::Verdict ExitRuleOracle::against(float value, int32_t comparator, float threshold,
                                                double band) {
  const double distance = std::fabs(static_cast<double>(value) - static_cast<double>(threshold));
  if (distance > 0 && distance <= band * std::fabs(static_cast<double>(threshold))) {
    return Verdict::kEither;
  }
  const bool leave = comparator == EXN_COMPARE_GE   ? value >= threshold
                     : comparator == EXN_COMPARE_GT ? value > threshold
                                                    : value <= threshold;
  return leave ? Verdict::kLeave : Verdict::kStay;
}

ExitRuleOracle::Verdict ExitRuleOracle::over_threshold(const ExitRuleCall& call,
                                                       const ExitRuleInputs& in, int64_t row) {
  const double band = call.decay == EXN_DECAY_NONE ? 0 : kDecisionBand;
  return against(static_cast<float>(in.score.at(0, row)), call.comparator, decayed(call, in, row),
                 band);
}

ExitRuleOracle::Verdict ExitRuleOracle::patience(const ExitRuleCall& call, const ExitRuleInputs& in,
                                                 int64_t row, RowState* s) {
  bool same = false;
  if (in.label.given()) {
    same = s->has_previous && in.label.integer_at(row) == s->previous_label;
    s->previous_label = in.label.integer_at(row);
  } else {
    const float score = static_cast<float>(in.score.at(0, row));
    same = s->has_previous && std::fabs(score - s->previous_score) < call.threshold;
    s->previous_score = score;
  }
  s->has_previous = true;
  s->counter = same ? s->counter + 1 : 0;
  return call.patience > 0 && s->counter >= call.patience ? Verdict::kLeave : Verdict::kStay;
}

ExitRuleOracle::Verdict ExitRuleOracle::quantile(const ExitRuleCall& call, float lambda,
                                                 RowState* s) {
  s->product *= 1 - lambda;
  return against(1 - s->product, EXN_COMPARE_GT, call.threshold, kDecisionBand);
}

ExitRuleOracle::Verdict ExitRuleOracle::jei(const ExitRuleCall& call, float g, RowState* s) {
  const float p = std::max(0.0f, std::min(g, 1 - s->sum));
  // When nothing is left the exit was certain before: 1, and not 0 / 0.
  const float ratio = s->product > 0 ? p / s->product : 1.0f;
  const float a = std::min(1.0f, std::max(0.0f, ratio));
  // p and the product come from differences to 1: the smaller the rest, the
  // larger their relative error.
  const double band =
      s->product > 0 ? kDecisionBand * (1 + 1 / static_cast<double>(s->product)) : 0;
  s->sum += g;
  s->product *= 1 - a;
  return against(a, EXN_COMPARE_GE, call.threshold, band);
}

ExitRuleOracle::Verdict ExitRuleOracle::specdec(const ExitRuleCall& call, float p, RowState* s) {
  ++s->calls;
  if (s->calls > 1) s->product *= p;
  if (call.max_steps > 0 && s->calls >= call.max_steps) return Verdict::kLeave;
  if (s->calls < call.min_steps) return Verdict::kStay;
  return against(1 - s->product, EXN_COMPARE_GT, call.threshold, kDecisionBand);
}

ExitRuleOracle::Verdict ExitRuleOracle::verdict(const ExitRuleCall& call, const ExitRuleInputs& in,
                                                int64_t row, RowState* s) {
  if (!usable(in, row)) return Verdict::kStay;
  const float score = in.score.given() ? static_cast<float>(in.score.at(0, row)) : 0;
  switch (call.rule) {
    case EXN_RULE_THRESHOLD:
      return over_threshold(call, in, row);
    case EXN_RULE_PATIENCE:
      return patience(call, in, row, s);
    case EXN_RULE_QUANTILE:
      return quantile(call, score, s);
    case EXN_RULE_JEI:
      return jei(call, score, s);
    default:
      return specdec(call, score, s);
  }
}

ExitRuleOracle::Verdict ExitRuleOracle::scoped(const ExitRuleCall& call,
                                               const std::vector<Verdict>& verdicts,
                                               size_t row) const {
  if (call.scope == EXN_SCOPE_EACH) return verdicts[row];
  if (call.scope == EXN_SCOPE_LAST) return rows_.back().left ? Verdict::kStay : verdicts.back();
  Verdict all = Verdict::kLeave;
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (rows_[r].left || verdicts[r] == Verdict::kLeave) continue;
    if (verdicts[r] == Verdict::kStay) return Verdict::kStay;
    all = Verdict::kEither;
  }
  return all;
}

bool ExitRuleOracle::step(const ExitRuleCall& call, const ExitRuleInputs& in,
                          const std::vector<uint8_t>* observed_mask) {
  if (call.first != 0) rows_.assign(rows_.size(), RowState{});
  std::vector<Verdict> verdicts(rows_.size(), Verdict::kStay);
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (!rows_[r].left) verdicts[r] = verdict(call, in, static_cast<int64_t>(r), &rows_[r]);
  }
  bool permitted = true;
  mask_.assign(rows_.size(), 0);
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (rows_[r].left) continue;
    const bool valid = !in.valid.given() || in.valid.integer_at(static_cast<int64_t>(r)) != 0;
    Verdict outcome = valid ? scoped(call, verdicts, r) : Verdict::kStay;
    if (call.force != 0) outcome = Verdict::kLeave;
    ++decisions_;
    if (outcome == Verdict::kEither) {
      ++band_hits_;
      mask_[r] = observed_mask != nullptr ? (*observed_mask)[r] : 0;
    } else {
      mask_[r] = outcome == Verdict::kLeave ? 1 : 0;
    }
  }
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (observed_mask != nullptr && (*observed_mask)[r] != mask_[r]) permitted = false;
    if (mask_[r] == 0) continue;
    rows_[r].left = true;
    rows_[r].exit_layer = call.layer;
  }
  return permitted;
}

std::vector<int32_t> ExitRuleOracle::active() const {
  std::vector<int32_t> rows;
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (!rows_[r].left) rows.push_back(static_cast<int32_t>(r));
  }
  return rows;
}

namespace {

bool asks_for(const ExitRuleCase& c, ExitOutput output) { return (c.outputs >> output & 1) != 0; }

exn_exit_rule_params options_of(const ExitRuleCase& c, int64_t token, int64_t layer) {
  exn_exit_rule_params params = {};
  params.struct_size = sizeof params;
  params.rule = c.rule;
  params.comparator = c.comparator;
  params.decay = c.decay;
  params.scope = c.scope;
  params.threshold = c.threshold;
  params.decay_tau = c.tau;
  params.decay_horizon = c.horizon;
  params.step_index = static_cast<int32_t>(8 * token);
  params.patience = c.patience;
  params.min_steps = c.min_steps;
  params.max_steps = c.max_steps;
  params.layer = static_cast<int32_t>(layer);
  params.first = layer == 0 ? 1 : 0;
  params.force = c.force && layer + 1 == c.layers ? 1 : 0;
  return params;
}

// The whole sequence of calls. Outputs: the state, and for each token exit_layer, then for each
// layer mask, list and count, as far as they are asked for.
std::unique_ptr<Instance> instantiate(const ExitRuleCase& c, int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  const auto output = [&](ExitOutput which, const char* name, Type type, int64_t size) {
    return asks_for(c, which) ? instance->output(name, type, {size}) : nullptr;
  };
  // The first call has to forget it.
  HostTensor old_state = make_tensor(Type::kI32, {c.rows, EXN_EXIT_STATE_WORDS});
  std::fill(old_state.bytes.begin(), old_state.bytes.end(), static_cast<unsigned char>(0x55));
  const DLTensor* state = instance->in_out("state", old_state);
  for (int64_t token = 0; token < c.tokens; ++token) {
    const DLTensor* exit_layer = output(kExitLayer, "exit_layer", Type::kI32, c.rows);
    for (int64_t layer = 0; layer < c.layers; ++layer) {
      const ExitRuleInputs in = make_inputs(c, token, layer);
      exn_exit_rule_params params = options_of(c, token, layer);
      params.score = instance->input(in.score);
      params.label = instance->input(in.label);
      params.valid = instance->input(in.valid);
      params.step = instance->input(in.step);
      params.state = state;
      params.exit_layer = exit_layer;
      params.exit_mask = output(kExitMask, "exit_mask", Type::kU8, c.rows);
      params.active_list = output(kActiveList, "active_list", Type::kI32, c.rows);
      params.active_count = output(kActiveCount, "active_count", Type::kI32, 1);
      instance->call(EXN_TEST_OP(exit_rule), params);
    }
  }
  return instance;
}

// Takes one call. Without a mask no output shows how a decision within its band fell: there must be
// none.
Complaint judge_call(const ExitRuleCase& c, int64_t token, int64_t layer, const HostTensor*& output,
                     ExitRuleOracle* oracle) {
  const ExitRuleCall call = options_of(c, token, layer);
  const ExitRuleInputs in = make_inputs(c, token, layer);
  if (asks_for(c, kExitMask)) {
    const std::vector<uint8_t> observed(output->bytes.begin(), output->bytes.end());
    ++output;
    if (!oracle->step(call, in, &observed)) {
      return compare_integers("exit_mask", widened(oracle->mask()), output[-1]);
    }
  } else {
    oracle->step(call, in, nullptr);
    if (oracle->band_hits() > 0) return "a decision within its band, and no mask";
  }
  std::vector<int64_t> active = widened(oracle->active());
  const int64_t count = static_cast<int64_t>(active.size());
  active.resize(at(c.rows), -1);
  return first_of(
      {asks_for(c, kActiveList) ? compare_integers("active_list", active, *output++) : "",
       asks_for(c, kActiveCount) ? compare_integers("active_count", {count}, *output++) : ""});
}

Complaint judge(const ExitRuleCase& c, const Outputs& got) {
  ExitRuleOracle oracle(c.rows);
  const HostTensor* output = &got[1];
  for (int64_t token = 0; token < c.tokens; ++token) {
    const HostTensor* exit_layer = asks_for(c, kExitLayer) ? output++ : nullptr;
    for (int64_t layer = 0; layer < c.layers; ++layer) {
      const Complaint complaint = judge_call(c, token, layer, output, &oracle);
      if (complaint.empty()) continue;
      return "token " + text(token) + ", layer " + text(layer) + ": " + complaint;
    }
    for (int64_t row = 0; row < c.rows && exit_layer != nullptr; ++row) {
      if (exit_layer->integer_at(row) == oracle.exit_layer(row)) continue;
      return "token " + text(token) + ": exit_layer of row " + text(row) + " is wrong";
    }
  }
  for (int64_t row = 0; row < c.rows; ++row) {
    const int64_t flags = got[0].integer_at((row + 1) * EXN_EXIT_STATE_WORDS - 1);
    if ((flags & 1) != (oracle.left(row) ? 1 : 0)) return "state of row " + text(row);
  }
  count_band("exit_rule", oracle.band_hits(), oracle.decisions());
  return "";
}

Case make_case(const ExitRuleCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) { return instantiate(c, device_type); };
  result.judge = [c](const Outputs& got) { return judge(c, got); };
  result.compulsory_bytes = 40.0 * static_cast<double>(c.rows * c.layers * c.tokens);
  result.description = {{"rows", text(c.rows)}, {"calls", text(c.layers * c.tokens)}};
  return result;
}

void describe(Maker& m, exn_exit_rule_params& p) {
  const Dim rows = m.dim("rows", 0, 5, 200);
  const int32_t rule = m.choice(FIELD(rule), EXN_RULE_THRESHOLD, EXN_RULE_SPECDEC);
  const bool by_label = rule == EXN_RULE_PATIENCE;
  m.integers(FIELD(label), Role::kIn, {rows}, kOptional);
  m.in(FIELD(score), kF32, {rows}, by_label && p.label != nullptr ? kOptional : kPlain);
  m.in(FIELD(valid), kU8, {rows}, kOptional);
  m.in(FIELD(step), kI32, {rows}, kOptional);
  m.in_out(FIELD(state), kI32, {rows, m.fixed(EXN_EXIT_STATE_WORDS)});
  m.out(FIELD(exit_mask), kU8, {rows}, kOptional);
  m.out(FIELD(active_list), kI32, {rows}, kOptional);
  m.out(FIELD(active_count), kI32, {m.fixed(1)}, kOptional);
  m.in_out(FIELD(exit_layer), kI32, {rows}, kOptional);
  const bool compares = rule == EXN_RULE_THRESHOLD, counts = rule == EXN_RULE_SPECDEC;
  const int32_t decay = m.one_of("decay", EXN_DECAY_NONE, EXN_DECAY_CALM_PAPER);
  const bool decays = compares && decay != EXN_DECAY_NONE;
  m.integer(FIELD(comparator), m.random().below(3), compares ? 0 : kAny64,
            compares ? int64_t{EXN_COMPARE_LE} : INT64_MAX);
  m.integer(FIELD(decay), decay, compares ? 0 : kAny64,
            compares ? int64_t{EXN_DECAY_CALM_PAPER} : INT64_MAX);
  m.choice(FIELD(scope), EXN_SCOPE_EACH, EXN_SCOPE_LAST);
  m.real(FIELD(threshold), decays ? Domain::kFinite : Domain::kNotNan);
  decays ? m.real(FIELD(decay_tau), Domain::kNotNegative) : m.unused(FIELD(decay_tau));
  decays ? m.real(FIELD(decay_horizon), Domain::kPositive) : m.unused(FIELD(decay_horizon));
  m.integer(FIELD(step_index), m.random().below(9), decays ? 0 : kAny64, INT64_MAX);
  m.integer(FIELD(patience), m.random().below(4), by_label ? 0 : kAny64, INT64_MAX);
  m.integer(FIELD(min_steps), m.random().below(3), counts ? 0 : kAny64, INT64_MAX);
  m.any_integer(FIELD(max_steps), m.random().pick({0, 2, 7}));
  m.any_integer(FIELD(layer), m.random().below(9));
  m.choice(FIELD(first), 0, 1);
  m.choice(FIELD(force), 0, 1);
}

const Described kDescribed = EXN_DESCRIBED(exit_rule);

const RegisteredOp kRegistered("exit_rule", [] {
  return listed("exit_rule", read_cases<ExitRuleCase>("exit_rule", read_case), make_case);
});

}  // namespace

}  // namespace exit_rule_op
}  // namespace exn::test
