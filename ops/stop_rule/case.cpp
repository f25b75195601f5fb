// SPDX-License-Identifier: Apache-2.0
#include "judge.h"
#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace stop_rule_op {

namespace {

enum StopOutput { kFinished, kReason, kScore, kTrials, kActiveList, kActiveCount, kWinner };

struct StopRuleCase : CaseBase {
  int64_t rows = 0;
  int64_t steps = 1;
  int64_t vocab = 1;
  int64_t stops = 0;
  int32_t budget = 0;
  int32_t scope = EXN_STOP_EACH;
  int32_t choice = EXN_CHOOSE_FIRST;
  std::string log_p;
  std::string logits;
  int64_t pad = 0;
  int64_t offset = 0;
  float temperature = 1;
  std::string certainty;
  std::string confidence;
  int64_t answers = 0;
  float confident_at = 0;
  float abstain_below = 0;
  std::string entropy;
  float low = 0;
  float high = 1;
  int32_t most = 1;
  bool some_draw = false;
  std::string special;
  uint32_t outputs = 0;
  bool strays = false;
};

void read_case(const Row& row, StopRuleCase* c) {
  const auto integer = [&](const char* column) {
    return static_cast<int32_t>(row.integer(column));
  };
  c->rows = row.integer("rows");
  c->steps = row.integer("steps");
  c->vocab = row.integer("vocab");
  c->stops = row.integer("stops");
  c->budget = integer("budget");
  c->scope = row.choice("scope", {"each", "first"});
  c->choice = row.choice("choice", {"first", "perplexity", "certainty"});
  c->log_p = row.text("log_p");
  c->logits = row.text("logits");
  c->pad = row.integer("pad");
  c->offset = row.integer("offset");
  c->temperature = row.number("temperature");
  c->certainty = row.text("certainty");
  c->confidence = row.text("confidence");
  c->answers = row.integer("answers");
  c->confident_at = row.number("confident_at");
  c->abstain_below = row.number("abstain_below");
  c->entropy = row.text("entropy");
  c->low = row.number("low");
  c->high = row.number("high");
  c->most = integer("most");
  c->some_draw = row.choice("draws", {"all", "some"}) == 1;
  c->special = row.text("special");
  c->outputs = row.subset("outputs", {"finished", "reason", "score", "trials", "active_list",
                                      "active_count", "winner"});
}

// ---- inputs -------------------------------------------------------------------------------------

struct Inputs {
  HostTensor token, stop_ids, log_p, logits, lse, mean_log_p, confidence, answer_ids, entropy;
};

// 0 to 1, or a special value.
double share_of(const StopRuleCase& c, const std::string& kind, uint64_t stream, uint64_t i) {
  const uint64_t w = word(c.seed, stream, i);
  if (c.special != "-" && word(c.seed, stream + 100, i) % 7 == 0) {
    if (c.special == "nan") return kNaN;
    if (c.special == "ninf") return kInf;
    fail("special: unknown word '" + c.special + "'");
  }
  if (kind == "unit") return static_cast<double>(unit(w));
  if (kind == "eighths") return static_cast<double>((w >> 32) % 9) / 8;
  fail("unknown word '" + kind + "'");
}

// Of each row a number a + b share.
HostTensor numbers(const StopRuleCase& c, const std::string& kind, uint64_t stream, int64_t step,
                   double a, double b) {
  HostTensor t;
  if (kind == "-") return t;
  t = make_tensor(Type::kF32, {c.rows});
  for (int64_t r = 0; r < c.rows; ++r) {
    t.set(0, r, a + b * share_of(c, kind, stream, static_cast<uint64_t>(step * c.rows + r)));
  }
  return t;
}

Inputs make_inputs(const StopRuleCase& c, int64_t step) {
  Inputs in;
  in.token = make_tensor(Type::kI32, {c.rows});
  for (int64_t r = 0; r < c.rows; ++r) {
    const int64_t i = step * c.rows + r;
    const bool none = c.some_draw && pick(c.seed, 1, i, 5) == 0;
    in.token.set_integer(r, none ? -1 - pick(c.seed, 2, i, 100) : pick(c.seed, 0, i, c.vocab));
  }
  if (c.stops > 0) {
    std::vector<int64_t> ids = shuffled(c.vocab, c.seed, 3);
    ids.resize(at(c.stops));
    in.stop_ids = make_integers(ids);
  }
  in.log_p = numbers(c, c.log_p, 4, step, 0, -8);
  if (c.logits != "-") {
    in.logits = make_tensor(type_in("logits", c.logits), {c.rows, c.vocab}, c.pad, c.offset);
    in.lse = numbers(c, "unit", 5, step, 2, 4);
    for (int64_t r = 0; r < c.rows; ++r) {
      for (int64_t v = 0; v < c.vocab; ++v) {
        const int64_t i = (step * c.rows + r) * c.vocab + v;
        in.logits.set(r, v, static_cast<double>(bell(word(c.seed, 6, static_cast<uint64_t>(i)))));
      }
    }
  }
  const double log_vocab = std::log(static_cast<double>(c.vocab));
  in.mean_log_p = numbers(c, c.certainty, 7, step, -log_vocab, -4);
  in.confidence = numbers(c, c.confidence, 8, step, 0, 1);
  in.entropy = numbers(c, c.entropy, 9, step, 0, 2);
  if (c.answers > 0) {
    std::vector<int64_t> ids = shuffled(c.vocab, c.seed, 10);
    ids.resize(at(c.answers));
    in.answer_ids = make_integers(ids);
  }
  if (c.strays) {
    in.token = with_strays(in.token, c.vocab, INT32_MAX);
    std::vector<int64_t> ids = {-1, c.vocab};
    for (int64_t i = 0; i < c.stops; ++i) ids.push_back(in.stop_ids.integer_at(i));
    in.stop_ids = make_integers(ids);
  }
  return in;
}

// ---- oracle -------------------------------------------------------------------------------------

// A sum as the header says, in f32, and what it is to be: in double, of terms in double.
struct Sum {
  float sum = 0;
  float rest = 0;
  double exact = 0;
  double error = 0;

