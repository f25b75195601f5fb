// SPDX-License-Identifier: Apache-2.0
// Recorded outputs of methods that drop tokens (tests/golden/README.md), and what attention_scores
// and select make of their inputs.
//
// Where the official selection is cut within kClear of a tie it is not compared, but our own choice
// is then still what the scores that we hand out ask for, which the suite of attention_scores sees to.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "attention_scores/case.h"
#include "golden.h"
#include "json.h"
#include "safetensors.h"
#include "selection_fixture.h"

namespace exn::test {

const Op<exn_attention_scores_params> kScore = {"attention_scores", exn_attention_scores_supported,
                                                exn_attention_scores_workspace_size,
                                                exn_attention_scores};
const Op<exn_select_params> kSelect = {"select", exn_select_supported, exn_select_workspace_size,
                                       exn_select};

#define EXN_READ(cases, tensors, method)                                \
  const std::string path = golden_path("official/" method);             \
  const Json cases = Json::read(path + ".json");                        \
  const Safetensors tensors = Safetensors::read(path + ".safetensors"); \
  ASSERT_FALSE(cases.null() || tensors.empty()) << path << " is missing or empty"

constexpr double kClear = 1e-5;

inline int64_t number(const Json& c, const char* key) { return c.integer(key); }

// Storage that the ops take: f64 becomes f32.
inline Type storage(Type t) { return t == Type::kF64 ? Type::kF32 : t; }

// Tolerance of scores relative to their largest, by the type that the official code ran in.
inline double tolerance(Type t) { return t == Type::kBF16 ? 1e-2 : t == Type::kF16 ? 2e-3 : 1e-5; }

inline std::vector<double> values(const HostTensor& t) {
  std::vector<double> all;
  for (int64_t r = 0; r < t.rows; ++r) {
    for (int64_t c = 0; c < t.cols; ++c) all.push_back(t.at(r, c));
  }
  return all;
}

inline std::vector<int64_t> whole_numbers(const HostTensor& t) {
  std::vector<int64_t> all;
  for (int64_t i = 0; i < t.size(); ++i) all.push_back(t.integer_at(i));
  return all;
}

inline HostTensor packed(Type type, std::vector<int64_t> shape, const std::vector<double>& v) {
  HostTensor t = make_tensor(type, std::move(shape));
  for (size_t i = 0; i < v.size(); ++i)
    t.set(static_cast<int64_t>(i) / t.cols, static_cast<int64_t>(i) % t.cols, v[i]);
  return t;
}

// A call of attention_scores over one or more prompts, in head-major order.
struct Call {
  int64_t prompts = 1, window = 1, heads = 1, kv_heads = 1, slots = 0, dim = 1;
  Type type = Type::kF32;
  int32_t layout = EXN_KV_HEAD_MAJOR;
  std::vector<double> query;  // [prompts * window, heads, dim]
  std::vector<double> keys;   // [prompts, kv_heads, slots, dim], or as the layout says
  std::vector<int32_t> visible, limit;
  int64_t columns = 0, first = 0;
  int32_t kind = EXN_SCORE_SOFTMAX, reduction = EXN_HEADS_MEAN, pool = EXN_POOL_NONE, width = 0;
  float scale = 1;
  bool selects = false;
  SelectionSpec selection;
  SelectionInputs ranges;
  std::vector<double> before;  // accumulate

