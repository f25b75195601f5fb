// SPDX-License-Identifier: Apache-2.0
#include "attention_scores/case.h"

#include <algorithm>
#include <cmath>

#include "parts.h"
#include "reals.h"

namespace exn::test {
inline namespace attention_scores_op {

namespace {

void read_case(const Row& row, AttentionScoresCase* c) {
  c->cache = read_cache(row, "cache", "cache_offset");
  c->window = row.integer("window");
  c->query_heads = row.integer("query_heads");
  c->query = {row.integer("prompts") * c->window,
              c->query_heads * c->cache.dim,
              row.type("query"),
              row.integer("query_pad"),
              row.integer("query_offset"),
              row.text("fill"),
              row.number("query_scale"),
              row.text("special")};
  c->key_scale = row.number("key_scale");
  c->cache_special = row.text("cache_special");
  c->sequence = row.text("sequence");
  c->visible = row.text("visible");
  c->columns = row.integer("columns");
  c->first = row.integer("first");
  c->limit = row.text("limit");
  c->scale = row.number("scale");
  c->kind = row.choice("kind", {"raw", "softmax"});
  c->reduction = row.choice("reduction", {"each", "sum", "mean", "group"});
  c->pool = row.choice("pool", {"-", "avg", "max"});
  c->pool_width = static_cast<int32_t>(row.integer("pool_width"));
  c->accumulate = row.flag("accumulate");
  c->scores = row.flag("scores");
  c->selects = row.text("capacity") != "-";
  if (c->selects) c->selection = read_selection(row);
}

// Row i of prompt s.
int64_t visible_of(const AttentionScoresCase& c, int64_t s, int64_t i) {
  const int64_t slots = c.cache.slots, row = s * c.window + i;
  const int64_t random = pick(c.seed, 5, row, slots + 1);
  if (c.visible == "all") return slots;
  if (c.visible == "random") return random;
  if (c.visible == "causal") return slots - c.window + 1 + i;
  if (c.visible == "ragged")
    return c.window + pick(c.seed, 8, s, slots - c.window + 1) - c.window + 1 + i;
  if (c.visible == "mixed")
    return row % 4 == 0 ? random : row % 4 == 1 ? slots : row % 4 == 2 ? 1 : 0;
  return number_in("visible", c.visible);
}

// "before": the columns before the slot that the first row of a prompt stands on.
HostTensor limits_of(const AttentionScoresCase& c, const HostTensor& visible) {
  if (c.limit != "before") return make_limits(c.limit, c.prompts(), c.columns, c.seed);
  HostTensor t = make_tensor(Type::kI32, {c.prompts()});
  for (int64_t s = 0; s < c.prompts(); ++s) {
    const int64_t own = visible.integer_at(s * c.window) - 1 - c.first;
    t.set_integer(s, std::clamp<int64_t>(own, 0, c.columns));
  }
  return t;
}

// K: hidden from every row of its sequence, NaN.
void make_keys(const AttentionScoresCase& c, AttentionScoresInputs* in) {
  std::vector<int64_t> seen(static_cast<size_t>(c.cache.sequences), 0);
  for (int64_t r = 0; r < c.query.rows; ++r) {
    const int64_t s = r / c.window;
    const int64_t of = in->sequence.given() ? in->sequence.integer_at(s) : s;
    int64_t& most = seen[static_cast<size_t>(of)];
    most = std::max(most, in->visible.integer_at(r));
  }
  in->cache = empty_cache(c.cache, c.seed);
  fill_seen(c.cache, in->cache.block_table, seen, c.query.fill, c.key_scale, c.seed, 1,
            &in->cache.k);
}

}  // namespace

std::vector<AttentionScoresCase> attention_scores_cases() {
  return read_cases<AttentionScoresCase>("attention_scores", read_case);
}

AttentionScoresInputs make_inputs(const AttentionScoresCase& c) {
  AttentionScoresInputs in;
  in.query = make_head_rows(c.query, c.cache.dim, c.seed, 0);
  in.sequence = make_sequences(c.sequence, c.prompts(), c.cache.sequences, c.seed, 4);
  in.visible = make_tensor(Type::kI32, {c.query.rows});
  for (int64_t r = 0; r < c.query.rows; ++r)
    in.visible.set_integer(r, visible_of(c, r / c.window, r % c.window));
  in.limit = limits_of(c, in.visible);
  make_keys(c, &in);
  if (c.cache_special != "-" && c.cache.slots > 0)
    put_special(c.cache, c.seed, c.cache_special, &in.cache);
  if (c.scores && c.accumulate) {
    in.scores = make_bell(Type::kF32, {c.prompts(), c.score_heads(), c.columns}, c.seed, 2, 1);
  } else if (c.scores) {
    in.scores = make_tensor(Type::kF32, {c.prompts(), c.score_heads(), c.columns});
  }
  if (c.selects) in.selection = make_selection(c.selection, c.score_rows(), c.columns, c.seed);
  return in;
}

// ---- the oracle ---------------------------------------------------------------------------------

namespace {

// No value here is stored as f64, so double leaves every bound 29 bits of margin.
using Real = double;

// A sum of errors, and of magnitudes that rounding goes by.
struct Score {
  Real value = 0;
  Real error = 0;
  Real magnitude = 0;

  void add(const Score& s) {
    value += s.value;
    error += s.error;
    magnitude += s.magnitude;
  }
};

// The queries of one prompt over one KV head.
class PromptHead {
 public:
  PromptHead(const AttentionScoresCase& c, const AttentionScoresInputs& in, int64_t prompt,
             int64_t kv_head)
      : c_(c), in_(in), prompt_(prompt), kv_head_(kv_head) {
    const int64_t sequence = id_or(in.sequence, prompt, prompt);
    for (int64_t t = 0; t < most_visible(c, in, prompt); ++t) {
      for (int64_t i = 0; i < c.cache.dim; ++i) {
        keys_.push_back(static_cast<Real>(
            in.cache.k.at(0, cache_index(c.cache, in.cache.block_table, sequence, t, kv_head, i))));
      }
    }
  }

  static int64_t most_visible(const AttentionScoresCase& c, const AttentionScoresInputs& in,
                              int64_t prompt) {
    int64_t most = 0;
    for (int64_t i = 0; i < c.window; ++i)
      most = std::max(most, in.visible.integer_at(prompt * c.window + i));
    return most;
  }

  // Adds what query head `head` makes of the columns [0, scored).
  void add(int64_t head, int64_t scored, std::vector<Score>* columns) const {
    for (int64_t i = 0; i < c_.window; ++i) {
      const std::vector<Score> row = row_scores(prompt_ * c_.window + i, head);
      const int64_t seen = static_cast<int64_t>(row.size()) - c_.first;
      for (int64_t j = 0; j < std::min(seen, scored); ++j)
        (*columns)[at(j)].add(row[at(c_.first + j)]);
    }
  }

 private:
  std::vector<Score> row_scores(int64_t row, int64_t head) const {
    std::vector<Real> query;
    for (int64_t i = 0; i < c_.cache.dim; ++i)
      query.push_back(static_cast<Real>(in_.query.at(row, head * c_.cache.dim + i)));
    std::vector<Score> z(at(in_.visible.integer_at(row)));
    for (size_t t = 0; t < z.size(); ++t) z[t] = product(query, &keys_[t * query.size()]);
    return c_.kind == EXN_SCORE_RAW ? z : softmax(z);
  }

  Score product(const std::vector<Real>& query, const Real* key) const {
    Real sum = 0, absolute = 0;
    for (size_t i = 0; i < query.size(); ++i) {
      const Real term = query[i] * key[i];
      sum += term;
      absolute += std::fabs(term);
    }
    const Real scale = static_cast<Real>(c_.scale);
    const Real error = kUnit * static_cast<Real>(sum_error(c_.cache.dim)) * absolute * scale;
    return {sum * scale, std::isfinite(absolute) ? error + 0x1p-126 : 0, std::fabs(sum * scale)};
  }

  // An error e of a score makes its weight e^e times as large, and the sum of all weights by the
  // mean of such factors. The exponent's own rounding grows with its size.
  std::vector<Score> softmax(const std::vector<Score>& z) const {
    Real top = -kInf, total = 0, shared = 0;
    for (const Score& s : z) top = std::max(top, s.value);
    std::vector<Score> a(z.size());
    for (size_t t = 0; t < z.size(); ++t) total += a[t].value = std::exp(z[t].value - top);
    std::vector<Real> error(z.size());
    for (size_t t = 0; t < z.size(); ++t) {
      a[t].value /= total;
      a[t].magnitude = a[t].value;
      error[t] = a[t].value == 0 ? 0 : z[t].error + kUnit * (8 + 3 * std::fabs(z[t].value - top));
      shared += a[t].value * error[t];
    }
    const Real sums = kUnit * static_cast<Real>(sum_error(static_cast<int64_t>(z.size())));
    for (size_t t = 0; t < z.size(); ++t) {
      const Real off = a[t].value * (std::expm1(error[t] + shared) + sums) + 0x1p-126;
      a[t].error = std::min<Real>(off, 1);
    }
    return a;
  }

  const AttentionScoresCase& c_;
  const AttentionScoresInputs& in_;
  int64_t prompt_, kv_head_;
  std::vector<Real> keys_;
};

// What pooling makes of column j.
Score pooled(const AttentionScoresCase& c, const std::vector<Score>& columns, int64_t j) {
  if (c.pool == EXN_POOL_NONE) return columns[at(j)];
  const int64_t first = std::max<int64_t>(0, j - c.pool_width / 2);
  const int64_t end = std::min(static_cast<int64_t>(columns.size()), j + c.pool_width / 2 + 1);
  Score s;
  if (c.pool == EXN_POOL_MAX) s.value = -kInf;
  for (int64_t i = first; i < end; ++i) {
    const Score& one = columns[at(i)];
    if (c.pool == EXN_POOL_AVG) {
      s.add(one);
      continue;
    }
    if (std::isnan(one.value) || one.value > s.value) s.value = one.value;
    if (std::isnan(s.value)) return s;
    s.error = std::max(s.error, one.error);
  }
  if (c.pool == EXN_POOL_MAX) return s;
  const Real width = static_cast<Real>(c.pool_width);
  s.error += kUnit * static_cast<Real>(sum_error(end - first)) * s.magnitude;
  return {s.value / width, s.error / width, s.magnitude / width};
}

// A row of the scores from the sums over rows and heads.
void finish(const AttentionScoresCase& c, const AttentionScoresInputs& in, int64_t score_row,
            int64_t heads, std::vector<Score> columns, std::vector<Expected>* out) {
  const int64_t terms = heads * c.window;
  for (Score& s : columns) {
    if (!std::isfinite(s.value)) continue;  // an infinity is exact
    s.error += kUnit * static_cast<Real>(terms == 1 ? 1 : sum_error(terms)) * s.magnitude;
    if (c.reduction != EXN_HEADS_MEAN) continue;
    const Real all = static_cast<Real>(c.query_heads);
    s = {s.value / all, s.error / all + kUnit * s.magnitude / all, s.magnitude / all};
  }
  for (int64_t j = 0; j < c.columns; ++j) {
    const bool scored = j < static_cast<int64_t>(columns.size());
    const Real before =
        c.accumulate ? static_cast<Real>(in.scores.at(0, score_row * c.columns + j)) : 0;
    if (!scored) {
      out->push_back({static_cast<double>(c.accumulate ? before : -kInf), 0});
      continue;
    }
    const Score s = pooled(c, columns, j);
    const Real value = s.value + before;
    const Real error = s.error + 2 * kUnit * std::fabs(value);
    const bool known = c.exact || !std::isfinite(value);
    const double bound = known ? 0 : static_cast<double>(error) + smallest(Type::kF32);
    out->push_back({static_cast<double>(value), bound});
  }
}

}  // namespace

AttentionScoresExpected attention_scores_oracle(const AttentionScoresCase& c,
                                                const AttentionScoresInputs& in) {
  AttentionScoresExpected e;
  const int64_t group = c.query_heads / c.cache.heads;
  const int64_t heads = c.query_heads / c.score_heads();  // that meet in one row
  for (int64_t s = 0; s < c.prompts(); ++s) {
    const int64_t seen = PromptHead::most_visible(c, in, s) - c.first;
    const int64_t scored =
        std::clamp<int64_t>(std::min(seen, id_or(in.limit, s, c.columns)), 0, c.columns);
    e.scored.push_back(scored);
    std::vector<std::vector<Score>> sums(at(c.score_heads()), std::vector<Score>(at(scored)));
    for (int64_t kv_head = 0; kv_head < c.cache.heads; ++kv_head) {
      const PromptHead keys(c, in, s, kv_head);
      for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h)
        keys.add(h, scored, &sums[at(h / heads)]);
    }
    for (int64_t b = 0; b < c.score_heads(); ++b)
      finish(c, in, s * c.score_heads() + b, heads, std::move(sums[at(b)]), &e.scores);
  }
  return e;
}

SelectExpected selection_oracle(const AttentionScoresCase& c, const AttentionScoresInputs& in,
                                const AttentionScoresExpected& expected, const HostTensor& scores) {
  SelectExpected e;
  std::vector<double> row(at(c.columns));
  for (int64_t r = 0; r < c.score_rows(); ++r) {
    for (int64_t j = 0; j < c.columns; ++j) row[at(j)] = scores.at(0, r * c.columns + j);
    e.add(choose(row, expected.scored[at(r / c.score_heads())], c.selection, in.selection, r),
          c.selection.capacity);
  }
  return e;
}

// ---- the case -----------------------------------------------------------------------------------

namespace {

constexpr unsigned char kUntouched = 0xCD;

HostTensor untouched(HostTensor tensor) {
  std::fill(tensor.bytes.begin(), tensor.bytes.end(), kUntouched);
  return tensor;
}

std::unique_ptr<Instance> instantiate(const AttentionScoresCase& c, const AttentionScoresInputs& in,
                                      int32_t device_type) {
  auto instance = std::make_unique<Instance>(device_type);
  exn_attention_scores_params params = {};
  params.struct_size = sizeof params;
  params.query = instance->input(in.query);
  params.keys = input_cache(instance.get(), c.cache, in.cache);
  params.sequence = instance->input(in.sequence);
  params.visible = instance->input(in.visible);
  params.limit = instance->input(in.limit);
  if (c.scores)
    params.scores = instance->in_out("scores", c.accumulate ? in.scores : untouched(in.scores));
  if (c.selects)
    params.selection = add_selection(instance.get(), c.selection, in.selection, c.score_rows());
  params.columns = c.columns;
  params.first = c.first;
  params.window = c.window;
  params.scale = c.scale;
  params.kind = c.kind;
  params.reduction = c.reduction;
  params.pool = c.pool;
  params.pool_width = c.pool_width;
  params.accumulate = c.accumulate ? 1 : 0;
  instance->call(EXN_TEST_OP(attention_scores), params);
  return instance;
}

// A list that was made from scores that are not handed out: a column near the cut may go either
// way.
Complaint judge_unseen(const AttentionScoresCase& c, const AttentionScoresInputs& in,
                       const AttentionScoresExpected& expected, const Outputs& got) {
  const HostTensor& indices = got[0];
  const SelectionSpec& s = c.selection;
  const HostTensor* const valid = asked(s, kSelectValid) ? &got.back() : nullptr;
  for (int64_t r = 0; r < c.score_rows(); ++r) {
    Choice choice;
    for (int64_t i = 0; i < s.capacity; ++i) {
      const int64_t column = indices.integer_at(r * s.capacity + i);
      if (column >= 0) choice.kept.push_back(column);
    }
    choice.valid = valid == nullptr || valid->integer_at(r) != 0;
    const auto begin = expected.scores.begin() + r * c.columns;
    const std::vector<Expected> scores(begin, begin + c.columns);
    const int64_t limit = expected.scored[static_cast<size_t>(r / c.score_heads())];
    const std::string where = "indices row " + text(r);
    if (!std::is_sorted(choice.kept.begin(), choice.kept.end())) return where + ": not ascending";
    if (valid == nullptr) {  // a row with a NaN says so in no other way
      std::vector<double> values;
      for (const Expected& e : scores) values.push_back(e.value);
      choice.valid = choose(values, limit, s, in.selection, r).valid;
    }
    if (!judge_choice(scores, limit, s, in.selection, r, choice).permitted)
      return where + ": the scores permit no such choice";
    if (asked(s, kSelectCount) &&
        got[1].integer_at(r) != static_cast<int64_t>(choice.kept.size())) {
      return "count[" + text(r) + "]: not what the list holds";
    }
  }
  return "";
}

Complaint judge(const AttentionScoresCase& c, const AttentionScoresInputs& in,
                const AttentionScoresExpected& expected, const Outputs& got) {
  if (!c.scores) return judge_unseen(c, in, expected, got);
  const Complaint complaint = compare("scores", expected.scores, got[0]);
  if (!complaint.empty() || !c.selects) return complaint;
  return judge_selection(c.selection, selection_oracle(c, in, expected, got[0]), got, 1);
}

// Slots that some row of the prompt sees, of all prompts.
int64_t slots_read(const AttentionScoresCase& c, const AttentionScoresInputs& in) {
  int64_t slots = 0;
  for (int64_t prompt = 0; prompt < c.prompts(); ++prompt) {
    int64_t most = 0;
    for (int64_t i = 0; i < c.window; ++i)
      most = std::max(most, in.visible.integer_at(prompt * c.window + i));
    slots += most;
  }
  return slots;
}

Case make_case(const AttentionScoresCase& c) {
  Case result;
  const auto in = lazily([c] { return make_inputs(c); });
  result.instantiate = [c, in](int32_t device_type) { return instantiate(c, in(), device_type); };
  const auto oracle = lazily([c, in] { return attention_scores_oracle(c, in()); });
  result.judge = [c, in, oracle](const Outputs& got) { return judge(c, in(), oracle(), got); };
  const int64_t passes = (c.window + 63) / 64;
  const int64_t scores = c.scores ? c.score_rows() * c.columns : 0;
  result.compulsory_bytes =
      bytes_of(passes * slots_read(c, in()) * c.cache.columns(), c.cache.type) +
      bytes_of(c.query.rows * c.query.cols, c.query.type) +
      bytes_of(c.accumulate ? 2 * scores : scores, Type::kF32) +
      (c.selects ? selection_bytes(c.selection, c.score_rows()) : 0);
  const char* const reductions[] = {"each", "sum", "mean", "group"};
  const char* const pools[] = {"none", "avg", "max"};
  result.description = {{"prompts", text(c.prompts())},
                        {"window", text(c.window)},
                        {"heads", text(c.query_heads)},
                        {"kv_heads", text(c.cache.heads)},
                        {"head_dim", text(c.cache.dim)},
                        {"slots", text(c.cache.slots)},
                        {"columns", text(c.columns)},
                        {"first", text(c.first)},
                        {"dtype", quoted(name_of(c.cache.type))},
                        {"layout", layout_name(c.cache)},
                        {"softmax", text(c.kind == EXN_SCORE_SOFTMAX)},
                        {"reduction", quoted(reductions[c.reduction])},
                        {"pool", quoted(pools[c.pool])},
                        {"pool_width", text(c.pool_width)},
                        {"scores", text(c.scores)},
                        {"k", text(c.selects ? kept_by(c.selection) : 0)}};
  return result;
}

// With visible slots and limits beyond what there is, or within it where `clamped`.
AttentionScoresInputs with_strays(const AttentionScoresCase& c, AttentionScoresInputs in,
                                  bool clamped) {
  const int64_t t = c.cache.slots, n = c.columns;
  in.visible = with_strays(in.visible, clamped ? 0 : -2, clamped ? t : t + 3);
  in.limit = with_strays(in.limit, clamped ? 0 : -2, clamped ? n : n + 3);
  if (!clamped) in.sequence = with_strays(in.sequence, -2, c.cache.sequences);
  return in;
}

// A prompt whose sequence does not exist has NaN scores.
Case spoiled_case(const AttentionScoresCase& c) {
  Case result = make_case(c);
  result.instantiate = [c](int32_t device_type) {
    return instantiate(c, with_strays(c, make_inputs(c), false), device_type);
  };
  const auto oracle = lazily([c] {
    const AttentionScoresInputs in = with_strays(c, make_inputs(c), true);
    AttentionScoresExpected expected = attention_scores_oracle(c, in);
    for (int64_t r = 0; in.sequence.given() && r < c.score_rows(); ++r) {
      const int64_t prompt = r / c.score_heads();
      if (!is_spoiled(prompt)) continue;
      for (int64_t j = 0; j < expected.scored[static_cast<size_t>(prompt)]; ++j)
        expected.scores[static_cast<size_t>(r * c.columns + j)] = {NAN, 0};
    }
    return expected;
  });
  result.judge = [c, oracle](const Outputs& got) {
    return judge(c, with_strays(c, make_inputs(c), true), oracle(), got);
  };
  return result;
}

void describe(Maker& m, exn_attention_scores_params& p) {
  constexpr CacheNames kNames = CACHE_NAMES("keys");
  const CacheShape c = cache_shape(m, kNames);
  const int64_t prompts = m.within("prompts", 0, c.sequences.size);
  const Dim window = m.dim("window", 1, 3, 20),
            heads = m.derived(times(c.heads.size, m.within("group", 1, 3)));
  const Dim prompt = m.derived(prompts), rows = m.fixed(times(prompts, window.size));
  m.in(FIELD(query), m.type(kFloats), {rows, heads, c.dim}, kRows);
  cache(m, p.keys, kNames, c, Role::kIn, kOptional);
  m.ids(FIELD(sequence), {prompt}, {0, c.sequences.size - 1, false}, kOptional);
  m.ids(FIELD(visible), {rows}, {0, c.slots, true});
  const Dim columns = m.derived(m.within("columns", 0, c.slots));
  m.integer(FIELD(columns), columns.size, 0, c.slots);
  m.integer(FIELD(first), m.within("first", 0, c.slots - columns.size), 0, c.slots - columns.size);
  m.ids(FIELD(limit), {prompt}, {0, columns.size, true}, kOptional);
  m.integer(FIELD(window), window.size, 1, INT64_MAX);
  m.real(FIELD(scale), Domain::kPositive);
  m.choice(FIELD(kind), EXN_SCORE_RAW, EXN_SCORE_SOFTMAX);
  const int32_t reduction = m.choice(FIELD(reduction), EXN_HEADS_EACH, EXN_HEADS_GROUP_SUM);
  const Dim lists = reduction == EXN_HEADS_EACH        ? heads
                    : reduction == EXN_HEADS_GROUP_SUM ? c.heads
                                                       : m.fixed(1);
  const bool accumulates = m.some("accumulates", 4);
  const int32_t pool = accumulates ? EXN_POOL_NONE : m.one_of("pool", EXN_POOL_NONE, EXN_POOL_MAX);
  m.integer(FIELD(pool), pool, EXN_POOL_NONE, accumulates ? EXN_POOL_NONE : EXN_POOL_MAX);
  m.integer(FIELD(pool_width), pool == EXN_POOL_NONE ? 0 : m.random().pick({1, 3, 5, 255}),
            pool == EXN_POOL_NONE ? 0 : 1, pool == EXN_POOL_NONE ? 0 : 255);
  m.integer(FIELD(accumulate), accumulates ? 1 : 0, 0, 1);
  const bool selects = m.some("selects", 2);
  const unsigned scores = selects && !accumulates ? kOptional : kPlain;
  accumulates ? m.in_out(FIELD(scores), kF32, {prompt, lists, columns})
              : m.out(FIELD(scores), kF32, {prompt, lists, columns}, scores);
  if (selects) {
    const SelectionShape shape{m.fixed(times(prompts, lists.size)), columns.size};
    return selection(m, p.selection, shape, kOptional | kWanted);
  }
  p.selection.indices = nullptr;
  m.none(FIELD(selection.count));
  m.none(FIELD(selection.valid));
  m.none(FIELD(selection.budget));
  m.none(FIELD(selection.segments));
  m.none(FIELD(selection.keep));
  m.none(FIELD(selection.drop));
  m.any_integer(FIELD(selection.k), 0);
}

const Described kDescribed = EXN_DESCRIBED(attention_scores);

const RegisteredOp kRegistered("attention_scores", [] {
  const std::vector<AttentionScoresCase> cases = attention_scores_cases();
  std::vector<ListedCase> all = listed("attention_scores", cases, make_case);
  append_spoiled(&all, "attention_scores", cases, spoiled_case);
  return all;
});

}  // namespace

}  // namespace attention_scores_op
}  // namespace exn::test