  void add(float term, double exact_term, double term_error) {
    const float s = sum + term, back = s - sum;
    const float lost = (sum - (s - back)) + (term - back);
    sum = s;
    if (std::isfinite(s)) rest += lost;
    exact += exact_term;
    error += term_error;
  }
  float mean(int64_t n) const { return (sum + rest) / static_cast<float>(n); }
};

struct RowState {
  int32_t reason = EXN_STOP_RUNNING;
  bool first = false;
  int64_t tokens = 0;
  Sum log_p, certainty;

  bool complete() const { return reason == EXN_STOP_TOKEN || reason == EXN_STOP_CONFIDENT; }
};

float value(const HostTensor& t, int64_t row) { return static_cast<float>(t.at(0, row)); }

// What one call leaves there.
struct Step {
  bool first = false;
  Inputs in;
  std::vector<RowState> rows;
  std::vector<int64_t> reason, trials, active;
  std::vector<Expected> score;
  int64_t winner = -1;
};

class Oracle {
 public:
  explicit Oracle(const StopRuleCase& c) : c_(c), rows_(at(c.rows)) {}

  void step(Step* step) {
    if (step->first) rows_.assign(rows_.size(), RowState{});
    const bool before = some_complete();
    for (int64_t r = 0; r < c_.rows; ++r) {
      RowState& s = rows_[at(r)];
      if (s.reason != EXN_STOP_RUNNING) continue;
      run(step->in, r, &s);
      s.first = s.complete() && !before;
    }
    if (c_.scope == EXN_STOP_FIRST && some_complete()) {
      for (RowState& s : rows_) {
        if (s.reason == EXN_STOP_RUNNING) s.reason = EXN_STOP_CANCELLED;
      }
    }
    write(step);
  }

