// SPDX-License-Identifier: Apache-2.0
#include "oracle_scores.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "expected.h"

namespace exn::test {

namespace {

// No op of this file stores f64, so double leaves every bound 29 bits of room; oracle_cache.cpp
// says why not long double.
using Real = double;

constexpr Real kInf = std::numeric_limits<Real>::infinity();
constexpr Real kUnit = 0x1p-24;  // of f32, the precision of every sum

size_t at(int64_t i) { return static_cast<size_t>(i); }

// ---- selections ---------------------------------------------------------------------------------

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

std::vector<Segment> segments_of(int64_t columns, const SelectionSpec& s,
                                 const SelectionInputs& in, int64_t row) {
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

SelectExpected select_oracle(const SelectCase& c, const SelectInputs& in) {
  SelectExpected e;
  std::vector<double> scores(at(c.scores.cols));
  for (int64_t r = 0; r < c.rows(); ++r) {
    for (int64_t j = 0; j < c.scores.cols; ++j) {
      scores[at(j)] = in.scores.at(r * c.summed(), j);
      // The sum of two f32 as a double, rounded once more, is what f32 makes of it.
      for (int64_t h = 1; h < c.summed(); ++h)
        scores[at(j)] = static_cast<float>(scores[at(j)] + in.scores.at(r * c.summed() + h, j));
    }
    e.add(choose(scores, id_or(in.limit, r, c.scores.cols), c.selection, in.selection, r),
          c.selection.capacity);
  }
  return e;
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
    double lowest_taken = static_cast<double>(kInf), highest_left = -lowest_taken;
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

// ---- scores -------------------------------------------------------------------------------------

namespace {

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
        keys_.push_back(static_cast<Real>(in.cache.k.at(
            0, cache_index(c.cache, in.cache.block_table, sequence, t, kv_head, i))));
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
  const int64_t end =
      std::min(static_cast<int64_t>(columns.size()), j + c.pool_width / 2 + 1);
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

}  // namespace exn::test
