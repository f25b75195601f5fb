// SPDX-License-Identifier: Apache-2.0
#include "verify/case.h"

#include <algorithm>

#include "maker.h"
#include "reals.h"

namespace exn::test {
inline namespace verify_op {

namespace {

enum Output { kOut, kOutCount, kLastRow, kOutcome, kLength, kPosition };

bool asks_for(const VerifyCase& c, Output output) { return (c.outputs >> output & 1) != 0; }

void read_case(const Row& row, VerifyCase* c) {
  c->greedy = row.choice("mode", {"greedy", "sampled"}) == 0;
  c->sequences = row.integer("sequences");
  c->most = row.integer("drafted");
  c->logits.rows = c->sequences * (c->most + 1);
  c->logits.cols = row.integer("vocabulary");
  c->logits.type = row.type("dtype");
  c->logits.pad = row.integer("pad");
  c->logits.offset = row.integer("offset");
  c->logits.fill = row.text("fill");
  c->logits.scale = row.number("scale");
  c->logits.special = row.text("special");
  c->temperature = row.number("temperature");
  c->draft = row.text("draft");
  c->draft_type = row.type("draft_dtype");
  c->draft_pad = row.integer("draft_pad");
  c->draft_fill = row.text("draft_fill");
  c->draft_special = row.text("draft_special");
  c->draft_temperature = row.number("draft_temperature");
  c->tokens = row.text("tokens");
  c->lengths = row.text("lengths");
  c->active = row.text("active");
  c->uniforms = row.text("uniforms");
  c->stops = row.integer("stops");
  c->bounded = row.choice("capacity", {"-", "tight"}) == 1;
  c->hostile = row.text("hostile");
  if (row.text("outputs") == "-") return;
  c->outputs =
      row.subset("outputs", {"out", "out_count", "last_row", "outcome", "length", "position"});
}

// ---- softmax of a row ---------------------------------------------------------------------------

struct Shares {
  bool valid = false;
  std::vector<double> p;
  std::vector<double> error;  // what f32 may be off by, as the header says
};

Shares softmax_of(const HostTensor& logits, int64_t row, float temperature) {
  Shares s;
  const std::vector<double> z = row_of<double>(logits, row);
  s.valid = valid_logits(z);
  if (!s.valid) return s;
  const double top = *std::max_element(z.begin(), z.end());
  const double t = static_cast<double>(temperature);
  double sum = 0;
  for (double x : z) sum += std::exp((x - top) / t);
  for (double x : z) {
    const double p = std::exp((x - top) / t) / sum;
    // A temperature rounds each logit once.
    const double scaled = temperature == 1 || p == 0 ? 0 : (std::fabs(x) + std::fabs(top)) / t;
    s.p.push_back(p);
    s.error.push_back(p * (4e-6 + 0x1p-22 * scaled));
  }
  return s;
}

// What a draft has in a row: probabilities are as they are.
Shares draft_of(const VerifyCase& c, const VerifyInputs& in, int64_t row) {
  if (c.draft == "logits") return softmax_of(in.draft, row, c.draft_temperature);
  Shares s;
  s.p = row_of<double>(in.draft, row);
  for (double q : s.p) s.error.push_back(q * 4e-6);
  s.valid = true;
  return s;
}

bool is_probability(double q) { return q >= 0 && q < kInf; }
bool is_uniform(double u) { return u >= 0 && u <= 1; }

// ---- inputs -------------------------------------------------------------------------------------

// The best token of a row; -1: none.
int64_t best_of(const VerifyCase& c, const VerifyInputs& in, int64_t row) {
  if (c.greedy) return in.argmax.integer_at(row);
  const std::vector<double> z = row_of<double>(in.logits, row);
  return valid_logits(z) ? std::max_element(z.begin(), z.end()) - z.begin() : -1;
}

HostTensor make_argmax(const VerifyCase& c) {
  HostTensor argmax = make_tensor(Type::kI32, {c.logits.rows});
  for (int64_t r = 0; r < c.logits.rows; ++r) {
    const bool broken = c.logits.special != "-" && pick(c.seed, 1, r, 5) == 0;
    argmax.set_integer(r, broken ? -1 : pick(c.seed, 2, r, c.logits.cols));
  }
  return argmax;
}

// Logits, or probabilities made of them, of which `draft_special` has spoilt none yet.
HostTensor make_draft(const VerifyCase& c, const HostTensor& logits) {
  const int64_t rows = c.sequences * c.most, columns = c.logits.cols;
  HostTensor draft = make_tensor(c.draft_type, {rows, columns}, c.draft_pad);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t target = r / c.most * (c.most + 1) + r % c.most;
    std::vector<double> z(at(columns));
    for (int64_t j = 0; j < columns; ++j) {
      const auto noise = static_cast<double>(bell(word(c.seed, 3, at(r * columns + j))));
      const double x = logits.at(target, j);
      const double likeness = std::isfinite(x) ? x : 0;
      if (c.draft_fill == "same")
        z[at(j)] = x;
      else if (c.draft_fill == "near")
        z[at(j)] = likeness + 0.5 * noise;
      else if (c.draft_fill == "other")
        z[at(j)] = 2 * noise;
      else
        fail("draft_fill: unknown word '" + c.draft_fill + "'");
    }
    const double top = *std::max_element(z.begin(), z.end());
    double sum = 0;
    for (double x : z) sum += std::exp(x - top);
    for (int64_t j = 0; j < columns; ++j) {
      draft.set(r, j, c.draft == "logits" ? z[at(j)] : std::exp(z[at(j)] - top) / sum);
    }
  }
  return draft;
}

// The token at `u` of the sum of some shares.
int64_t drawn_at(const std::vector<double>& shares, double u) {
  double sum = 0, before = 0;
  for (double p : shares) sum += p;
  int64_t last = 0;
  for (size_t j = 0; j < shares.size(); ++j) {
    if (shares[j] <= 0) continue;
    last = static_cast<int64_t>(j);
    if ((before += shares[j]) > u * sum) break;
  }
  return last;
}

HostTensor make_drafted(const VerifyCase& c, const VerifyInputs& in) {
  HostTensor drafted = make_tensor(Type::kI32, {c.sequences, c.most});
  for (int64_t r = 0; r < drafted.size(); ++r) {
    const int64_t random = pick(c.seed, 4, r, c.logits.cols);
    const int64_t best = best_of(c, in, r / c.most * (c.most + 1) + r % c.most);
    int64_t token = random;
    if (c.tokens == "drawn") {
      token = drawn_at(draft_of(c, in, r).p, static_cast<double>(unit(word(c.seed, 5, at(r)))));
    } else if (c.tokens == "always" || (c.tokens == "likely" && pick(c.seed, 5, r, 8) != 0)) {
      token = best < 0 ? random : best;
    } else if (c.tokens != "random" && c.tokens != "likely") {
      fail("tokens: unknown word '" + c.tokens + "'");
    }
    if (c.lengths == "ends" && pick(c.seed, 6, r, 6) == 0) token = -1 - pick(c.seed, 7, r, 9);
    drafted.set_integer(r, token);
  }
  return drafted;
}

HostTensor make_lengths(const VerifyCase& c) {
  HostTensor lengths = make_tensor(Type::kI32, {c.sequences});
  for (int64_t s = 0; s < c.sequences; ++s) {
    const int64_t random = pick(c.seed, 8, s, c.most + 1);
    lengths.set_integer(s, c.lengths == "zero" ? 0 : c.lengths == "full" ? c.most : random);
  }
  if (c.lengths != "zero" && c.lengths != "full" && c.lengths != "random")
    fail("lengths: unknown word '" + c.lengths + "'");
  return lengths;
}

HostTensor make_uniform(const VerifyCase& c) {
  HostTensor uniform = make_tensor(Type::kF32, {c.sequences, c.most + 1});
  for (int64_t i = 0; i < uniform.size(); ++i) {
    const uint64_t w = word(c.seed, 9, at(i));
    double u = static_cast<double>(unit(w));
    const uint64_t kind = w % 7;
    if (c.uniforms == "edges") u = kind < 2 ? 0 : kind < 4 ? 1 : kind < 5 ? 1 - 0x1p-24 : u;
    if (c.uniforms == "strays") u = kind == 0 ? kNaN : kind == 1 ? -0.5 : kind == 2 ? 1.5 : u;
    uniform.set(i / uniform.cols, i % uniform.cols, u);
  }
  return uniform;
}

void spoil_draft(const VerifyCase& c, HostTensor* draft) {
  if (c.draft_special == "-") return;
  const double value = c.draft_special == "nan" ? kNaN : c.draft_special == "pinf" ? kInf : -0.25;
  if (c.draft_special != "nan" && c.draft_special != "pinf" && c.draft_special != "negative")
    fail("draft_special: unknown word '" + c.draft_special + "'");
  for (int64_t r = 1; r < draft->rows; r += 3)
    draft->set(r, pick(c.seed, 10, r, draft->cols), value);
}

// Puts what an active sequence must not have into some of them.
void spoil(const VerifyCase& c, VerifyInputs* in) {
  for (int64_t s = 0; s < c.sequences; ++s) {
    if (!is_spoiled(s)) continue;
    const bool low = s % 2 == 0;
    const int64_t n = std::max(verify_drafted(*in, s), int64_t{0});  // one more than fits
    if (c.hostile == "draft_length") {
      in->draft_length.set_integer(s, low ? -1 : c.most + 1);
    } else if (c.hostile == "drafted") {
      in->drafted.set_integer(s * c.most, low ? c.logits.cols : INT32_MAX);
    } else if (c.hostile == "length") {
      in->length.set_integer(s, low ? -1 : (in->capacity > 0 ? in->capacity : INT32_MAX) - n);
    } else if (c.hostile == "position") {
      in->position.set_integer(s, low ? -1 : INT32_MAX - n);
    } else if (c.hostile != "stop") {
      fail("hostile: unknown word '" + c.hostile + "'");
    }
  }
  if (c.hostile == "stop") in->stop = with_strays(in->stop, -1, c.logits.cols);
}

VerifyInputs make_inputs(const VerifyCase& c) {
  VerifyInputs in;
  if (c.greedy) {
    in.argmax = make_argmax(c);
  } else {
    in.logits = make_matrix(c.logits, c.seed, 0);
    in.uniform = make_uniform(c);
    if (c.draft != "-") in.draft = make_draft(c, in.logits);
  }
  in.drafted = make_drafted(c, in);
  if (in.draft.given()) spoil_draft(c, &in.draft);
  if (c.lengths != "-" && c.lengths != "ends") in.draft_length = make_lengths(c);
  if (c.stops > 0) {
    in.stop = make_tensor(Type::kI32, {c.stops});
    for (int64_t i = 0; i < c.stops; ++i)
      in.stop.set_integer(i, pick(c.seed, 11, i, c.logits.cols));
  }
  const auto counter = [&](uint64_t stream, int64_t below) {
    HostTensor t = make_tensor(Type::kI32, {c.sequences});
    for (int64_t s = 0; s < c.sequences; ++s) t.set_integer(s, pick(c.seed, stream, s, below));
    return t;
  };
  in.token = counter(12, c.logits.cols);
  if (asks_for(c, kLength)) in.length = counter(13, 40);
  if (asks_for(c, kPosition)) in.position = counter(14, 1000);
  if (c.active != "-") {
    if (c.active != "some" && c.active != "none") fail("active: unknown word '" + c.active + "'");
    in.active = make_tensor(Type::kU8, {c.sequences});
    for (int64_t s = 0; s < c.sequences; ++s)  // any value but 0 is yes
      in.active.set_integer(s, c.active == "some" ? pick(c.seed, 15, s, 3) : 0);
  }
  if (c.bounded) {  // the longest just fits, and so does every other one
    int64_t capacity = c.most + 1;
    for (int64_t s = 0; s < c.sequences; ++s)
      capacity = std::max(capacity, in.length.integer_at(s) + verify_drafted(in, s) + 1);
    in.capacity = capacity;
    for (int64_t s = 0; s < c.sequences; s += 2) {
      const int64_t n = verify_drafted(in, s);
      if (n >= 0) in.length.set_integer(s, capacity - n - 1);
    }
  }
  if (c.hostile != "-") spoil(c, &in);
  // What lies beyond a draft, and what belongs to no sequence, is rubbish.
  for (int64_t s = 0; s < c.sequences; ++s) {
    const bool off = in.active.given() && in.active.integer_at(s) == 0;
    const int64_t n = off ? 0 : verify_drafted(in, s);
    for (int64_t i = n + (in.draft_length.given() || off ? 0 : 1); n >= 0 && i < c.most; ++i)
      in.drafted.set_integer(s * c.most + i, INT32_MAX);
    if (off && in.length.given()) in.length.set_integer(s, -7);
  }
  return in;
}

// ---- oracle -------------------------------------------------------------------------------------

// How a round of one sequence may go; more than one where rounding may tip a decision.
struct Way {
  int64_t kept = 0;
  int64_t after = -1;  // below 0: none, or drawn
  bool draws = false;
  bool residual = false;
};

struct Rounds {
  VerifyInputs in;
  std::vector<std::vector<Way>> ways;  // of each sequence
  int64_t decisions = 0;
  int64_t open = 0;
};

void judge_row(const VerifyCase& c, const VerifyInputs& in, int64_t s, int64_t i, int64_t n,
               Rounds* rounds) {
  std::vector<Way>& ways = rounds->ways[at(s)];
  const int64_t row = s * (c.most + 1) + i;
  const Shares target = softmax_of(in.logits, row, c.temperature);
  if (!target.valid) {
    ways.push_back({i});
    return;
  }
  if (i == n) {
    ways.push_back({i, -1, true, false});
    return;
  }
  const auto x = at(in.drafted.integer_at(s * c.most + i));
  const bool known = x < target.p.size();
  double q = 1, q_error = 0;
  bool sound = true;
  if (in.draft.given()) {
    const Shares draft = draft_of(c, in, s * c.most + i);
    sound = draft.valid;
    q = sound && known ? draft.p[x] : 0;
    q_error = sound && known ? draft.error[x] : 0;
  }
  const double u = in.uniform.at(s, i);
  if (!sound || !is_probability(q) || !is_uniform(u)) {
    ways.push_back({i});
    return;
  }
  const double p = known ? target.p[x] : 0, error = known ? target.error[x] : 0;
  ++rounds->decisions;
  const bool is_open = p > 0 && std::fabs(u * q - p) <= u * q_error + error;
  if (is_open) ++rounds->open;
  if (is_open || !(u * q < p)) ways.push_back({i, -1, true, true});
  if (is_open || u * q < p) judge_row(c, in, s, i + 1, n, rounds);
}

Rounds play(const VerifyCase& c) {
  Rounds rounds;
  rounds.in = make_inputs(c);
  const VerifyInputs& in = rounds.in;
  rounds.ways.resize(at(c.sequences));
  for (int64_t s = 0; s < c.sequences; ++s) {
    const int64_t n = verify_drafted(in, s);
    if (n < 0) {
      rounds.ways[at(s)] = {Way{}};
    } else if (!c.greedy) {
      judge_row(c, in, s, 0, n, &rounds);
    } else {
      Way way;
      const auto best = [&]() { return in.argmax.integer_at(s * (c.most + 1) + way.kept); };
      while (way.kept < n && in.drafted.integer_at(s * c.most + way.kept) == best()) ++way.kept;
      way.after = best();
      rounds.ways[at(s)] = {way};
    }
  }
  return rounds;
}

// Whether `token` may be drawn from the shares, each off by up to its error.
bool may_be_drawn(const Shares& shares, double u, int64_t token) {
  if (token < 0 || at(token) >= shares.p.size()) return false;
  double sum = 0, slack = 0, before = 0;
  for (size_t j = 0; j < shares.p.size(); ++j) {
    if (static_cast<int64_t>(j) == token) before = sum;
    sum += shares.p[j];
    slack += 2 * shares.error[j];
  }
  const double p = shares.p[at(token)], target = u * sum;
  return p + shares.error[at(token)] > 0 && before - slack <= target &&
         target <= before + p + slack;
}

// What way leads to, given the token that was seen to be drawn; false if it may not be.
bool follow(const VerifyCase& c, const VerifyInputs& in, int64_t s, const Way& way, int64_t seen,
            VerifyResult* result) {
  if (!way.draws) {
    *result = verify_result(in, s, way.kept, way.after);
    return true;
  }
  const double u = in.uniform.at(s, c.most);
  Shares shares = softmax_of(in.logits, s * (c.most + 1) + way.kept, c.temperature);
  bool sound = is_uniform(u);
  if (way.residual && in.draft.given()) {
    const Shares target = shares, draft = draft_of(c, in, s * c.most + way.kept);
    double sum = 0, slack = 0;
    for (size_t j = 0; j < shares.p.size(); ++j) {
      sound = sound && is_probability(draft.p[j]);
      shares.error[j] += draft.error[j];
      shares.p[j] = std::max(0.0, target.p[j] - draft.p[j]);
      sum += shares.p[j];
      slack += shares.error[j];
    }
    // Where nothing may be left, p may take its place.
    if (sound && sum <= slack && may_be_drawn(target, u, seen)) shares = target;
  } else if (way.residual) {
    const auto x = at(in.drafted.integer_at(s * c.most + way.kept));
    if (x < shares.p.size()) {
      const Shares target = shares;
      shares.p[x] = shares.error[x] = 0;
      const bool empty =
          std::all_of(shares.p.begin(), shares.p.end(), [](double p) { return p < 1e-37; });
      if (empty) shares = target;
    }
  }
  *result = verify_result(in, s, way.kept, sound ? seen : -1);
  const bool cut = result->count <= way.kept;  // by a stop token that was drafted
  return !sound || cut || may_be_drawn(shares, u, seen);
}

}  // namespace

int64_t verify_drafted(const VerifyInputs& in, int64_t s) {
  if (in.active.given() && in.active.integer_at(s) == 0) return -1;
  const int64_t most = in.drafted.shape[1];
  int64_t n = in.draft_length.given() ? in.draft_length.integer_at(s) : most;
  if (n < 0 || n > most) return -2;
  for (int64_t i = 0; i < n; ++i) {
    if (in.drafted.integer_at(s * most + i) < 0) n = i;
  }
  const auto fits = [&](const HostTensor& counter, int64_t limit) {
    return !counter.given() ||
           (counter.integer_at(s) >= 0 && counter.integer_at(s) + n + 1 <= limit);
  };
  const bool sound =
      fits(in.length, in.capacity > 0 ? in.capacity : INT32_MAX) && fits(in.position, INT32_MAX);
  return sound ? n : -2;
}

VerifyResult verify_result(const VerifyInputs& in, int64_t s, int64_t kept, int64_t after) {
  const int64_t n = verify_drafted(in, s), most = in.drafted.shape[1];
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i < kept; ++i) tokens.push_back(in.drafted.integer_at(s * most + i));
  if (after >= 0) tokens.push_back(after);
  VerifyResult r;
  bool stopped = false;
  for (size_t i = 0; i < tokens.size() && !stopped; ++i) {
    for (int64_t k = 0; in.stop.given() && k < in.stop.size(); ++k)
      stopped = stopped || in.stop.integer_at(k) == tokens[i];
    if (stopped) tokens.resize(i + 1);
  }
  r.count = static_cast<int64_t>(tokens.size());
  r.accepted = std::min(kept, r.count);
  r.token = r.count > 0 ? tokens.back() : in.token.integer_at(s);
  r.last_row = r.count > 0 ? s * (most + 1) + r.count - 1 : -1;
  r.out = tokens;
  r.out.resize(at(most + 1), -1);
  r.length = id_or(in.length, s, 0) + r.count;
  r.position = id_or(in.position, s, 0) + r.count;
  r.outcome = n == -1                                      ? EXN_VERIFY_OFF
              : stopped                                    ? EXN_VERIFY_STOPPED
              : after < 0                                  ? EXN_VERIFY_INVALID
              : in.capacity > 0 && r.length == in.capacity ? EXN_VERIFY_FULL
                                                           : EXN_VERIFY_GOES_ON;
  r.active = r.outcome == EXN_VERIFY_GOES_ON ? 1 : 0;
  return r;
}

