// SPDX-License-Identifier: Apache-2.0
#include "reals.h"
#include "selection.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cache.h"

namespace exn::test {

namespace {

// Streams that both ops use alike.
constexpr uint64_t kLimitStream = 9, kBudgetStream = 10, kKeepStream = 11, kDropStream = 13;

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
                                           : number_in("budget", s.budget));
  }
  return t;
}

// "a:b,c:d" for all rows, or "each:M": M ranges of up to 16 columns for each row.
HostTensor make_ranges(const std::string& column, const std::string& text, int64_t rows,
                       int64_t columns, uint64_t seed, uint64_t stream) {
  if (text == "-") return {};
  if (text.rfind("each:", 0) == 0) {
    const int64_t ranges = number_in(column, text.substr(5));
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
    ends.push_back(number_in(column, text.substr(at, colon - at)));
    ends.push_back(number_in(column, text.substr(colon + 1, comma - colon - 1)));
    at = comma + 1;
  }
  HostTensor t = make_tensor(Type::kI32, {static_cast<int64_t>(ends.size()) / 2, 2});
  for (size_t i = 0; i < ends.size(); ++i) t.set_integer(static_cast<int64_t>(i), ends[i]);
  return t;
}

}  // namespace

HostTensor make_limits(const std::string& kind, int64_t rows, int64_t columns, uint64_t seed) {
  if (kind == "-") return {};
  HostTensor t = make_tensor(Type::kI32, {rows});
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t random = pick(seed, kLimitStream, r, columns + 1);
    t.set_integer(r, kind == "random"  ? random
                     : kind == "mixed" ? (r % 3 == 0   ? 0
                                          : r % 3 == 1 ? columns
                                                       : random)
                                       : number_in("limit", kind));
  }
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

// ---- the oracle ---------------------------------------------------------------------------------

namespace {

enum class Part { kOut, kKept, kCandidate };

// Sets the columns of a tensor of ranges: [M,2], or the M of `row` of [R,M,2].
void mark(const HostTensor& ranges, int64_t row, Part part, std::vector<Part>* parts) {
  if (!ranges.given()) return;
  const bool per_row = ranges.shape.size() == 3;
  const int64_t count = ranges.shape[ranges.shape.size() - 2];
  const int64_t first = per_row ? row * count : 0;
  for (int64_t m = first; m < first + count; ++m) {
    for (int64_t j = ranges.integer_at(2 * m); j < ranges.integer_at(2 * m + 1); ++j)
      (*parts)[at(j)] = part;
  }
}

// A row's segments: begin, end and budget.
struct Segment {
  int64_t begin, end, budget;
};

std::vector<Segment> segments_of(int64_t columns, const SelectionSpec& s, const SelectionInputs& in,
                                 int64_t row) {
  std::vector<Segment> segments;
  for (int64_t g = 0; g < s.segment_count(); ++g) {
    segments.push_back({in.segments.given() ? in.segments.integer_at(g) : 0,
                        in.segments.given() ? in.segments.integer_at(g + 1) : columns,
                        id_or(in.budget, row * s.segment_count() + g, s.k)});
  }
  return segments;
}

std::vector<Part> parts_of(int64_t columns, int64_t limit, const std::vector<Segment>& segments,
                           const SelectionInputs& in, int64_t row) {
  std::vector<Part> parts(at(columns), Part::kOut);
  for (const Segment& g : segments) {
    for (int64_t j = g.begin; j < std::min(g.end, limit); ++j) parts[at(j)] = Part::kCandidate;
  }
  mark(in.drop, row, Part::kOut, &parts);
  mark(in.keep, row, Part::kKept, &parts);
  return parts;
}

// The candidates of a segment, ascending.
std::vector<int64_t> candidates_of(const std::vector<Part>& parts, const Segment& g) {
  std::vector<int64_t> list;
  for (int64_t j = g.begin; j < g.end; ++j) {
    if (parts[at(j)] == Part::kCandidate) list.push_back(j);
  }
  return list;
}

Choice everything(const std::vector<Part>& parts, int64_t limit) {
  Choice c;
  c.valid = false;
  for (int64_t j = 0; j < static_cast<int64_t>(parts.size()); ++j) {
    if (j < limit || parts[at(j)] == Part::kKept) c.kept.push_back(j);
  }
  return c;
}

}  // namespace

