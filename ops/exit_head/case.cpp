// SPDX-License-Identifier: Apache-2.0
#include "exit_head/case.h"

#include <map>
#include <mutex>

#include "dense.h"
#include "parts.h"

namespace exn::test {
inline namespace exit_head_op {

namespace {

MatrixSpec read_translator(const Row& row) {
  MatrixSpec m;
  m.pad = row.integer("translator_pad");
  if (row.text("translator") == "-") return m;
  m.rows = m.cols = row.integer("dim");
  read_storage("translator", row.text("translator"), &m);
  m.scale = 0.125f;
  return m;
}

void read_screen(const std::string& text, ExitHeadCase* c) {
  c->screen = text.substr(0, text.find(':'));
  if (c->screen != "-" && c->screen != "proven" && c->screen != "calibrated")
    fail("screen: '" + text + "'");
  if (c->screen.size() == text.size()) return;
  char* end = nullptr;
  c->screen_budget =
      static_cast<int32_t>(std::strtol(text.c_str() + c->screen.size() + 1, &end, 10));
  if (c->screen_budget <= 0 || *end != '\0') fail("screen: '" + text + "'");
}

void read_case(const Row& row, ExitHeadCase* c) {
  c->hidden = read_matrix(row, "hidden", "rows", "dim", "special");
  c->weight = read_matrix(row, "weight", "vocab", "dim");
  c->bias = row.text("bias");
  c->norm = row.choice("norm", {"none", "rms", "layer"});
  c->norm_eps = row.number("norm_eps");
  c->norm_bias = row.flag("norm_bias");
  c->translator = read_translator(row);
  c->translate = row.choice("translate", {"raw", "rms"});
  c->translator_bias = row.flag("translator_bias");
  const std::string& list = row.text("shortlist");
  if (list != "-") {
    char* end = nullptr;
    c->shortlist = std::strtoll(list.c_str(), &end, 10);
    c->shortlist_descending = std::string(end) == ":desc";
    if (c->shortlist <= 0 || (*end != '\0' && !c->shortlist_descending)) {
      fail("shortlist: '" + list + "'");
    }
  }
  c->normalizer = row.choice("normalizer", {"softmax", "stablemax"});
  c->temperature = row.number("temperature");
  c->softcap = row.number("softcap");
  read_screen(row.text("screen"), c);
  c->outputs = read_stats(row, *c, c->normalizer);
}

}  // namespace

std::vector<ExitHeadCase> exit_head_cases() {
  return read_cases<ExitHeadCase>("exit_head", read_case);
}

namespace {

HostTensor make_translator(const ExitHeadCase& c) {
  if (c.translator.blocks != EXN_BLOCKS_NONE) return make_matrix(c.translator, c.seed, 5);
  const int64_t d = c.hidden.cols;
  HostTensor t = make_tensor(c.translator.type, {d, d}, c.translator.pad);
  for (int64_t i = 0; i < d; ++i) {
    for (int64_t j = 0; j < d; ++j) {
      const float v = bell(word(c.seed, 5, static_cast<uint64_t>(i * d + j))) * 0x1p-5f;
      t.set(i, j, static_cast<double>(i == j ? v + 1 : v));
    }
  }
  return t;
}

HostTensor make_shortlist(const ExitHeadCase& c) {
  HostTensor t = make_tensor(Type::kI32, {c.shortlist});
  for (int64_t k = 0; k < c.shortlist; ++k) {
    const int64_t at = c.shortlist_descending ? c.shortlist - 1 - k : k;
    t.set_integer(at, k * c.weight.rows / c.shortlist);
  }
  return t;
}

// Of two levels, the second of which is asked for.
constexpr int32_t kLevels = 2;

// An image on the CPU, of the head and of states like those that will come.
HostTensor make_screen(const ExitHeadCase& c, const ExitHeadInputs& in) {
  const int64_t d = c.hidden.cols, n = d + kLevels;
  HostTensor states = make_bell(Type::kF32, {n, d}, c.seed, 7, 1);
  HostTensor levels = make_tensor(Type::kI32, {n});
  for (int64_t r = 0; r < n; ++r) {
    levels.set_integer(r, r % kLevels);
    for (int64_t i = 0; i < d && in.norm_weight.given(); ++i)
      states.set(r, i, states.at(r, i) * in.norm_weight.at(0, i));
  }
  const Placed weight(kDLCPU, in.weight), x(kDLCPU, states), of(kDLCPU, levels);
  exn_screen_params params = {};
  params.struct_size = sizeof params;
  params.weight = weight.dl();
  params.weight_blocks = in.weight.blocks;
  params.states = x.dl();
  params.levels = of.dl();
  params.level_count = kLevels;
  size_t bytes = 0;
  require(exn_screen_size(&params, &bytes), "exn_screen_size");
  const Placed image(kDLCPU, make_tensor(Type::kU8, {static_cast<int64_t>(bytes)}));
  params.image = image.dl();
  require(exn_screen_build(&params), "exn_screen_build");
  return image.read();
}

// The same for all tests of a case that run on one instruction set: of 600 columns it takes seconds
// where a sanitizer watches. Large ones, which are timed, are not kept.
HostTensor screen_of(const ExitHeadCase& c, const ExitHeadInputs& in) {
  constexpr size_t kMost = size_t{4} << 20;
  struct Made {
    uint64_t seed;
    std::vector<unsigned char> weight, norm_weight;
    HostTensor screen;
  };
  static std::mutex mutex;
  static std::map<std::string, Made> all;
  const std::lock_guard<std::mutex> lock(mutex);
  const std::string key = c.id + " on " + exn_cpu_isa();
  const auto found = all.find(key);
  if (found != all.end() && found->second.seed == c.seed &&
      found->second.weight == in.weight.bytes && found->second.norm_weight == in.norm_weight.bytes)
    return found->second.screen;
  HostTensor screen = make_screen(c, in);
  if (screen.bytes.size() <= kMost)
    all[key] = {c.seed, in.weight.bytes, in.norm_weight.bytes, screen};
  return screen;
}

}  // namespace

ExitHeadInputs make_inputs(const ExitHeadCase& c) {
  const int64_t d = c.hidden.cols;
  ExitHeadInputs in;
  in.hidden = make_matrix(c.hidden, c.seed, 0);
  in.weight = make_matrix(c.weight, c.seed, 1);
  if (c.bias != "-") {
    in.bias = make_tensor(Type::kF32, {c.weight.rows});
    fill(&in.bias, c.seed, 2, "normal", 1, c.bias == "normal" ? "-" : c.bias);
  }
  if (c.norm != EXN_NORM_NONE) in.norm_weight = make_bell(Type::kF32, {d}, c.seed, 3, 0.25f, 1);
  if (c.norm_bias) in.norm_bias = make_bell(Type::kF32, {d}, c.seed, 4, 0.25f);
  if (c.translator.rows > 0) in.translator = make_translator(c);
  if (c.translator_bias) in.translator_bias = make_bell(Type::kF32, {d}, c.seed, 6, 0.125f);
  if (c.shortlist > 0) in.shortlist = make_shortlist(c);
  if (c.screen != "-") in.screen = screen_of(c, in);
  in.stats = make_stats_inputs(c.outputs, c.seed, c.hidden.rows, c.weight.rows);
  if (in.stats.labels.given()) {
    // Half of them are listed, whatever the list.
    for (int64_t r = 0; r < c.hidden.rows && c.shortlist > 0; r += 2)
      in.stats.labels.set_integer(r, in.shortlist.integer_at(r * 5 % c.shortlist));
  }
  return in;
}

namespace {

// A hidden state on its way to the head. The error of x[i] is error[i] (independent of the others),
// plus a common factor (relative error `scale_error` of scaled[i]) and a common shift
// (`shift_error` times shifted[i]).
struct State {
  std::vector<double> x;
  std::vector<double> error;
  std::vector<double> scaled;
  std::vector<double> shifted;
  double scale_error = 0;
  double shift_error = 0;

  // Of x[i] in all.
  double total_error(size_t i) const {
    double e = error[i];
    if (!scaled.empty()) e += scale_error * std::fabs(scaled[i]);
    if (!shifted.empty()) e += shift_error * std::fabs(shifted[i]);
    return e;
  }
  RoundedInput rounded() const {
    std::vector<double> errors;
    for (size_t i = 0; i < x.size(); ++i) errors.push_back(total_error(i));
    return RoundedInput(x, errors);
  }
};

double mean_square(const std::vector<double>& x) {
  double sum = 0;
  for (double v : x) sum += v * v;
  return sum / static_cast<double>(x.size());
}

// Relative error of 1 / sqrt(mean x^2 + eps) when x has independent errors.
double rms_error(const std::vector<double>& x, const std::vector<double>& error, double eps) {
  double cross = 0;
  for (size_t i = 0; i < x.size(); ++i) cross += x[i] * x[i] * error[i] * error[i];
  const double n = static_cast<double>(x.size());
  const double total = n * (mean_square(x) + eps);
  const double from_x = total > 0 ? kIndependent * std::sqrt(cross) / total : 0;
  return kUnit * (0.5 * sum_error(static_cast<int64_t>(x.size())) + 4) + from_x;
}

void translate(const ExitHeadCase& c, const ExitHeadInputs& in, const Matrix& rows, State* s) {
  const size_t n = s->x.size();
  double scale_error = 0;
  if (c.translate == EXN_TRANSLATE_RMS) {
    const double eps = static_cast<double>(c.norm_eps);
    const double scale = 1 / std::sqrt(mean_square(s->x) + eps);
    scale_error = rms_error(s->x, s->error, eps);
    for (double& v : s->x) v *= scale;
  }
  for (size_t i = 0; i < n; ++i) s->error[i] += scale_error * std::fabs(s->x[i]);
  const RoundedInput rounded = s->rounded();
  std::vector<double> y(n), error(n);
  for (size_t i = 0; i < n; ++i) {
    const std::vector<double>& w = rows.rows[i];
    double sum = 0, magnitude = 0;
    for (size_t j = 0; j < n; ++j) {
      const double term = w[j] * s->x[j];
      sum += term;
      magnitude += std::fabs(term);
    }
    const double bias =
        in.translator_bias.given() ? in.translator_bias.at(0, static_cast<int64_t>(i)) : 0;
    y[i] = sum + bias;
    error[i] = kUnit * (sum_error(static_cast<int64_t>(n)) * magnitude + std::fabs(y[i])) +
               scale_error * std::fabs(sum);
    if (rows.quantised) rounded.meet(w, &y[i], &error[i]);
  }
  s->x = y;
  s->error = error;
}

void rms_norm(const ExitHeadCase& c, const ExitHeadInputs& in, State* s) {
  const double eps = static_cast<double>(c.norm_eps);
  const double scale = 1 / std::sqrt(mean_square(s->x) + eps);
  s->scale_error = rms_error(s->x, s->error, eps);
  for (size_t i = 0; i < s->x.size(); ++i) {
    const double w = in.norm_weight.at(0, static_cast<int64_t>(i));
    s->x[i] *= scale * w;
    s->error[i] = s->error[i] * scale * std::fabs(w) + 3 * kUnit * std::fabs(s->x[i]);
  }
  s->scaled = s->x;
}

void layer_norm(const ExitHeadCase& c, const ExitHeadInputs& in, State* s) {
  const size_t n = s->x.size();
  const double count = static_cast<double>(n);
  double sum = 0, magnitude = 0, errors = 0;
  for (size_t i = 0; i < n; ++i) {
    sum += s->x[i];
    magnitude += std::fabs(s->x[i]);
    errors += s->error[i] * s->error[i];
  }
  const double mean = sum / count;
  s->shift_error =
      kUnit * (sum_error(static_cast<int64_t>(n)) * magnitude / count + std::fabs(mean)) +
      kIndependent * std::sqrt(errors) / count;
  for (size_t i = 0; i < n; ++i) {
    s->error[i] += kUnit * (std::fabs(s->x[i]) + std::fabs(mean));
    s->x[i] -= mean;
  }
  const double eps = static_cast<double>(c.norm_eps);
  const double variance = mean_square(s->x) + eps;
  const double scale = 1 / std::sqrt(variance);
  s->scale_error = rms_error(s->x, s->error, eps) + s->shift_error * s->shift_error / variance;
  s->scaled.resize(n);
  s->shifted.resize(n);
  for (size_t i = 0; i < n; ++i) {
    const double w = in.norm_weight.at(0, static_cast<int64_t>(i));
    const double bias = in.norm_bias.given() ? in.norm_bias.at(0, static_cast<int64_t>(i)) : 0;
    s->scaled[i] = s->x[i] * scale * w;
    s->shifted[i] = scale * w;
    s->x[i] = s->scaled[i] + bias;
    s->error[i] = s->error[i] * scale * std::fabs(w) +
                  kUnit * (3 * std::fabs(s->scaled[i]) + std::fabs(s->x[i]));
  }
}

// Rounds the state to a 16-bit type. An element within its error of a rounding
// boundary may land on either side.
void round_state(Type type, State* s) {
  for (size_t i = 0; i < s->x.size(); ++i) {
    const double e = s->total_error(i);
    const double rounded = rounded_to(type, s->x[i]);
    const double low = rounded_to(type, s->x[i] - e);
    const double high = rounded_to(type, s->x[i] + e);
    s->x[i] = rounded;
    s->error[i] = std::max(high - rounded, rounded - low);
  }
  s->scaled.clear();
  s->shifted.clear();
}

State prepared(const ExitHeadCase& c, const ExitHeadInputs& in, const Matrix& translator,
               int64_t row) {
  State s;
  s.x = row_of<double>(in.hidden, row);
  s.error.assign(s.x.size(), 0);
  if (c.translator.rows > 0) translate(c, in, translator, &s);
  if (c.norm == EXN_NORM_RMS) rms_norm(c, in, &s);
  if (c.norm == EXN_NORM_LAYER) layer_norm(c, in, &s);
  if (c.hidden.type == c.weight.type && is_16_bit(c.hidden.type)) round_state(c.hidden.type, &s);
  return s;
}

struct Dot {
  double value = 0;
  double error = 0;
};

Dot logit_of(const State& s, const std::vector<double>& w, bool exact) {
  Dot dot;
  double magnitude = 0, independent = 0, scaled = 0, shifted = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    const double term = w[i] * s.x[i];
    dot.value += term;
    magnitude += std::fabs(term);
    independent += w[i] * w[i] * s.error[i] * s.error[i];
    if (!s.scaled.empty()) scaled += w[i] * s.scaled[i];
    if (!s.shifted.empty()) shifted += w[i] * s.shifted[i];
  }
  if (exact) return dot;
  dot.error = kUnit * sum_error(static_cast<int64_t>(w.size())) * magnitude +
              kIndependent * std::sqrt(independent) + s.scale_error * std::fabs(scaled) +
              s.shift_error * std::fabs(shifted) + 1e-37;
  return dot;
}

std::vector<int64_t> ids_of(const ExitHeadInputs& in) {
  std::vector<int64_t> ids;
  if (!in.shortlist.given()) return ids;
  for (int64_t k = 0; k < in.shortlist.cols; ++k) ids.push_back(in.shortlist.integer_at(k));
  return ids;
}

}  // namespace

std::vector<StatsExpected> exit_head_oracle(const ExitHeadCase& c, const ExitHeadInputs& in) {
  const std::vector<int64_t> ids = ids_of(in);
  const int64_t count = ids.empty() ? in.weight.rows : static_cast<int64_t>(ids.size());
  const Matrix translator = matrix_of(in.translator);
  const bool quantised = in.weight.blocks != EXN_BLOCKS_NONE;
  std::vector<State> states;
  std::vector<RoundedInput> rounded;
  for (int64_t r = 0; r < in.hidden.rows; ++r) {
    states.push_back(prepared(c, in, translator, r));
    rounded.push_back(states.back().rounded());
  }
  std::vector<Logits> logits(states.size());
  for (Logits& row : logits) {
    row.z.resize(at(count));
    row.error.resize(at(count));
    row.ids = ids;
  }
  for (int64_t k = 0; k < count; ++k) {
    const int64_t v = ids.empty() ? k : ids[at(k)];
    const std::vector<double> w = weight_row(in.weight, v);
    const double bias = in.bias.given() ? in.bias.at(0, v) : 0;
    for (size_t r = 0; r < states.size(); ++r) {
      Dot dot = logit_of(states[r], w, c.exact);
      if (quantised) rounded[r].meet(w, &dot.value, &dot.error);
      const double z = dot.value + bias;
      logits[r].z[at(k)] = z;
      logits[r].error[at(k)] = c.exact || std::isinf(z) ? 0 : dot.error + kUnit * std::fabs(z);
    }
  }
  std::vector<StatsExpected> rows;
  for (size_t r = 0; r < logits.size(); ++r) {
    rows.push_back(stats_oracle(logits[r], c.normalizer, c.temperature, c.softcap, in.stats,
                                static_cast<int64_t>(r)));
  }
  return rows;
}

std::unique_ptr<Instance> instantiate(const ExitHeadCase& c, const ExitHeadInputs& in,
                                      int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_exit_head_params params = {};
  params.struct_size = sizeof params;
  params.hidden = instance->input(in.hidden);
  params.weight = instance->input(in.weight);
  params.bias = instance->input(in.bias);
  params.norm_weight = instance->input(in.norm_weight);
  params.norm_bias = instance->input(in.norm_bias);
  params.weight_blocks = in.weight.blocks;
  params.translator_weight = instance->input(in.translator);
  params.translator_blocks = in.translator.blocks;
  params.translator_bias = instance->input(in.translator_bias);
  params.shortlist = instance->input(in.shortlist);
  params.norm = c.norm;
  params.norm_eps = c.norm_eps;
  params.translate = c.translate;
  params.normalizer = c.normalizer;
  params.temperature = c.temperature;
  params.softcap = c.softcap;
  params.out = add_stats(instance.get(), c.outputs, in.hidden.rows, in.stats);
  if (in.screen.given()) {
    const std::vector<int64_t> rows = {in.hidden.rows};
    params.screen = instance->input(in.screen);
    params.certified = instance->output("certified", Type::kU8, rows);
    params.p1_low = instance->output("p1_low", Type::kF32, rows);
    params.p1_high = instance->output("p1_high", Type::kF32, rows);
    params.rows_read = instance->output("rows_read", Type::kI32, rows);
    params.screen_level = kLevels - 1;
    params.screen_mode = c.screen == "proven" ? EXN_SCREEN_PROVEN : EXN_SCREEN_CALIBRATED;
    params.screen_budget = c.screen_budget;
  }
  instance->call(EXN_TEST_OP(exit_head), params);
  return instance;
}

namespace {

// What a run reads of an image made for 5 bits a weight; rows of the head come to that.
double screen_bytes(const ExitHeadCase& c) {
  const auto vocabulary = static_cast<double>(c.weight.rows),
             d = static_cast<double>(c.hidden.cols);
  const double blocks = std::ceil(d / 32);
  return vocabulary * (20 * blocks + std::min(blocks, 8.0) + 5) + 4 * d * (d + 2);
}

// lse and p1 are estimates: p1 lies where it is said to, and so does what is expected.
Complaint judge_screened(const ExitHeadCase& c, const std::vector<StatsExpected>& expected,
                         const Outputs& got) {
  constexpr uint32_t kEstimates = 1u << kLse | 1u << kP1;
  Outputs exact;
  size_t next = 0;
  const HostTensor* p1 = nullptr;
  for (int stat = 0; stat < kStats; ++stat) {
    if ((c.outputs >> stat & 1) == 0) continue;
    const HostTensor& tensor = got[next++];
    if ((kEstimates >> stat & 1) == 0) exact.push_back(tensor);
    if (stat == kP1) p1 = &tensor;
  }
  const Complaint complaint = judge_stats(c.outputs & ~kEstimates, expected, exact);
  if (!complaint.empty()) return complaint;
  const HostTensor &certified = got[next], &low = got[next + 1], &high = got[next + 2],
                   &read = got[next + 3];
  for (int64_t row = 0; row < c.hidden.rows; ++row) {
    const Expected& p = expected[at(row)].stats[kP1];
    const int64_t kind = certified.integer_at(row), rows = read.integer_at(row);
    if (kind != EXN_CERTIFIED_NOT &&
        kind != (c.screen == "proven" ? EXN_CERTIFIED_PROVEN : EXN_CERTIFIED_CALIBRATED)) {
      return "certified" + place(row, 0) + ": got " + std::to_string(kind);
    }
    if (kind == EXN_CERTIFIED_NOT ? rows != c.weight.rows : rows < 1 || rows > c.weight.rows)
      return "rows_read" + place(row, 0) + ": got " + std::to_string(rows);
    if (!expected[at(row)].valid) continue;
    const double least = low.at(0, row), largest = high.at(0, row);
    const double now = p1 == nullptr ? p.value : p1->at(0, row);
    if (!(least <= p.value + p.bound && largest >= p.value - p.bound))
      return "p1" + place(row, 0) + ": " + std::to_string(p.value) + " is not within " +
             std::to_string(least) + " to " + std::to_string(largest);
    if (p1 != nullptr && !(least <= now * (1 + 1e-6) && now <= largest * (1 + 1e-6)))
      return "p1" + place(row, 0) + ": got " + std::to_string(now) + ", but also " +
             std::to_string(least) + " to " + std::to_string(largest);
  }
  return "";
}

Case make_case(const ExitHeadCase& c) {
  Case result;
  const auto in = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, in](int32_t device_type) { return instantiate(c, in(), device_type); };
  const auto oracle = lazily([c, in] { return exit_head_oracle(c, in()); });
  result.judge = [c, oracle](const Outputs& got) {
    return c.screen != "-" ? judge_screened(c, oracle(), got)
                           : judge_stats(c.outputs, oracle(), got);
  };
  MatrixSpec read = c.weight;
  if (c.shortlist > 0) read.rows = c.shortlist;
  const double head_bytes = c.screen != "-" ? screen_bytes(c) : weight_bytes(read);
  result.compulsory_bytes =
      passes_over_weights(c.hidden.rows) * (head_bytes + weight_bytes(c.translator)) +
      bytes_of(c.hidden.rows * c.hidden.cols, c.hidden.type);
  result.description = {{"rows", text(c.hidden.rows)},
                        {"dim", text(c.hidden.cols)},
                        {"vocab", text(c.weight.rows)},
                        {"dtype", quoted(name_of(c.hidden.type))},
                        {"weight_dtype", quoted(weight_name(c.weight))},
                        {"norm", text(c.norm)},
                        {"shortlist", text(c.shortlist)},
                        {"normalizer", text(c.normalizer)},
                        {"screen", quoted(c.screen)},
                        {"outputs", stat_names(c.outputs)}};
  return result;
}

void describe(Maker& m, exn_exit_head_params& p) {
  const Dim rows = m.dim("rows", 0, 3, 66), vocabulary = m.dim("vocabulary", 1, 30, 300);
  const BlockFormat* const blocks = m.blocks(FIELD(weight_blocks));
  const BlockFormat* const translator = m.blocks(FIELD(translator_blocks));
  const Dim columns = m.columns({blocks, translator}, "columns", 1, 40, 200);
  m.in(FIELD(hidden), m.type(kFloats), {rows, columns}, kRows);
  m.weights(FIELD(weight), blocks, m.type(kFloats), {vocabulary, columns});
  m.in(FIELD(bias), kF32, {vocabulary}, kOptional);
  const int32_t norm = m.choice(FIELD(norm), EXN_NORM_NONE, EXN_NORM_LAYER);
  norm_of(m, norm, FIELD(norm_weight), FIELD(norm_bias), columns);
  m.real(FIELD(norm_eps), Domain::kNotNegative);
  if (m.weights(FIELD(translator_weight), translator, m.type(kFloats), {columns, columns},
                kRows | kOptional)) {
    m.in(FIELD(translator_bias), kF32, {columns}, kOptional);
  } else {
    m.none(FIELD(translator_bias));
  }
  m.choice(FIELD(translate), EXN_TRANSLATE_RAW, EXN_TRANSLATE_RMS);
  m.ids(FIELD(shortlist), {m.dim("listed", 1, 9, 80)}, {0, vocabulary.size - 1, rows.size > 0},
        kOptional);
  normalizer(m, p);
  stats(m, p.out, rows, vocabulary, p.normalizer == EXN_SOFTMAX);
  m.none(FIELD(screen));  // an image is made of a head
  m.none(FIELD(certified));
  m.none(FIELD(p1_low));
  m.none(FIELD(p1_high));
  m.none(FIELD(rows_read));
  m.zero(FIELD(screen_level));
  m.zero(FIELD(screen_mode));
  m.zero(FIELD(screen_budget));
  m.real(FIELD(screen_factor), Domain::kZero);
}

const Described kDescribed = EXN_DESCRIBED(exit_head);

const RegisteredOp kRegistered("exit_head",
                               [] { return listed("exit_head", exit_head_cases(), make_case); });

}  // namespace

}  // namespace exit_head_op
}  // namespace exn::test
