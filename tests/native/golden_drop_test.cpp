// SPDX-License-Identifier: Apache-2.0
// attention_scores and select against recorded outputs of the official implementations of methods
// that drop tokens of a text: PromptDistill, GemFilter, SnapKV and H2O.
#include "golden_drop.h"

namespace exn::test {
namespace {

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

}  // namespace
}  // namespace exn::test