Choice choose(const std::vector<double>& scores, int64_t limit, const SelectionSpec& s,
              const SelectionInputs& in, int64_t row) {
  const int64_t columns = static_cast<int64_t>(scores.size());
  const std::vector<Segment> segments = segments_of(columns, s, in, row);
  const std::vector<Part> parts = parts_of(columns, limit, segments, in, row);
  Choice c;
  for (int64_t j = 0; j < columns; ++j) {
    if (parts[at(j)] == Part::kCandidate && std::isnan(scores[at(j)]))
      return everything(parts, limit);
    if (parts[at(j)] == Part::kKept) c.kept.push_back(j);
  }
  for (const Segment& g : segments) {
    std::vector<int64_t> order = candidates_of(parts, g);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return scores[at(a)] > scores[at(b)]; });
    order.resize(std::min(order.size(), at(g.budget)));
    c.kept.insert(c.kept.end(), order.begin(), order.end());
  }
  std::sort(c.kept.begin(), c.kept.end());
  return c;
}

void SelectExpected::add(const Choice& choice, int64_t capacity) {
  for (int64_t i = 0; i < capacity; ++i) {
    const bool listed = at(i) < choice.kept.size();
    indices.push_back(listed ? static_cast<int32_t>(choice.kept[at(i)]) : -1);
  }
  count.push_back(static_cast<int32_t>(choice.kept.size()));
  valid.push_back(choice.valid ? 1 : 0);
}

ChoiceVerdict judge_choice(const std::vector<Expected>& scores, int64_t limit,
                           const SelectionSpec& s, const SelectionInputs& in, int64_t row,
                           const Choice& got) {
  const int64_t columns = static_cast<int64_t>(scores.size());
  std::vector<double> values;
  for (const Expected& e : scores) values.push_back(e.value);
  const Choice exact = choose(values, limit, s, in, row);
  if (got.valid != exact.valid || got.kept.size() != exact.kept.size()) return {};
  if (got.kept == exact.kept) return {true, 0};
  if (!exact.valid) return {};
  const std::vector<Segment> segments = segments_of(columns, s, in, row);
  const std::vector<Part> parts = parts_of(columns, limit, segments, in, row);
  std::vector<bool> has(at(columns), false);
  for (int64_t j : got.kept) has[at(j)] = true;
  for (int64_t j = 0; j < columns; ++j) {
    if (has[at(j)] ? parts[at(j)] == Part::kOut : parts[at(j)] == Part::kKept) return {};
  }
  for (const Segment& g : segments) {
    double lowest_taken = std::numeric_limits<double>::infinity(), highest_left = -lowest_taken;
    int64_t taken = 0, all = 0;
    for (int64_t j : candidates_of(parts, g)) {
      const Expected& e = scores[at(j)];
      ++all;
      if (has[at(j)]) {
        ++taken;
        lowest_taken = std::min(lowest_taken, e.value + e.bound);
      } else {
        highest_left = std::max(highest_left, e.value - e.bound);
      }
    }
    if (taken != std::min(all, g.budget) || lowest_taken < highest_left) return {};
  }
  ChoiceVerdict v = {true, 0};
  for (int64_t j : got.kept)
    v.hits += std::binary_search(exact.kept.begin(), exact.kept.end(), j) ? 0 : 1;
  return v;
}

// ---- on a device --------------------------------------------------------------------------------

bool asked(const SelectionSpec& s, SelectOutput output) { return (s.outputs >> output & 1) != 0; }

exn_selection add_selection(Instance* instance, const SelectionSpec& s, const SelectionInputs& in,
                            int64_t rows) {
  exn_selection selection = {};
  selection.indices = instance->output("indices", Type::kI32, {rows, s.capacity});
  if (asked(s, kSelectCount)) selection.count = instance->output("count", Type::kI32, {rows});
  if (asked(s, kSelectValid)) selection.valid = instance->output("valid", Type::kU8, {rows});
  selection.budget = instance->input(in.budget);
  selection.segments = instance->input(in.segments);
  selection.keep = instance->input(in.keep);
  selection.drop = instance->input(in.drop);
  selection.k = s.k;
  return selection;
}

Complaint judge_selection(const SelectionSpec& s, const SelectExpected& expected,
                          const Outputs& got, size_t next) {
  Complaint complaint = compare_integers("indices", widened(expected.indices), got[next++]);
  if (complaint.empty() && asked(s, kSelectCount))
    complaint = compare_integers("count", widened(expected.count), got[next++]);
  if (complaint.empty() && asked(s, kSelectValid))
    complaint = compare_integers("valid", widened(expected.valid), got[next]);
  return complaint;
}

double selection_bytes(const SelectionSpec& s, int64_t rows) {
  const int64_t bytes =
      4 * s.capacity + (asked(s, kSelectCount) ? 4 : 0) + (asked(s, kSelectValid) ? 1 : 0);
  return static_cast<double>(rows * bytes);
}

int64_t kept_by(const SelectionSpec& s) {
  const bool number =
      !s.budget.empty() && s.budget.find_first_not_of("0123456789") == std::string::npos;
  return number ? std::stoll(s.budget) : s.k;
}

}  // namespace exn::test
