// SPDX-License-Identifier: Apache-2.0
#include <exeunt/attention_scores.h>

#include "backends.h"
#include "base/args/attention_scores.h"

namespace exn {
namespace {

constexpr CacheNames kKeys = {"keys", "keys.k", "keys.v", "keys.block_table"};

void check_query(const exn_attention_scores_params& p, Check& check, AttentionScoresArgs* a) {
  a->query = check.heads("query", p.query, kFloats, Role::kIn);
  a->keys = check.keys(kKeys, p.keys);
  check.same("query", "elements per head", a->query.dim, "the cache", a->keys.dim);
  check.at_least("H (heads of query)", a->query.heads, 1);
  check.at_most("H (heads of query)", a->query.heads, INT32_MAX);
  check.at_least("window", p.window, 1);
  check.product_in_range({{"window", p.window}, {"H (heads of query)", a->query.heads}});
  check.product_in_range({{"rows of query", a->query.rows},
                          {"H (heads of query)", a->query.heads},
                          {"T (slots of a sequence of keys)", a->keys.slots}});
  if (!check.ok()) return;
  if (a->query.heads % a->keys.heads != 0) {
    check.fail_argument("query has %lld heads, which the %lld heads of the cache do not divide",
                        static_cast<long long>(a->query.heads),
                        static_cast<long long>(a->keys.heads));
  }
  if (a->query.rows % p.window != 0) {
    check.fail_argument("query has %lld rows, which a window of %lld does not divide",
                        static_cast<long long>(a->query.rows), static_cast<long long>(p.window));
  }
  a->window = p.window;
  a->prompts = a->query.rows / p.window;
  a->sequence = check.per_row<const int32_t>("sequence", p.sequence, kI32Only, Role::kIn,
                                             "the prompts of query", a->prompts, Need::kOptional);
  if (p.sequence == nullptr) {
    check.at_least("S (sequences of keys)", a->keys.sequences, a->prompts);
  }
  a->visible = check.per_row<const int32_t>("visible", p.visible, kI32Only, Role::kIn,
                                            "the rows of query", a->query.rows);
  a->limit = check.per_row<const int32_t>("limit", p.limit, kI32Only, Role::kIn,
                                          "the prompts of query", a->prompts, Need::kOptional);
}

void check_columns(const exn_attention_scores_params& p, Check& check, AttentionScoresArgs* a) {
  check.at_least("columns", p.columns, 0);
  check.at_least("first", p.first, 0);
  check.at_most("columns", p.columns, a->keys.slots);
  if (!check.ok()) return;
  if (p.first > a->keys.slots - p.columns) {
    check.fail_argument("first is %lld and columns is %lld, expected a sum of at most %lld",
                        static_cast<long long>(p.first), static_cast<long long>(p.columns),
                        static_cast<long long>(a->keys.slots));
  }
  a->columns = p.columns;
  a->first = p.first;
}

void check_pooling(const exn_attention_scores_params& p, Check& check, AttentionScoresArgs* a) {
  check.one_of("pool", p.pool, EXN_POOL_NONE, EXN_POOL_MAX);
  check.one_of("accumulate", p.accumulate, 0, 1);
  if (p.pool == EXN_POOL_NONE) {
    check.one_of("pool_width (without pooling)", p.pool_width, 0, 0);
    return;
  }
  if (check.ok() && p.accumulate == 1) {
    check.fail_argument(
        "accumulate is 1, but pool is %d: scores that were pooled cannot be added up", p.pool);
  }
  check.one_of("pool_width", p.pool_width, 1, 255);
  if (check.ok() && p.pool_width % 2 == 0) {
    check.fail_argument("pool_width is %d, expected an odd width", p.pool_width);
  }
  a->pool = p.pool;
  a->pool_width = p.pool_width;
}

void check_args(const exn_attention_scores_params& p, Check& check, AttentionScoresArgs* a) {
  check_query(p, check, a);
  check_columns(p, check, a);
  check.positive("scale", p.scale);
  check.one_of("kind", p.kind, EXN_SCORE_RAW, EXN_SCORE_SOFTMAX);
  check.one_of("reduction", p.reduction, EXN_HEADS_EACH, EXN_HEADS_GROUP_SUM);
  check_pooling(p, check, a);
  if (!check.ok()) return;
  a->scale = p.scale;
  a->kind = p.kind;
  a->reduction = p.reduction;
  a->accumulate = p.accumulate != 0;
  a->score_heads = p.reduction == EXN_HEADS_EACH        ? a->query.heads
                   : p.reduction == EXN_HEADS_GROUP_SUM ? a->keys.heads
                                                        : 1;
  const bool selects = p.selection.indices != nullptr;
  const Need scores_needed = selects && !a->accumulate ? Need::kOptional : Need::kRequired;
  const Vector scores = check.flat("scores", p.scores, {3, 3}, kF32Only,
                                   a->accumulate ? Role::kInOut : Role::kOut, scores_needed);
  check.shape("scores", p.scores, {a->prompts, a->score_heads, a->columns});
  a->scores = static_cast<float*>(scores.data);
  if (selects) {
    a->selection = check.selection(p.selection, a->prompts * a->score_heads, a->columns);
    return;
  }
  constexpr const char* kWhy = "selection.indices is null";
  check.absent("selection.count", p.selection.count, kWhy);
  check.absent("selection.valid", p.selection.valid, kWhy);
  check.absent("selection.budget", p.selection.budget, kWhy);
  check.absent("selection.segments", p.selection.segments, kWhy);
  check.absent("selection.keep", p.selection.keep, kWhy);
  check.absent("selection.drop", p.selection.drop, kWhy);
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(attention_scores, AttentionScoresArgs, check_args)
