// SPDX-License-Identifier: Apache-2.0
#include "case_table_scores.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <stdexcept>

#include "table.h"

namespace exn::test {

namespace {

// Streams that both ops use alike.
constexpr uint64_t kLimitStream = 9, kBudgetStream = 10, kKeepStream = 11, kDropStream = 13;

int64_t number(const std::string& column, const std::string& text) {
  char* end = nullptr;
  const int64_t value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0') fail(column + ": unknown word '" + text + "'");
  return value;
}

// "-": not given.
HostTensor make_limits(const std::string& kind, int64_t rows, int64_t columns, uint64_t seed) {
  if (kind == "-") return {};
  HostTensor t = make_tensor(Type::kI32, {rows});
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t random = pick(seed, kLimitStream, r, columns + 1);
    t.set_integer(r, kind == "random"  ? random
                     : kind == "mixed" ? (r % 3 == 0 ? 0 : r % 3 == 1 ? columns : random)
                                       : number("limit", kind));
  }
  return t;
}

HostTensor make_budgets(const SelectionSpec& s, int64_t rows, int64_t columns, uint64_t seed) {
  if (s.budget == "-") return {};
  const int64_t count = s.segment_count();
  HostTensor t = make_tensor(Type::kI32, s.segments.empty() ? std::vector<int64_t>{rows}
                                                            : std::vector<int64_t>{rows, count});
  // Compact whatever its rank: budgets are set one after another.
  for (int64_t i = 0; i < rows * count; ++i) {
    const int64_t random = pick(seed, kBudgetStream, i, columns + 2);
    const int64_t mixed = i % 4 == 0 ? random : i % 4 == 1 ? 0 : i % 4 == 2 ? 1 : columns;
    t.set_integer(i, s.budget == "random"  ? random
                     : s.budget == "mixed" ? mixed
                                           : number("budget", s.budget));
  }
  return t;
}

// "a:b,c:d" for all rows, or "each:M": M ranges of up to 16 columns for each row.
HostTensor make_ranges(const std::string& column, const std::string& text, int64_t rows,
                       int64_t columns, uint64_t seed, uint64_t stream) {
  if (text == "-") return {};
  if (text.rfind("each:", 0) == 0) {
    const int64_t ranges = number(column, text.substr(5));
    HostTensor t = make_tensor(Type::kI32, {rows, ranges, 2});
    for (int64_t i = 0; i < rows * ranges; ++i) {
      const int64_t begin = pick(seed, stream, i, columns + 1);
      const int64_t most = std::min<int64_t>(columns - begin, 16);
      t.set_integer(2 * i, begin);
      t.set_integer(2 * i + 1, begin + pick(seed, stream + 1, i, most + 1));
    }
    return t;
  }
  std::vector<int64_t> ends;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const size_t colon = text.find(':', at);
    if (colon == std::string::npos || colon >= comma) fail(column + ": '" + text + "' has no ':'");
    ends.push_back(number(column, text.substr(at, colon - at)));
    ends.push_back(number(column, text.substr(colon + 1, comma - colon - 1)));
    at = comma + 1;
  }
  HostTensor t = make_tensor(Type::kI32, {static_cast<int64_t>(ends.size()) / 2, 2});
  for (size_t i = 0; i < ends.size(); ++i) t.set_integer(static_cast<int64_t>(i), ends[i]);
  return t;
}

SelectionSpec read_selection(const Row& row) {
  SelectionSpec s;
  s.capacity = row.integer("capacity");
  s.k = row.integer("k");
  s.budget = row.text("budget");
  if (row.text("segments") != "-") s.segments = read_list(row.text("segments"), ',');
  s.keep = row.text("keep");
  s.drop = row.text("drop");
  s.outputs = row.text("outputs") == "-" ? 0 : row.subset("outputs", {"count", "valid"});
  return s;
}

}  // namespace

SelectionInputs make_selection(const SelectionSpec& s, int64_t rows, int64_t columns,
                               uint64_t seed) {
  SelectionInputs in;
  in.budget = make_budgets(s, rows, columns, seed);
  if (!s.segments.empty()) {
    in.segments = make_tensor(Type::kI32, {s.segment_count() + 1});
    for (size_t i = 0; i < s.segments.size(); ++i)
      in.segments.set_integer(static_cast<int64_t>(i), s.segments[i]);
  }
  in.keep = make_ranges("keep", s.keep, rows, columns, seed, kKeepStream);
  in.drop = make_ranges("drop", s.drop, rows, columns, seed, kDropStream);
  return in;
}

// ---- tables -------------------------------------------------------------------------------------

std::vector<SelectCase> select_cases() {
  return read_cases<SelectCase>("select", [](const Row& row, SelectCase* c) {
        c->heads = row.integer("heads");
        c->scores = {row.integer("rows") * c->summed(), row.integer("cols"), row.type("dtype"),
                     row.integer("pad"), row.integer("offset"), row.text("fill"),
                     row.number("scale"), row.text("special")};
        c->limit = row.text("limit");
        c->selection = read_selection(row);
      });
}

std::vector<AttentionScoresCase> attention_scores_cases() {
  return read_cases<AttentionScoresCase>("attention_scores", [](const Row& row, AttentionScoresCase* c) {
        c->cache = read_cache(row, "cache", "cache_offset");
        c->window = row.integer("window");
        c->query_heads = row.integer("query_heads");
        c->query = {row.integer("prompts") * c->window, c->query_heads * c->cache.dim,
                    row.type("query"),                  row.integer("query_pad"),
                    row.integer("query_offset"),        row.text("fill"),
                    row.number("query_scale"),          row.text("special")};
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
      });
}

// ---- inputs -------------------------------------------------------------------------------------

SelectInputs make_inputs(const SelectCase& c) {
  SelectInputs in;
  in.scores = make_matrix(c.scores, c.seed, 0);
  in.limit = make_limits(c.limit, c.rows(), c.scores.cols, c.seed);
  in.selection = make_selection(c.selection, c.rows(), c.scores.cols, c.seed);
  return in;
}

namespace {

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
  return number("visible", c.visible);
}

// "before": the columns before the slot that the first row of a prompt stands on.
HostTensor make_limits(const AttentionScoresCase& c, const HostTensor& visible) {
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

AttentionScoresInputs make_inputs(const AttentionScoresCase& c) {
  AttentionScoresInputs in;
  in.query = make_head_rows(c.query, c.cache.dim, c.seed, 0);
  in.sequence = make_sequences(c.sequence, c.prompts(), c.cache.sequences, c.seed, 4);
  in.visible = make_tensor(Type::kI32, {c.query.rows});
  for (int64_t r = 0; r < c.query.rows; ++r)
    in.visible.set_integer(r, visible_of(c, r / c.window, r % c.window));
  in.limit = make_limits(c, in.visible);
  make_keys(c, &in);
  if (c.cache_special != "-" && c.cache.slots > 0)
    put_special(c.cache, c.seed, c.cache_special, &in.cache);
  if (c.scores && c.accumulate) {
    in.scores = make_bell(Type::kF32, {c.prompts(), c.score_heads(), c.columns}, c.seed, 2, 1);
  } else if (c.scores) {
    in.scores = make_tensor(Type::kF32, {c.prompts(), c.score_heads(), c.columns});
  }
  if (c.selects)
    in.selection = make_selection(c.selection, c.score_rows(), c.columns, c.seed);
  return in;
}

}  // namespace exn::test
