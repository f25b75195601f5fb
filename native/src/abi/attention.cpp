// SPDX-License-Identifier: Apache-2.0
#include <exeunt/attention.h>

#include "backends.h"
#include "base/args/attention.h"

namespace exn {
namespace {

void check_scores(const exn_attention_params& p, Check& check, AttentionArgs* a) {
  const Vector scores = check.flat("scores", p.scores, {3, 3}, kF32Only, Role::kOut);
  if (!check.ok()) return;
  a->score_slots = p.scores->shape[2];
  check.shape("scores", p.scores, {a->query.rows, a->query.heads, a->score_slots});
  check.at_most("N (slots of scores)", a->score_slots, a->cache.slots);
  a->scores = static_cast<float*>(scores.data);
}

void check_args(const exn_attention_params& p, Check& check, AttentionArgs* a) {
  a->query = check.heads("query", p.query, kFloats, Role::kIn);
  a->cache = check.cache({}, p.cache, Role::kIn);
  check.same("query", "elements per head", a->query.dim, "the cache", a->cache.dim);
  check.at_least("H (heads of query)", a->query.heads, 1);
  check.at_most("H (heads of query)", a->query.heads, INT32_MAX);
  check.product_in_range({{"R (rows of query)", a->query.rows},
                          {"H (heads of query)", a->query.heads},
                          {"T (slots of a sequence of cache)", a->cache.slots}});
  check.product_in_range({{"H (heads of query)", a->query.heads},
                          {"dh (elements per head)", a->query.dim},
                          {"T (slots of a sequence of cache)", a->cache.slots}});
  if (check.ok() && a->query.heads % a->cache.heads != 0) {
    check.fail_argument("query has %lld heads, which the %lld heads of the cache do not divide",
                        static_cast<long long>(a->query.heads),
                        static_cast<long long>(a->cache.heads));
  }
  a->sequence = check.per_row<const int32_t>("sequence", p.sequence, kI32Only, Role::kIn,
                                             "the rows of query", a->query.rows, Need::kOptional);
  a->visible = check.per_row<const int32_t>("visible", p.visible, kI32Only, Role::kIn,
                                            "the rows of query", a->query.rows);
  a->out = check.heads("out", p.out, kFloats, Role::kOut);
  check.same("out", "rows", a->out.rows, "query", a->query.rows);
  check.same("out", "heads", a->out.heads, "query", a->query.heads);
  check.same("out", "elements per head", a->out.dim, "query", a->query.dim);
  check.positive("scale", p.scale);
  check.not_negative("softcap", p.softcap);
  check.reserved(p.reserved);
  check.one_of("batch_invariant", p.batch_invariant, 0, 1);
  a->scale = p.scale;
  a->softcap = p.softcap;
  a->batch_invariant = p.batch_invariant != 0;
  if (p.scores != nullptr) check_scores(p, check, a);
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(attention, AttentionArgs, check_args)
