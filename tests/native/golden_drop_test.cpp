// SPDX-License-Identifier: Apache-2.0
// attention_scores and select against recorded outputs of the official implementations of
// PromptDistill, GemFilter, SnapKV, H2O, FastV, PyramidDrop and HiRED (tests/golden/README.md).
//
// Where the official selection is cut within kClear of a tie it is not compared, but our own choice
// is then still what the scores that we hand out ask for, which the suite of attention_scores sees to.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "attention_scores/case.h"
#include "golden.h"
#include "json.h"
#include "safetensors.h"
#include "selection_fixture.h"

namespace exn::test {
namespace {

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

int64_t number(const Json& c, const char* key) { return c.integer(key); }

// Storage that the ops take: f64 becomes f32.
Type storage(Type t) { return t == Type::kF64 ? Type::kF32 : t; }

// Tolerance of scores relative to their largest, by the type that the official code ran in.
double tolerance(Type t) { return t == Type::kBF16 ? 1e-2 : t == Type::kF16 ? 2e-3 : 1e-5; }

std::vector<double> values(const HostTensor& t) {
  std::vector<double> all;
  for (int64_t r = 0; r < t.rows; ++r) {
    for (int64_t c = 0; c < t.cols; ++c) all.push_back(t.at(r, c));
  }
  return all;
}

std::vector<int64_t> whole_numbers(const HostTensor& t) {
  std::vector<int64_t> all;
  for (int64_t i = 0; i < t.size(); ++i) all.push_back(t.integer_at(i));
  return all;
}

HostTensor packed(Type type, std::vector<int64_t> shape, const std::vector<double>& v) {
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

Result run(const Target& target, const Call& c) {
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
void expect_scores(const std::vector<double>& expected, const std::vector<double>& got,
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
double gap_of(std::vector<double> scores, size_t k) {
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

std::vector<double> part(const std::vector<double>& v, int64_t begin, int64_t count) {
  return {v.begin() + begin, v.begin() + begin + count};
}

// Ranges of columns: for all rows, or `of_row` of them for each.
HostTensor ranges(const std::vector<int64_t>& ends, int64_t of_row = 0) {
  const int64_t count = static_cast<int64_t>(ends.size()) / 2;
  HostTensor t =
      make_tensor(Type::kI32, of_row == 0 ? std::vector<int64_t>{count, 2}
                                          : std::vector<int64_t>{count / of_row, of_row, 2});
  for (size_t i = 0; i < ends.size(); ++i) t.set_integer(static_cast<int64_t>(i), ends[i]);
  return t;
}

float root_scale(int64_t dim) { return 1.0f / std::sqrt(static_cast<float>(dim)); }

// [A,B,C] to [B,A,C].
std::vector<double> swapped(const std::vector<double>& v, int64_t a, int64_t b, int64_t c) {
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
HostTensor scores_of(const Safetensors& file, const std::string& name) {
  return file.tensor(file.has(name + "_f64") ? name + "_f64" : name);
}

// Entries of a list until the filler; `valid` marks them where filler has no sign of its own.
std::vector<int64_t> listed(const std::vector<int64_t>& all, int64_t begin, int64_t count,
                            const std::vector<int64_t>& valid = {}) {
  std::vector<int64_t> list;
  for (int64_t i = begin; i < begin + count; ++i) {
    const size_t at = static_cast<size_t>(i);
    if (all[at] >= 0 && (valid.empty() || valid[at] != 0)) list.push_back(all[at]);
  }
  return list;
}

// What select makes of one row of recorded scores.
std::vector<int64_t> select_row(const Target& target, const std::vector<double>& scores, int64_t k,
                                int64_t limit, const HostTensor& keep) {
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

// ---- PromptDistill ------------------------------------------------------------------------------

void distill(const Target& target, const Json& c, const Safetensors& file, const std::string& at,
             Tally* tally) {
  const HostTensor keys = file.tensor(at + "keys");
  Call call;
  call.prompts = keys.shape[0];
  call.heads = number(c, "q_heads");
  call.kv_heads = number(c, "kv_heads");
  call.slots = call.columns = keys.shape[2];
  call.dim = number(c, "head_dim");
  call.type = storage(keys.type);
  call.query = values(file.tensor(at + "query_last"));
  call.keys = values(keys);
  call.kind = EXN_SCORE_RAW;
  call.scale = root_scale(call.dim);
  if (c.at("pooling").flag()) call.pool = EXN_POOL_AVG, call.width = 5;
  call.selects = true;
  call.selection.k = number(c, "k");
  call.selection.capacity = call.slots;
  const std::vector<int64_t> ends = whole_numbers(file.tensor(at + "prompt_ends"));
  std::vector<int64_t> kept_ranges;
  for (int64_t b = 0; b < call.prompts; ++b) {
    int64_t valid = call.slots;
    if (file.has(at + "attention_mask")) {
      const HostTensor mask = file.tensor(at + "attention_mask");
      valid = 0;
      for (int64_t j = 0; j < call.slots; ++j) valid += mask.integer_at(b * call.slots + j) != 0;
    }
    call.visible.push_back(static_cast<int32_t>(call.slots));
    call.limit.push_back(static_cast<int32_t>(ends[static_cast<size_t>(b)]));
    kept_ranges.insert(kept_ranges.end(), {ends[static_cast<size_t>(b)], valid});
  }
  call.ranges.keep = ranges(kept_ranges, 1);
  const Result got = run(target, call);
  const std::vector<double> scores = values(scores_of(file, at + "scores_selection"));
  const std::vector<double> official = values(file.tensor(at + "scores_selection"));
  const std::vector<double> gaps = values(file.tensor(at + "boundary_gap"));
  const HostTensor contract = file.tensor(at + "contract_indices");
  const int64_t n = contract.shape[1];
  for (int64_t b = 0; b < call.prompts; ++b) {
    const size_t r = static_cast<size_t>(b);
    const int64_t end = ends[r];
    expect_scores(part(scores, b * call.slots, end), got.scores,
                  r * static_cast<size_t>(call.slots), tolerance(keys.type));
    const std::vector<int64_t> expected = listed(whole_numbers(contract), b * n, n);
    if (tally->clear(gaps[r], keys.type)) {
      EXPECT_EQ(got.kept[r], expected) << "row " << b;
    }
    if (gaps[r] == 0 || gaps[r] > kClear) {
      const std::vector<double> row = part(official, b * call.slots, call.slots);
      const HostTensor keep = ranges({kept_ranges[2 * r], kept_ranges[2 * r + 1]});
      EXPECT_EQ(select_row(target, row, call.selection.k, end, keep), expected) << "row " << b;
    }
  }
}

// One of two stages: the last row is the query.
void distill_stage(const Target& target, const Json& c, const Safetensors& file,
                   const std::string& at, int64_t stage) {
  const std::string name = at + "stage" + std::to_string(stage + 1) + "_";
  const HostTensor keys = file.tensor(name + "keys");
  Call call;
  call.heads = number(c, "q_heads");
  call.kv_heads = number(c, "kv_heads");
  call.slots = call.columns = keys.shape[2];
  call.dim = number(c, "head_dim");
  call.query = values(file.tensor(name + "query_last"));
  call.keys = values(keys);
  call.kind = EXN_SCORE_RAW;
  call.scale = root_scale(call.dim);
  call.pool = EXN_POOL_AVG;
  call.width = 5;
  call.visible = {static_cast<int32_t>(call.slots)};
  call.limit = {static_cast<int32_t>(call.slots - 1)};
  call.selects = true;
  call.selection.k = static_cast<int64_t>(c.at("k").list()[static_cast<size_t>(stage)].number());
  call.selection.capacity = call.slots;
  call.ranges.keep = ranges({call.slots - 1, call.slots});
  const Result got = run(target, call);
  const std::vector<double> scores = values(file.tensor(name + "scores_selection"));
  expect_scores(part(scores, 0, call.slots - 1), got.scores, 0, 1e-5);
  EXPECT_EQ(got.kept[0], whole_numbers(file.tensor(name + "kept")));
}

TEST(GoldenDrop, PromptDistill) {
  EXN_READ(cases, file, "promptdistill");
  for_cases(cases, [&](const Target& target, const std::string& at, const Json& c, Tally& tally) {
    ++tally.cases;
    if (c.at("kind").text() == "two stages") {
      for (int64_t stage : {0, 1}) distill_stage(target, c, file, at, stage);
    } else {
      distill(target, c, file, at, &tally);
    }
  });
}

// ---- GemFilter ----------------------------------------------------------------------------------

TEST(GoldenDrop, GemFilter) {
  EXN_READ(cases, file, "gemfilter");
  for_cases(cases, [&](const Target& target, const std::string& at, const Json& c, Tally& tally) {
    ++tally.cases;
    const HostTensor keys = file.tensor(at + "keys");
    Call call;
    call.heads = number(c, "q_heads");
    call.kv_heads = number(c, "kv_heads");
    call.slots = call.columns = number(c, "n");
    call.dim = number(c, "head_dim");
    call.type = storage(keys.type);
    call.query = values(file.tensor(at + "query_last"));
    call.keys = values(keys);
    call.kind = EXN_SCORE_RAW;
    call.reduction = c.at("head_reduction").text() == "sum" ? EXN_HEADS_SUM : EXN_HEADS_EACH;
    if (c.at("pool").text() == "avg")
      call.pool = EXN_POOL_AVG, call.width = static_cast<int32_t>(number(c, "kernel"));
    call.visible = {static_cast<int32_t>(call.slots)};
    call.selects = true;
    call.selection.k = number(c, "k");
    call.selection.capacity = std::min(call.selection.k, call.slots);
    const Result got = run(target, call);
    if (file.has(at + "scores_pooled"))
      expect_scores(values(scores_of(file, at + "scores_pooled")), got.scores, 0,
                    tolerance(keys.type));
    const bool own = file.has(at + "contract_indices");
    const HostTensor kept = file.tensor(at + (own ? "contract_indices" : "kept_indices"));
    const std::vector<double> gaps = values(file.tensor(at + "boundary_gap"));
    const int64_t rows = call.rows(), n = kept.size() / rows;
    for (int64_t r = 0; r < rows; ++r) {
      const std::vector<int64_t> expected = listed(whole_numbers(kept), r * n, n);
      if (tally.clear(gaps[static_cast<size_t>(r)], keys.type)) {
        EXPECT_EQ(got.kept[static_cast<size_t>(r)], expected) << "row " << r;
      }
      if (own && (gaps[0] == 0 || gaps[0] > kClear)) {
        EXPECT_EQ(select_row(target, values(file.tensor(at + "scores_pooled")), call.selection.k,
                             call.slots, {}),
                  expected);
      }
    }
  });
}

// ---- SnapKV -------------------------------------------------------------------------------------

TEST(GoldenDrop, SnapKv) {
  EXN_READ(cases, file, "snapkv");
  for_cases(cases, [&](const Target& target, const std::string& at, const Json& c, Tally& tally) {
    if (!c.at("pruned").flag()) return;
    ++tally.cases;
    const HostTensor keys = file.tensor(at + "keys");
    Call call;
    call.window = number(c, "window");
    call.heads = number(c, "q_heads");
    call.kv_heads = number(c, "kv_heads");
    call.slots = call.columns = number(c, "N");
    call.dim = number(c, "head_dim");
    call.type = storage(keys.type);
    call.query =
        swapped(values(file.tensor(at + "query_window")), call.heads, call.window, call.dim);
    call.keys = values(keys);
    call.scale = root_scale(call.dim);
    call.reduction = EXN_HEADS_EACH;
    call.pool = c.at("pool").text() == "avgpool" ? EXN_POOL_AVG : EXN_POOL_MAX;
    call.width = static_cast<int32_t>(number(c, "kernel"));
    const int64_t before = call.slots - call.window;
    for (int64_t i = 0; i < call.window; ++i)
      call.visible.push_back(static_cast<int32_t>(before + 1 + i));
    call.limit = {static_cast<int32_t>(before)};
    call.selects = true;
    call.selection.k = number(c, "kept_prefix");
    call.selection.capacity = call.selection.k + call.window;
    call.ranges.keep = ranges({before, call.slots});
    const Result got = run(target, call);
    const HostTensor pooled_scores = scores_of(file, at + "scores_pooled");
    const std::vector<double> scores = values(pooled_scores);
    const std::vector<double> official = values(file.tensor(at + "scores_pooled"));
    const std::vector<double> gaps = values(file.tensor(at + "boundary_gap"));
    const std::vector<int64_t> contract = whole_numbers(file.tensor(at + "contract_indices"));
    for (int64_t h = 0; h < call.heads; ++h) {
      const size_t r = static_cast<size_t>(h);
      expect_scores(part(scores, h * before, before), got.scores,
                    r * static_cast<size_t>(call.slots), tolerance(keys.type));
      std::vector<int64_t> expected = listed(contract, h * call.selection.k, call.selection.k);
      if (gaps[r] == 0 || gaps[r] > kClear) {
        const std::vector<double> row = part(official, h * before, before);
        EXPECT_EQ(select_row(target, row, call.selection.k, before, {}), expected) << "head " << h;
      }
      for (int64_t j = before; j < call.slots; ++j) expected.push_back(j);
      if (tally.clear(gaps[r], keys.type)) {
        EXPECT_EQ(got.kept[r], expected) << "head " << h;
      }
    }
  });
}

// ---- H2O ----------------------------------------------------------------------------------------

void h2o_port(const Target& target, const Json& c, const Safetensors& file, const std::string& at,
              Tally* tally) {
  const HostTensor keys = file.tensor(at + "keys");
  Call call;
  call.heads = number(c, "q_heads");
  call.kv_heads = number(c, "kv_heads");
  call.slots = call.columns = call.window = number(c, "N");
  call.dim = number(c, "head_dim");
  call.query = swapped(values(file.tensor(at + "queries")), call.heads, call.window, call.dim);
  call.keys = values(keys);
  call.scale = root_scale(call.dim);
  call.reduction = number(c, "groups") == 1 ? EXN_HEADS_EACH : EXN_HEADS_GROUP_SUM;
  for (int64_t i = 0; i < call.window; ++i) call.visible.push_back(static_cast<int32_t>(i + 1));
  // All columns are scored here; the candidates are those before the recent ones.
  const Result got = run(target, call);
  const std::vector<double> sums = values(file.tensor(at + "attention_column_sums"));
  expect_scores(sums, got.scores, 0, 1e-5);
  if (!c.at("pruned").flag()) return;
  const int64_t heavy = number(c, "heavy"), before = call.slots - number(c, "recent");
  const std::vector<int64_t> positions = whole_numbers(file.tensor(at + "expected_positions"));
  const int64_t n = static_cast<int64_t>(positions.size()) / call.rows();
  for (int64_t r = 0; r < call.rows(); ++r) {
    const std::vector<double> row = part(sums, r * call.slots, before);
    if (!tally->clear(gap_of(row, static_cast<size_t>(heavy)), keys.type)) continue;
    EXPECT_EQ(select_row(target, part(got.scores, r * call.slots, call.slots), heavy, before,
                         ranges({before, call.slots})),
              listed(positions, r * n, n))
        << "row " << r;
  }
}

// The original masks positions head by head, so each head is a prompt of its own with the keys that
// it still sees; its scores are added up through `accumulate`.
void h2o_original(const Target& target, const Json& c, const Safetensors& file,
                  const std::string& at, Tally* tally) {
  const int64_t heads = number(c, "heads"), dim = number(c, "head_dim"), prompt = number(c, "T"),
                steps = number(c, "steps"), all = prompt + steps;
  const int64_t heavy = number(c, "heavy_budget"), recent = number(c, "recent_budget");
  const std::vector<double> queries = values(file.tensor(at + "queries"));
  const std::vector<double> keys = values(file.tensor(at + "keys"));
  const HostTensor mask = file.tensor(at + "expected_mask_next");
  const std::vector<double> after = values(file.tensor(at + "expected_scores_after"));
  std::vector<std::vector<double>> score(static_cast<size_t>(heads),
                                         std::vector<double>(static_cast<size_t>(all + 1), 0));
  for (int64_t t = 0; t <= steps; ++t) {
    const int64_t rows = t == 0 ? prompt : 1, length = prompt + t;
    for (int64_t h = 0; h < heads; ++h) {
      std::vector<int64_t> seen;
      for (int64_t j = 0; j < length; ++j) {
        const int64_t cell = ((t - 1) * heads + h) * (all + 1) + j;
        if (t == 0 || mask.integer_at(cell) != 0) seen.push_back(j);
      }
      Call call;
      call.window = rows;
      call.slots = call.columns = static_cast<int64_t>(seen.size());
      call.dim = dim;
      call.scale = root_scale(dim);
      call.query = part(queries, (h * all + length - rows) * dim, rows * dim);
      for (int64_t j : seen) {
        const std::vector<double> key = part(keys, (h * all + j) * dim, dim);
        call.keys.insert(call.keys.end(), key.begin(), key.end());
        call.before.push_back(score[static_cast<size_t>(h)][static_cast<size_t>(j)]);
      }
      for (int64_t i = 0; i < rows; ++i)
        call.visible.push_back(static_cast<int32_t>(t == 0 ? i + 1 : call.slots));
      const Result got = run(target, call);
      std::vector<double>& own = score[static_cast<size_t>(h)];
      for (size_t i = 0; i < seen.size(); ++i) own[static_cast<size_t>(seen[i])] = got.scores[i];
      const std::vector<double> now = part(own, 0, length + 1);
      // Of the next step's length + 1 positions the last `recent` are seen, and the heavy ones
      // before position length - recent. What is not seen loses its score, but for that position;
      // with recent = 0 an empty slice of the original takes in everything, and all scores stay.
      std::vector<int64_t> expected;
      for (int64_t j = 0; j <= length; ++j) {
        const bool masked = mask.integer_at((t * heads + h) * (all + 1) + j) == 0;
        if (!masked) expected.push_back(j);
        if (masked && recent > 0 && j != length - recent) own[static_cast<size_t>(j)] = 0;
      }
      expect_scores(part(after, (t * heads + h) * (all + 1), length), own, 0, 1e-5);
      if (length <= heavy + recent) continue;
      const double gap = gap_of(part(now, 0, length - recent), static_cast<size_t>(heavy));
      if (!tally->clear(gap, Type::kF32)) continue;
      const HostTensor last = ranges({length + 1 - recent, length + 1});
      EXPECT_EQ(select_row(target, now, heavy, length - recent, last), expected)
          << "step " << t << ", head " << h;
    }
  }
}

TEST(GoldenDrop, H2o) {
  EXN_READ(cases, file, "h2o");
  for_cases(cases, [&](const Target& target, const std::string& at, const Json& c, Tally& tally) {
    ++tally.cases;
    c.at("fn").text() == "H2OKVCache_LayerWise" ? h2o_port(target, c, file, at, &tally)
                                                : h2o_original(target, c, file, at, &tally);
  });
}

// ---- FastV and PyramidDrop ----------------------------------------------------------------------

TEST(GoldenDrop, FastV) {
  EXN_READ(cases, file, "fastv");
  for_cases(cases, [&](const Target& target, const std::string& at, const Json& c, Tally& tally) {
    ++tally.cases;
    Call call;
    call.heads = number(c, "q_heads");
    call.kv_heads = number(c, "kv_heads");
    call.slots = call.columns = number(c, "T");
    call.dim = number(c, "head_dim");
    call.query = values(file.tensor(at + "query_last"));
    call.keys = values(file.tensor(at + "keys"));
    call.scale = root_scale(call.dim);
    call.visible = {static_cast<int32_t>(call.slots)};
    call.selects = true;
    call.selection.k = number(c, "keep");
    call.selection.capacity = call.slots;
    const int64_t begin = number(c, "image_start"), end = begin + number(c, "image_length");
    call.ranges.keep = ranges({0, begin, end, call.slots});
    const Result got = run(target, call);
    const std::vector<double> scores = values(file.tensor(at + "scores"));
    expect_scores(scores, got.scores, 0, 1e-5);
    const double gap =
        gap_of(part(scores, begin, end - begin), static_cast<size_t>(call.selection.k));
    if (tally.clear(gap, Type::kF32)) {
      EXPECT_EQ(got.kept[0], whole_numbers(file.tensor(at + "kept_indices")));
    }
  });
}

TEST(GoldenDrop, PyramidDrop) {
  EXN_READ(cases, file, "pyramiddrop");
  for_cases(cases, [&](const Target& target, const std::string& at, const Json& c, Tally& tally) {
    ++tally.cases;
    Call call;
    call.prompts = number(c, "B");
    call.heads = call.kv_heads = number(c, "heads");
    call.slots = call.columns = number(c, "T");
    call.dim = number(c, "head_dim");
    call.query = values(file.tensor(at + "query_row"));
    call.keys = values(file.tensor(at + "keys"));
    call.scale = root_scale(call.dim);
    call.selects = true;
    call.selection.capacity = call.slots;
    std::vector<int64_t> kept;
    std::vector<int32_t> budgets;
    const auto of = [&](const char* key, int64_t b) {
      return static_cast<int64_t>(c.at(key).list()[static_cast<size_t>(b)].number());
    };
    for (int64_t b = 0; b < call.prompts; ++b) {
      const int64_t valid = c.at("valid").null() ? call.slots : of("valid", b);
      const int64_t begin = of("image_start", b), end = begin + of("image_tokens_now", b);
      call.visible.push_back(static_cast<int32_t>(of("query_row", b) + 1));
      call.limit.push_back(static_cast<int32_t>(begin < 0 ? 0 : end));
      budgets.push_back(static_cast<int32_t>(of("keep", b)));
      if (begin < 0) {
        kept.insert(kept.end(), {0, valid, 0, 0});
      } else {
        kept.insert(kept.end(), {0, begin, end, valid});
      }
    }
    call.ranges.keep = ranges(kept, 2);
    call.ranges.budget = make_integers(widened(budgets));
    const Result got = run(target, call);
    const HostTensor list = file.tensor(at + "kept_indices");
    const std::vector<int64_t> valid = whole_numbers(file.tensor(at + "kept_valid"));
    const int64_t n = list.shape[1];
    for (int64_t b = 0; b < call.prompts; ++b) {
      const std::string name = at + "image_scores" + std::to_string(b);
      double gap = 1;
      if (of("image_start", b) >= 0 && file.has(name)) {
        const std::vector<double> scores = values(file.tensor(name));
        expect_scores(scores, got.scores,
                      static_cast<size_t>(b * call.slots + of("image_start", b)), 1e-5);
        gap = gap_of(scores, static_cast<size_t>(of("keep", b)));
      }
      if (tally.clear(gap, Type::kF32)) {
        EXPECT_EQ(got.kept[static_cast<size_t>(b)], listed(whole_numbers(list), b * n, n, valid))
            << "row " << b;
      }
    }
  });
}

// ---- HiRED --------------------------------------------------------------------------------------

// Attention that the CLS rows of `prompts` pay, [P,N-1], or head by head [P,heads,N].
Result cls_attention(const Target& target, const Safetensors& file, const std::string& query,
                     const std::string& keys, int64_t heads, bool each) {
  const HostTensor k = file.tensor(keys);
  Call call;
  call.layout = EXN_KV_TOKEN_MAJOR;
  call.prompts = k.shape[0];
  call.slots = k.shape[1];
  call.heads = call.kv_heads = heads;
  call.dim = k.shape[2] / heads;
  call.query = values(file.tensor(query));
  call.keys = values(k);
  call.scale = root_scale(call.dim);
  call.reduction = each ? EXN_HEADS_EACH : EXN_HEADS_SUM;
  call.first = each ? 0 : 1;
  call.columns = call.slots - call.first;
  call.visible.assign(static_cast<size_t>(call.prompts), static_cast<int32_t>(call.slots));
  return run(target, call);
}

// Partition after partition, as many as were kept of each.
void hired_masks(const Target& target, const Json& c, const Safetensors& file,
                 const std::string& at, Tally* tally) {
  const HostTensor score = file.tensor(at + "score_block22");
  const std::vector<double> all = values(score);
  const bool own = file.has(at + "contract_mask");
  const HostTensor mask = file.tensor(at + (own ? "contract_mask" : "expected_mask"));
  const int64_t patches = number(c, "Nv"), partitions = score.size() / patches;
  for (int64_t p = 0; p < partitions; ++p) {
    const int64_t k = c.has("kept_per_partition")
                          ? static_cast<int64_t>(
                                c.at("kept_per_partition").list()[static_cast<size_t>(p)].number())
                          : number(c, "kept_total");
    const std::vector<double> row = part(all, p * patches, patches);
    const double gap = gap_of(row, static_cast<size_t>(k));
    ++tally->rows;
    if (gap != 0 ? gap < 1e-6 : !own) {  // f64 scores that f32 does not tell apart
      ++tally->cut_on_ties;
      continue;
    }
    std::vector<int64_t> expected;
    for (int64_t j = 0; j < patches; ++j) {
      if (mask.integer_at(p * patches + j) != 0) expected.push_back(j);
    }
    EXPECT_EQ(select_row(target, row, k, patches, {}), expected) << "partition " << p;
  }
}

TEST(GoldenDrop, Hired) {
  EXN_READ(cases, file, "hired");
  for_cases(cases, [&](const Target& target, const std::string& at, const Json& c, Tally& tally) {
    ++tally.cases;
    const std::string fn = c.at("fn").text();
    if (fn == "ViT_Attn_Hook.get_attn") {
      const int64_t heads = number(c, "heads");
      const HostTensor each = file.tensor(at + "cls_attention");
      const std::string query = at + "q_cls", keys = at + "k_proj";
      expect_scores(values(each), cls_attention(target, file, query, keys, heads, true).scores, 0,
                    tolerance(each.type));
      expect_scores(values(file.tensor(at + "cls_score")),
                    cls_attention(target, file, query, keys, heads, false).scores, 0,
                    tolerance(each.type));
    } else if (file.has(at + "q_cls_block22")) {
      const int64_t heads = number(c, "heads");
      const Result late =
          cls_attention(target, file, at + "q_cls_block22", at + "k_block22", heads, false);
      expect_scores(values(file.tensor(at + "cls_score_block22")), late.scores, 0, 1e-5);
      const Result early =
          cls_attention(target, file, at + "q_cls_block0", at + "k_block0", heads, false);
      expect_scores(values(file.tensor(at + "cls_score_block0_full")), early.scores, 0, 1e-5);
    } else if (file.has(at + "score_block22")) {
      hired_masks(target, c, file, at, &tally);
    } else {
      --tally.cases;  // the official code raises, or hands out no scores
    }
  });
}

}  // namespace
}  // namespace exn::test