  int64_t rows() const {
    if (reduction == EXN_HEADS_EACH) return prompts * heads;
    return reduction == EXN_HEADS_GROUP_SUM ? prompts * kv_heads : prompts;
  }
};

struct Result {
  std::vector<double> scores;
  std::vector<std::vector<int64_t>> kept;  // of each row
};

inline Result run(const Target& target, const Call& c) {
  AttentionScoresCase shape;
  shape.reduction = c.reduction;
  shape.query_heads = c.heads;
  shape.cache.heads = c.kv_heads;
  std::vector<int64_t> k_shape = {c.prompts, c.kv_heads, c.slots, c.dim};
  if (c.layout == EXN_KV_TOKEN_MAJOR) std::swap(k_shape[1], k_shape[2]);
  Placed query(target, packed(c.type, {c.prompts * c.window, c.heads, c.dim}, c.query));
  Placed keys(target, packed(c.type, k_shape, c.keys));
  Placed visible(target, make_integers(widened(c.visible)));
  Placed limit(target, c.limit.empty() ? HostTensor{} : make_integers(widened(c.limit)));
  const std::vector<int64_t> out = {c.prompts, shape.score_heads(), c.columns};
  Placed scores(target,
                c.before.empty() ? poisoned(Type::kF32, out) : packed(Type::kF32, out, c.before));
  PlacedSelection selection(target, c.selection, c.ranges, c.rows());
  exn_attention_scores_params p = {};
  p.struct_size = sizeof p;
  p.query = query.dl();
  p.keys = {keys.dl(), nullptr, nullptr, c.layout, 0};
  p.visible = visible.dl();
  p.limit = limit.dl();
  p.scores = scores.dl();
  if (c.selects) p.selection = selection.dl();
  p.columns = c.columns;
  p.first = c.first;
  p.window = c.window;
  p.scale = c.scale;
  p.kind = c.kind;
  p.reduction = c.reduction;
  p.pool = c.pool;
  p.pool_width = c.width;
  p.accumulate = c.before.empty() ? 0 : 1;
  EXPECT_EQ(run_once(target, kScore, p), EXN_OK) << exn_last_error();
  Result r;
  r.scores = values(scores.read());
  for (int64_t row = 0; c.selects && row < c.rows(); ++row)
    r.kept.push_back(selection.choice(row).kept);
  return r;
}

// Compares `count` scores from `begin` on.
inline void expect_scores(const std::vector<double>& expected, const std::vector<double>& got,
                          size_t begin, double relative) {
  double largest = 1e-3;
  for (double v : expected) largest = std::max(largest, std::fabs(v));
  ASSERT_LE(begin + expected.size(), got.size());
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(got[begin + i], expected[i], relative * largest) << "score " << i;
}

struct Tally {
  int64_t cases = 0, rows = 0, cut_on_ties = 0;
  ~Tally() {
    std::printf("%lld cases, %lld selections, %lld of them cut on a tie and not compared\n",
                static_cast<long long>(cases), static_cast<long long>(rows),
                static_cast<long long>(cut_on_ties));
  }
  // `gap` of a row: whether its choice is to be compared.
  bool clear(double gap, Type type) {
    ++rows;
    const double least = type == Type::kF64 || type == Type::kF32 ? kClear : tolerance(type);
    if (gap > least) return true;
    ++cut_on_ties;
    return false;
  }
};

// Where two selections are cut: the k-th score minus the next, relative to the largest.
inline double gap_of(std::vector<double> scores, size_t k) {
  if (k == 0 || k >= scores.size()) return 1;
  double largest = 0;
  for (double v : scores) largest = std::max(largest, std::fabs(v));
  std::sort(scores.rbegin(), scores.rend());
  return largest == 0 ? 0 : (scores[k - 1] - scores[k]) / largest;
}

// Calls f for every recorded case on every target, with one tally for each target.
template <class F>
void for_cases(const Json& file, F&& f) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    Tally tally;
    ASSERT_FALSE(file.at("cases").members().empty());
    for (const auto& [id, c] : file.at("cases").members()) {
      SCOPED_TRACE(id);
      f(target, id + "/", c, tally);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

inline std::vector<double> part(const std::vector<double>& v, int64_t begin, int64_t count) {
  return {v.begin() + begin, v.begin() + begin + count};
}

// Ranges of columns: for all rows, or `of_row` of them for each.
inline HostTensor ranges(const std::vector<int64_t>& ends, int64_t of_row = 0) {
  const int64_t count = static_cast<int64_t>(ends.size()) / 2;
  HostTensor t =
      make_tensor(Type::kI32, of_row == 0 ? std::vector<int64_t>{count, 2}
                                          : std::vector<int64_t>{count / of_row, of_row, 2});
  for (size_t i = 0; i < ends.size(); ++i) t.set_integer(static_cast<int64_t>(i), ends[i]);
  return t;
}

inline float root_scale(int64_t dim) { return 1.0f / std::sqrt(static_cast<float>(dim)); }

// [A,B,C] to [B,A,C].
inline std::vector<double> swapped(const std::vector<double>& v, int64_t a, int64_t b, int64_t c) {
  std::vector<double> out;
  for (int64_t j = 0; j < b; ++j) {
    for (int64_t i = 0; i < a; ++i) {
      const std::vector<double> run = part(v, (i * b + j) * c, c);
      out.insert(out.end(), run.begin(), run.end());
    }
  }
  return out;
}

// The recorded scores, in double where the official code ran in a narrow type.
inline HostTensor scores_of(const Safetensors& file, const std::string& name) {
  return file.tensor(file.has(name + "_f64") ? name + "_f64" : name);
}

// Entries of a list until the filler; `valid` marks them where filler has no sign of its own.
inline std::vector<int64_t> listed(const std::vector<int64_t>& all, int64_t begin, int64_t count,
                                   const std::vector<int64_t>& valid = {}) {
  std::vector<int64_t> list;
  for (int64_t i = begin; i < begin + count; ++i) {
    const size_t at = static_cast<size_t>(i);
    if (all[at] >= 0 && (valid.empty() || valid[at] != 0)) list.push_back(all[at]);
  }
  return list;
}

// What select makes of one row of recorded scores.
inline std::vector<int64_t> select_row(const Target& target, const std::vector<double>& scores,
                                       int64_t k, int64_t limit, const HostTensor& keep) {
  SelectionSpec s;
  s.k = k;
  s.capacity = static_cast<int64_t>(scores.size());
  SelectionInputs in;
  in.keep = keep;
  Placed row(target, packed(Type::kF32, {1, s.capacity}, scores));
  Placed limits(target, make_integers({static_cast<int32_t>(limit)}));
  PlacedSelection placed(target, s, in, 1);
  const exn_select_params p = {sizeof p, row.dl(), limits.dl(), placed.dl(), 0};
  EXPECT_EQ(run_once(target, kSelect, p), EXN_OK) << exn_last_error();
  return placed.choice(0).kept;
}

}  // namespace exn::test