 private:
  bool some_complete() const {
    return std::any_of(rows_.begin(), rows_.end(), [](const RowState& s) { return s.complete(); });
  }

  void run(const Inputs& in, int64_t r, RowState* s) {
    const int64_t token = in.token.integer_at(r);
    const bool drawn = token >= 0 && token < c_.vocab;
    if (drawn) count(in, r, token, s);
    for (int64_t i = 0; drawn && i < in.stop_ids.size(); ++i) {
      if (in.stop_ids.integer_at(i) == token) s->reason = EXN_STOP_TOKEN;
    }
    if (s->reason != EXN_STOP_RUNNING) return;
    if (in.confidence.given() || in.answer_ids.given()) {
      const double confidence = confidence_of(in, r);
      if (c_.confident_at > 0 && confidence >= static_cast<double>(c_.confident_at)) {
        s->reason = EXN_STOP_CONFIDENT;
      } else if (confidence < static_cast<double>(c_.abstain_below)) {
        s->reason = EXN_STOP_ABSTAINED;
      }
    }
    if (s->reason == EXN_STOP_RUNNING && c_.budget > 0 && s->tokens >= c_.budget) {
      s->reason = EXN_STOP_BUDGET;
    }
  }

  // A table has no case that is nearer to a threshold than devices may differ.
  double confidence_of(const Inputs& in, int64_t r) const {
    if (in.confidence.given()) return in.confidence.at(0, r);
    double sum = 0;
    for (int64_t i = 0; i < in.answer_ids.size(); ++i) {
      const double z = in.logits.at(r, in.answer_ids.integer_at(i));
      sum += std::exp(z / static_cast<double>(c_.temperature) - in.lse.at(0, r));
    }
    for (float threshold : {c_.confident_at, c_.abstain_below}) {
      const double distance = std::fabs(sum - static_cast<double>(threshold));
      if (distance <= 1e-6 * sum * static_cast<double>(c_.answers)) {
        fail("stop_rule " + c_.id + ": a confidence that is too near to a threshold");
      }
    }
    return sum;
  }

  void count(const Inputs& in, int64_t r, int64_t token, RowState* s) {
    s->tokens += 1;
    if (in.log_p.given()) s->log_p.add(value(in.log_p, r), in.log_p.at(0, r), 0);
    if (in.logits.given()) {
      const double z = in.logits.at(r, token) / static_cast<double>(c_.temperature);
      const double exact = z - in.lse.at(0, r);
      const float scaled = static_cast<float>(in.logits.at(r, token)) / c_.temperature;
      s->log_p.add(scaled - value(in.lse, r), exact, kUnit * (std::fabs(z) + std::fabs(exact)));
    }
    if (in.mean_log_p.given()) {
      const double log_vocab = std::log(static_cast<double>(c_.vocab));
      const double exact = -in.mean_log_p.at(0, r) - log_vocab;
      s->certainty.add(-value(in.mean_log_p, r) - static_cast<float>(log_vocab), exact,
                       kUnit * (log_vocab + std::fabs(exact)));
    }
  }

  bool may_win(const RowState& s) const {
    if (c_.choice == EXN_CHOOSE_FIRST) return s.first;
    return s.complete() || s.reason == EXN_STOP_BUDGET;
  }

  void write(Step* step) {
    step->rows = rows_;
    float best = 0;
    for (int64_t r = 0; r < c_.rows; ++r) {
      const RowState& s = rows_[at(r)];
      const Sum& sum = c_.choice == EXN_CHOOSE_CERTAINTY ? s.certainty : s.log_p;
      const bool runs = s.reason == EXN_STOP_RUNNING;
      step->reason.push_back(s.reason);
      step->trials.push_back(runs && step->in.entropy.given() ? trials(step->in, r) : 0);
      if (runs) step->active.push_back(r);
      const double n = static_cast<double>(s.tokens);
      step->score.push_back(
          s.tokens == 0 ? Expected{kNaN, 0}
                        : Expected{sum.exact / n,
                                   (sum.error + 4 * kUnit * std::fabs(sum.exact)) / n + 1e-37});
      if (!may_win(s)) continue;
      const float score = c_.choice == EXN_CHOOSE_FIRST ? 0 : sum.mean(s.tokens);
      const bool better = score > best || (std::isnan(best) && !std::isnan(score));
      if (step->winner >= 0 && !better) continue;
      step->winner = r;
      best = score;
    }
  }