namespace {

// ---- case ---------------------------------------------------------------------------------------

std::unique_ptr<Instance> instantiate(const VerifyCase& c, int32_t device_type) {
  const VerifyInputs in = make_inputs(c);
  auto instance = std::make_unique<Instance>(device_type);
  const auto counter = [&](Output which, const char* name, std::vector<int64_t> shape) {
    return asks_for(c, which) ? instance->output(name, Type::kI32, std::move(shape)) : nullptr;
  };
  exn_verify_params p = {};
  p.struct_size = sizeof p;
  p.drafted = instance->input(in.drafted);
  p.draft_length = instance->input(in.draft_length);
  p.argmax = instance->input(in.argmax);
  p.logits = instance->input(in.logits);
  p.draft = instance->input(in.draft);
  p.uniform = instance->input(in.uniform);
  p.stop = instance->input(in.stop);
  p.accepted = instance->output("accepted", Type::kI32, {c.sequences});
  p.token = instance->in_out("token", in.token);
  p.active = in.active.given() ? instance->in_out("active", in.active) : nullptr;
  p.out = counter(kOut, "out", {c.sequences, c.most + 1});
  p.out_count = counter(kOutCount, "out_count", {c.sequences});
  p.last_row = counter(kLastRow, "last_row", {c.sequences});
  p.outcome = counter(kOutcome, "outcome", {c.sequences});
  p.length = in.length.given() ? instance->in_out("length", in.length) : nullptr;
  p.position = in.position.given() ? instance->in_out("position", in.position) : nullptr;
  p.capacity = in.capacity;
  p.vocabulary = c.greedy ? c.logits.cols : 0;
  p.temperature = c.greedy ? 0 : c.temperature;
  p.draft_temperature = c.draft == "logits" ? c.draft_temperature : 0;
  p.draft_kind = c.draft == "probabilities" ? EXN_DRAFT_PROBABILITIES : EXN_DRAFT_LOGITS;
  instance->call(EXN_TEST_OP(verify), p, c.hostile != "-");
  return instance;
}

// The results as the outputs hold them; what was not asked for is as in `expected`.
VerifyResult seen_of(const VerifyCase& c, const VerifyInputs& in, const Outputs& got, int64_t s,
                     VerifyResult expected) {
  size_t next = 0;
  const auto take = [&](bool asked, int64_t* value) {
    if (asked) *value = got[next++].integer_at(s);
  };
  take(true, &expected.accepted);
  take(true, &expected.token);
  take(in.active.given(), &expected.active);
  if (asks_for(c, kOut)) {
    for (int64_t i = 0; i <= c.most; ++i)
      expected.out[at(i)] = got[next].integer_at(s * (c.most + 1) + i);
    ++next;
  }
  take(asks_for(c, kOutCount), &expected.count);
  take(asks_for(c, kLastRow), &expected.last_row);
  take(asks_for(c, kOutcome), &expected.outcome);
  take(asks_for(c, kLength), &expected.length);
  take(asks_for(c, kPosition), &expected.position);
  return expected;
}

std::string shown(const VerifyResult& r) {
  std::string out;
  for (int64_t token : r.out) out += (out.empty() ? "" : " ") + text(token);
  return "accepted " + text(r.accepted) + ", token " + text(r.token) + ", out " + out +
         ", out_count " + text(r.count) + ", last_row " + text(r.last_row) + ", outcome " +
         text(r.outcome) + ", length " + text(r.length) + ", position " + text(r.position) +
         ", active " + text(r.active);
}

Complaint judge(const VerifyCase& c, const Rounds& rounds, const Outputs& got) {
  for (int64_t s = 0; s < c.sequences; ++s) {
    bool permitted = false;
    std::string wanted;
    for (const Way& way : rounds.ways[at(s)]) {
      const int64_t seen = got[1].integer_at(s);
      VerifyResult result;
      const bool possible = follow(c, rounds.in, s, way, seen, &result);
      const VerifyResult is = seen_of(c, rounds.in, got, s, result);
      permitted = permitted || (possible && is == result);
      wanted = "got " + shown(is) + ", expected " + shown(result) +
               (possible ? "" : ", where this token is none to be drawn");
    }
    if (!permitted) return "sequence " + text(s) + ": " + wanted;
  }
  count_band("verify", rounds.open, rounds.decisions);
  return "";
}

double compulsory_bytes(const VerifyCase& c) {
  double bytes = static_cast<double>(c.sequences * (12 * c.most + 40));
  if (c.greedy) return bytes;
  const Rounds rounds = play(c);
  for (int64_t s = 0; s < c.sequences; ++s) {
    const int64_t n = verify_drafted(rounds.in, s), kept = rounds.ways[at(s)][0].kept;
    if (n < 0) continue;
    const int64_t rejects = kept < n ? 1 : 0;
    bytes += bytes_of((kept + 1) * c.logits.cols, c.logits.type);
    if (c.draft == "logits") bytes += bytes_of((kept + rejects) * c.logits.cols, c.draft_type);
    if (c.draft == "probabilities") bytes += bytes_of(rejects * c.logits.cols, c.draft_type);
  }
  return bytes;
}

Case make_case(const VerifyCase& c) {
  Case result;
  result.instantiate = [c](int32_t device_type) { return instantiate(c, device_type); };
  const auto oracle = lazily([c] { return play(c); });
  result.judge = [c, oracle](const Outputs& got) { return judge(c, oracle(), got); };
  result.cpu_refuses = c.hostile != "-";
  result.compulsory_bytes = compulsory_bytes(c);
  result.description = {{"mode", quoted(c.greedy ? "greedy" : "sampled")},
                        {"sequences", text(c.sequences)},
                        {"drafted", text(c.most)},
                        {"cols", text(c.logits.cols)},
                        {"dtype", quoted(name_of(c.logits.type))},
                        {"draft", quoted(c.draft)}};
  return result;
}

void describe(Maker& m, exn_verify_params& p) {
  const Dim sequences = m.dim("sequences", 0, 3, 30), most = m.dim("drafted", 0, 4, 70),
            columns = m.dim("columns", 1, 40, 600), each = m.fixed(plus(most.size, 1)),
            rows = m.fixed(times(sequences.size, plus(most.size, 1)));
  m.zero(FIELD(reserved));
  const bool greedy = m.some("greedy", 2), known = !greedy || m.some("vocabulary", 2);
  const int64_t last = known ? columns.size - 1 : kMost32;
  if (greedy) {
    m.integer(FIELD(vocabulary), known ? columns.size : 0, 0, kMost32);
  } else {  // 0 is sound as well, and nothing else is
    m.any_integer(FIELD(vocabulary), m.random().pick<int64_t>({0, columns.size}));
  }
  m.ids(FIELD(drafted), {sequences, most}, {-1, last, false});
  m.in_out(FIELD(active), kU8, {sequences}, kOptional);
  m.ids(FIELD(draft_length), {sequences}, {0, most.size, p.active == nullptr}, kOptional);
  const int32_t kind = m.choice(FIELD(draft_kind), EXN_DRAFT_LOGITS, EXN_DRAFT_PROBABILITIES);
  if (greedy) {
    m.in(FIELD(argmax), kI32, {rows});
    m.none(FIELD(logits));
    m.none(FIELD(draft));
    m.none(FIELD(uniform));
    m.unused(FIELD(temperature));
    m.unused(FIELD(draft_temperature));
  } else {
    m.none(FIELD(argmax));
    m.in(FIELD(logits), m.type(kFloats), {rows, columns}, kRows);
    m.in(FIELD(draft), m.type(kFloats), {m.fixed(times(sequences.size, most.size)), columns},
         kRows | kOptional);
    m.in(FIELD(uniform), kF32, {sequences, each});
    m.real(FIELD(temperature), Domain::kPositive);
    p.draft != nullptr&& kind == EXN_DRAFT_LOGITS
        ? m.real(FIELD(draft_temperature), Domain::kPositive)
        : m.unused(FIELD(draft_temperature));
  }
  m.ids(FIELD(stop), {m.dim("stops", 0, 2, 9)}, {0, last, true}, kOptional);
  m.out(FIELD(accepted), kI32, {sequences});
  m.integers(FIELD(token), Role::kInOut, {sequences});
  m.out(FIELD(out), kI32, {sequences, each}, kOptional);
  m.out(FIELD(out_count), kI32, {sequences}, kOptional);
  m.out(FIELD(last_row), kI32, {sequences}, kOptional);
  m.out(FIELD(outcome), kI32, {sequences}, kOptional);
  const bool bounded = m.some("bounded", 2);
  m.integers(FIELD(length), Role::kInOut, {sequences}, bounded ? kWanted : kOptional);
  m.integers(FIELD(position), Role::kInOut, {sequences}, kOptional);
  // 0 is sound as well, and what lies between is not.
  m.any_integer(FIELD(capacity), bounded ? plus(most.size, 1 + m.random().below(5)) : 0);
}

const Described kDescribed = EXN_DESCRIBED(verify);

const RegisteredOp kRegistered("verify", [] {
  return listed("verify", read_cases<VerifyCase>("verify", read_case), make_case);
});

}  // namespace

}  // namespace verify_op
}  // namespace exn::test
