// SPDX-License-Identifier: Apache-2.0
// attention_scores and select against recorded outputs of the official implementations of methods
// that drop tokens of an image: FastV, PyramidDrop and HiRED.
#include "golden_drop.h"

namespace exn::test {
namespace {

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