  int64_t trials(const Inputs& in, int64_t r) const {
    const float h = value(in.entropy, r);
    if (std::isnan(h)) return 1;
    const float share = std::min(1.0f, std::max(0.0f, (h - c_.low) / (c_.high - c_.low)));
    return static_cast<int64_t>(std::floor(1.0f + static_cast<float>(c_.most - 1) * share));
  }

  const StopRuleCase& c_;
  std::vector<RowState> rows_;
};

// All calls. One after the end of all rows begins anew.
std::vector<Step> play(const StopRuleCase& c) {
  std::vector<Step> steps(at(c.steps));
  Oracle oracle(c);
  bool over = true;
  for (int64_t i = 0; i < c.steps; ++i) {
    Step& step = steps[at(i)];
    step.first = over;
    step.in = make_inputs(c, i);
    oracle.step(&step);
    over = step.active.empty();
  }
  return steps;
}

// ---- case ---------------------------------------------------------------------------------------

bool asks_for(const StopRuleCase& c, StopOutput output) { return (c.outputs >> output & 1) != 0; }

std::unique_ptr<Instance> instantiate(const StopRuleCase& c, const std::vector<Step>& steps,
                                      int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  const auto output = [&](StopOutput which, const char* name, Type type, int64_t size) {
    return asks_for(c, which) ? instance->output(name, type, {size}) : nullptr;
  };
  // The first call has to forget it.
  HostTensor old_state = make_tensor(Type::kI32, {c.rows, EXN_STOP_STATE_WORDS});
  std::fill(old_state.bytes.begin(), old_state.bytes.end(), static_cast<unsigned char>(0x55));
  const DLTensor* state = instance->in_out("state", old_state);
  for (const Step& step : steps) {
    exn_stop_rule_params p = {};
    p.struct_size = sizeof p;
    p.token = instance->input(step.in.token);
    p.stop_ids = instance->input(step.in.stop_ids);
    p.log_p = instance->input(step.in.log_p);
    p.logits = instance->input(step.in.logits);
    p.lse = instance->input(step.in.lse);
    p.mean_log_p = instance->input(step.in.mean_log_p);
    p.confidence = instance->input(step.in.confidence);
    p.answer_ids = instance->input(step.in.answer_ids);
    p.entropy = instance->input(step.in.entropy);
    p.state = state;
    p.finished = output(kFinished, "finished", Type::kU8, c.rows);
    p.reason = output(kReason, "reason", Type::kI32, c.rows);
    p.score = output(kScore, "score", Type::kF32, c.rows);
    p.trials = c.entropy == "-" ? nullptr : output(kTrials, "trials", Type::kI32, c.rows);
    p.active_list = output(kActiveList, "active_list", Type::kI32, c.rows);
    p.active_count = output(kActiveCount, "active_count", Type::kI32, 1);
    p.winner = output(kWinner, "winner", Type::kI32, 1);
    p.vocabulary = static_cast<int32_t>(c.vocab);
    p.scope = c.scope;
    p.choice = c.choice;
    p.budget = c.budget;
    p.temperature = c.temperature;
    p.confident_at = c.confident_at;
    p.abstain_below = c.abstain_below;
    p.trials_low = c.low;
    p.trials_high = c.high;
    p.most_trials = c.most;
    p.first = step.first ? 1 : 0;
    instance->call(EXN_TEST_OP(stop_rule), p);
  }
  return instance;
}

Complaint judge_step(const StopRuleCase& c, const Step& step, const HostTensor*& output) {
  std::vector<int64_t> finished, active = step.active;
  for (int64_t reason : step.reason) finished.push_back(reason != EXN_STOP_RUNNING);
  const int64_t count = static_cast<int64_t>(active.size());
  active.resize(at(c.rows), -1);
  const bool tries = asks_for(c, kTrials) && c.entropy != "-";
  return first_of(
      {asks_for(c, kFinished) ? compare_integers("finished", finished, *output++) : "",
       asks_for(c, kReason) ? compare_integers("reason", step.reason, *output++) : "",
       asks_for(c, kScore) ? compare("score", step.score, *output++) : "",
       tries ? compare_integers("trials", step.trials, *output++) : "",
       asks_for(c, kActiveList) ? compare_integers("active_list", active, *output++) : "",
       asks_for(c, kActiveCount) ? compare_integers("active_count", {count}, *output++) : "",
       asks_for(c, kWinner) ? compare_integers("winner", {step.winner}, *output++) : ""});
}

// The words of the last state, exact to the bit but for NaNs.
Complaint judge_state(const std::vector<RowState>& rows, const HostTensor& state) {
  for (size_t r = 0; r < rows.size(); ++r) {
    const RowState& s = rows[r];
    const float sums[] = {s.log_p.sum, s.log_p.rest, s.certainty.sum, s.certainty.rest};
    const int64_t status = s.reason | (s.first ? 0x100 : 0);
    const int64_t word = static_cast<int64_t>(r) * EXN_STOP_STATE_WORDS;
    bool same = state.integer_at(word) == status && state.integer_at(word + 1) == s.tokens;
    for (int i = 0; i < 4; ++i) {
      const int32_t bits = static_cast<int32_t>(state.integer_at(word + 2 + i));
      float got;
      std::memcpy(&got, &bits, sizeof got);
      same = same && (got == sums[i] || (std::isnan(got) && std::isnan(sums[i])));
    }
    if (!same) return "state of row " + text(static_cast<int64_t>(r));
  }
  return "";
}

Complaint judge(const StopRuleCase& c, const std::vector<Step>& steps, const Outputs& got) {
  const HostTensor* output = &got[1];
  for (size_t i = 0; i < steps.size(); ++i) {
    const Complaint complaint = judge_step(c, steps[i], output);
    if (!complaint.empty()) return "step " + text(static_cast<int64_t>(i)) + ": " + complaint;
  }
  return judge_state(steps.back().rows, got[0]);
}

Case case_of(const StopRuleCase& c) {
  Case result;
  const auto steps = lazily([c] { return play(c); });
  result.instantiate = [c, steps](int32_t device_type) {
    return instantiate(c, steps(), device_type);
  };
  result.judge = [c, steps](const Outputs& got) { return judge(c, steps(), got); };
  result.compulsory_bytes = static_cast<double>(c.steps) * (80.0 * static_cast<double>(c.rows) +
                                                            4.0 * static_cast<double>(c.stops));
  result.description = {{"rows", text(c.rows)}, {"calls", text(c.steps)}};
  return result;
}

Case sound(const StopRuleCase& c) { return case_of(c); }
Case spoiled(const StopRuleCase& c) {
  StopRuleCase with_strays = c;
  with_strays.strays = true;
  return case_of(with_strays);
}

void describe(Maker& m, exn_stop_rule_params& p) {
  const Dim rows = m.dim("rows", 0, 5, 200), vocab = m.dim("vocab", 1, 9, 60);
  const Dim stops = m.dim("stops", 0, 3, 40), one = m.fixed(1);
  const int32_t choice = m.choice(FIELD(choice), EXN_CHOOSE_FIRST, EXN_CHOOSE_CERTAINTY);
  m.choice(FIELD(scope), EXN_STOP_EACH, EXN_STOP_FIRST);
  m.ids(FIELD(token), {rows}, {INT32_MIN, vocab.size - 1, true});
  m.ids(FIELD(stop_ids), {stops}, {0, vocab.size - 1, true}, kOptional);
  const bool by_perplexity = choice == EXN_CHOOSE_PERPLEXITY;
  const bool by_logits = m.some("logits", 2);
  if (by_logits) {
    m.none(FIELD(log_p));
    m.in(FIELD(logits), m.type(kFloats), {rows, vocab},
         kRows | (by_perplexity ? kPlain : kOptional | kWanted));
    m.in(FIELD(lse), kF32, {rows});
    m.integer(FIELD(vocabulary), vocab.size, vocab.size, vocab.size);
    m.real(FIELD(temperature), Domain::kPositive);
  } else {
    m.in(FIELD(log_p), kF32, {rows}, by_perplexity ? kPlain : kOptional);
    if (p.log_p != nullptr) {
      m.none(FIELD(logits));
    } else {
      m.in(FIELD(logits), m.type(kFloats), {rows, vocab}, kOptional | kNever);
    }
    m.in(FIELD(lse), kF32, {rows}, kOptional);
    m.integer(FIELD(vocabulary), vocab.size, 1, INT64_MAX);
    m.unused(FIELD(temperature));
  }
  m.in(FIELD(mean_log_p), kF32, {rows}, choice == EXN_CHOOSE_CERTAINTY ? kPlain : kOptional);
  const bool by_answer = by_logits && by_perplexity;
  if (by_answer) {
    m.none(FIELD(confidence));
    m.ids(FIELD(answer_ids), {m.dim("answers", 0, 2, 9)}, {0, vocab.size - 1, true},
          kOptional | kWanted);
  } else {
    m.in(FIELD(confidence), kF32, {rows}, kOptional);
    m.ids(FIELD(answer_ids), {m.dim("answers", 0, 2, 9)}, {0, vocab.size - 1, true},
          kOptional | kNever);
  }
  m.out(FIELD(trials), kI32, {rows}, kOptional);
  m.in(FIELD(entropy), kF32, {rows}, p.trials != nullptr ? kPlain : kOptional);
  m.integers(FIELD(state), Role::kInOut, {rows, m.fixed(EXN_STOP_STATE_WORDS)});
  m.out(FIELD(finished), kU8, {rows}, kOptional);
  m.out(FIELD(reason), kI32, {rows}, kOptional);
  m.out(FIELD(score), kF32, {rows}, kOptional);
  m.out(FIELD(active_list), kI32, {rows}, kOptional);
  m.out(FIELD(active_count), kI32, {one}, kOptional);
  m.out(FIELD(winner), kI32, {m.fixed(1)}, kOptional);
  m.integer(FIELD(budget), m.random().below(4), 0, INT64_MAX);
  const bool confident = p.confidence != nullptr || by_answer, tries = p.trials != nullptr;
  confident ? m.real(FIELD(confident_at), Domain::kShare) : m.unused(FIELD(confident_at));
  confident ? m.real(FIELD(abstain_below), Domain::kShare) : m.unused(FIELD(abstain_below));
  if (confident) p.abstain_below = std::min(p.abstain_below, p.confident_at);
  tries ? m.real(FIELD(trials_low), Domain::kNotNegative) : m.unused(FIELD(trials_low));
  tries ? m.real(FIELD(trials_high), Domain::kFinite) : m.unused(FIELD(trials_high));
  if (tries) p.trials_low = 0.25f, p.trials_high = 1.5f;
  m.integer(FIELD(most_trials), 10, tries ? 1 : kAny64, tries ? 1 << 20 : INT64_MAX);
  m.choice(FIELD(first), 0, 1);
  m.zero(FIELD(reserved));
}

const Described kDescribed = EXN_DESCRIBED(stop_rule);

const RegisteredOp kRegistered("stop_rule", [] {
  const std::vector<StopRuleCase> cases = read_cases<StopRuleCase>("stop_rule", read_case);
  auto all = listed<StopRuleCase>("stop_rule", cases, sound);
  append_spoiled<StopRuleCase>(&all, "stop_rule", cases, spoiled);
  return all;
});

}  // namespace

}  // namespace stop_rule_op
}  // namespace exn::test
