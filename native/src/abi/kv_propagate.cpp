// SPDX-License-Identifier: Apache-2.0
#include <exeunt/kv_propagate.h>

#include "backends.h"
#include "base/args/kv_propagate.h"

namespace exn {

template <>
constexpr Noting kNoting<KvPropagateArgs> = Noting::kOutputs;
// K and V of each layer.
template <>
constexpr int kMostRanges<KvPropagateArgs> = 2 * EXN_KV_PROPAGATE_MAX_LAYERS;

namespace {

// What `a` says of hidden, the norm and the layers' source is set.
KvLayer check_layer(const KvPropagateArgs& a, int32_t which, Check& check) {
  const exn_kv_layer& from = a.source[which];
  KvLayer to;
  const int64_t dim = a.hidden.cols;
  check.enter("layers", which);
  check.one_of("index", from.index, 0, a.model_layers - 1);
  if (which > 0 && from.index <= a.source[which - 1].index) {
    check.fail_argument("index is %d, expected more than the %d before it", from.index,
                        a.source[which - 1].index);
  }
  to.index = from.index;
  check.norm_coefficients({}, from.norm_weight, from.norm_bias, a.norm, dim, &to.norm_weight,
                          &to.norm_bias);
  to.cache = check.cache({}, from.cache, Role::kInOut);
  const int64_t width = to.cache.heads * to.cache.dim;
  to.k_weight = check.weights("k_weight", from.k_weight, "k_blocks", from.k_blocks, "hidden", dim);
  to.v_weight = check.weights("v_weight", from.v_weight, "v_blocks", from.v_blocks, "hidden", dim);
  check.same("k_weight", "rows", to.k_weight.rows, "a slot of the cache", width);
  check.same("v_weight", "rows", to.v_weight.rows, "a slot of the cache", width);
  check.same_dtype("v_weight", to.v_weight.dtype, "k_weight", to.k_weight.dtype);
  to.k_bias = check.coefficients("k_bias", from.k_bias, "the rows of k_weight", width);
  to.v_bias = check.coefficients("v_bias", from.v_bias, "the rows of v_weight", width);
  const KvLayer& first = which == 0 ? to : a.first;
  constexpr const char* kFirst = "that of layers[0]";
  check.same("cache", "heads", to.cache.heads, kFirst, first.cache.heads);
  check.same("cache", "elements per head", to.cache.dim, kFirst, first.cache.dim);
  check.same("cache", "sequences", to.cache.sequences, kFirst, first.cache.sequences);
  check.same_dtype("cache", to.cache.dtype, kFirst, first.cache.dtype);
  check.same_dtype("k_weight", to.k_weight.dtype, kFirst, first.k_weight.dtype);
  if (from.cache.layout != a.source[0].cache.layout) {
    check.fail_argument("cache.layout is %d, but %s is %d", from.cache.layout, kFirst,
                        a.source[0].cache.layout);
  }
  check.leave();
  return to;
}

// A layer that has passed the check.
KvLayer layer_of(const KvPropagateArgs& a, int32_t which) {
  Range none[1];
  Check passed("exn_kv_propagate", none, Noting::kNothing);
  return check_layer(a, which, passed);
}

void check_slot(const exn_kv_propagate_params& p, Check& check, KvPropagateArgs* a) {
  const int64_t rows = a->hidden.rows;
  const Vector slot = check.flat("slot", p.slot, {1, 2}, kI32Only, Role::kIn);
  if (!check.ok()) return;
  if (p.slot->ndim == 2) {
    check.shape("slot", p.slot, {p.layer_count, rows});
    a->slot_stride = rows;
  } else {
    check.shape("slot", p.slot, {rows});
  }
  a->slot = static_cast<const int32_t*>(slot.data);
}

void check_args(const exn_kv_propagate_params& p, Check& check, KvPropagateArgs* a) {
  a->hidden = check.matrix("hidden", p.hidden, kFloats, Role::kIn);
  const int64_t rows = a->hidden.rows;
  check.at_least("D (columns of hidden)", a->hidden.cols, 1);
  check.one_of("layer_count", p.layer_count, 1, EXN_KV_PROPAGATE_MAX_LAYERS);
  check.reserved(p.reserved);
  check.at_least("model_layers", p.model_layers, 1);
  if (check.ok() && p.layers == nullptr) {
    check.fail_argument("layers is null, %d layers are expected", p.layer_count);
  }
  a->exit_layer = check.per_row<const int32_t>("exit_layer", p.exit_layer, kI32Only, Role::kIn,
                                               "the rows of hidden", rows);
  a->sequence = check.per_row<const int32_t>("sequence", p.sequence, kI32Only, Role::kIn,
                                             "the rows of hidden", rows, Need::kOptional);
  const Need position_needed = p.rope_table != nullptr ? Need::kRequired : Need::kOptional;
  a->position = check.per_row<const int32_t>("position", p.position, kI32Only, Role::kIn,
                                             "the rows of hidden", rows, position_needed);
  if (!check.ok()) return;
  check_slot(p, check, a);
  check.one_of("rope_style", p.rope_style, EXN_ROPE_INTERLEAVED, EXN_ROPE_HALF);
  check.norm_options({}, p.norm, p.norm_eps);
  a->source = p.layers;
  a->layer_of = layer_of;
  a->layer_count = p.layer_count;
  a->model_layers = p.model_layers;
  a->rope_style = p.rope_style;
  a->norm = p.norm;
  a->norm_eps = p.norm_eps;
  if (check.ok()) a->first = check_layer(*a, 0, check);
  for (int32_t i = 1; check.ok() && i < p.layer_count; ++i) check_layer(*a, i, check);
  if (!check.ok()) return;
  a->table = check.rope_table("rope_table", p.rope_table, a->first.cache.dim, Need::kOptional);
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(kv_propagate, KvPropagateArgs, check_args)
