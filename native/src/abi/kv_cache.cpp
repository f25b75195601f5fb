// SPDX-License-Identifier: Apache-2.0
#include <exeunt/kv_cache.h>

#include "backends.h"
#include "base/args/kv_cache.h"

namespace exn {
namespace {

void check_append(const exn_kv_append_params& p, Check& check, KvAppendArgs* a) {
  a->cache = check.cache({}, p.cache, Role::kInOut);
  a->k = check.heads("k", p.k, kFloats, Role::kIn);
  a->v = check.heads("v", p.v, kFloats, Role::kIn);
  check.same("k", "heads", a->k.heads, "the cache", a->cache.heads);
  check.same("k", "elements per head", a->k.dim, "the cache", a->cache.dim);
  check.same("v", "rows", a->v.rows, "k", a->k.rows);
  check.same("v", "heads", a->v.heads, "the cache", a->cache.heads);
  check.same("v", "elements per head", a->v.dim, "the cache", a->cache.dim);
  check.same_dtype("v", a->v.dtype, "k", a->k.dtype);
  a->sequence = check.per_row<const int32_t>("sequence", p.sequence, kI32Only, Role::kIn,
                                             "the rows of k", a->k.rows, Need::kOptional);
  a->slot =
      check.per_row<const int32_t>("slot", p.slot, kI32Only, Role::kIn, "the rows of k", a->k.rows);
}

void check_copy(const exn_kv_copy_params& p, Check& check, KvCopyArgs* a) {
  // Ranges are compared by the addresses of their names: each is written once.
  static constexpr CacheNames kSource = {"source", "source.k", "source.v", "source.block_table"};
  static constexpr CacheNames kDestination = {"destination", "destination.k", "destination.v",
                                              "destination.block_table"};
  a->destination = check.cache(kDestination, p.destination, Role::kInOut);
  a->source = check.cache(kSource, p.source, Role::kIn);
  check.same("source", "heads", a->source.heads, "destination", a->destination.heads);
  check.same("source", "elements per head", a->source.dim, "destination", a->destination.dim);
  check.same_dtype("source", a->source.dtype, "destination", a->destination.dtype);
  check.one_cache(kDestination, a->destination, kSource, a->source);
  const Vector list = check.vector("from_slot", p.from_slot, kI32Only, Role::kIn);
  a->count = list.size;
  a->from_slot = static_cast<const int32_t*>(list.data);
  const auto ids = [&](const char* name, const DLTensor* t, Need need) {
    return check.per_row<const int32_t>(name, t, kI32Only, Role::kIn, "from_slot", a->count, need);
  };
  a->to_slot = ids("to_slot", p.to_slot, Need::kRequired);
  a->from_sequence = ids("from_sequence", p.from_sequence, Need::kOptional);
  a->to_sequence = ids("to_sequence", p.to_sequence, Need::kOptional);
}

void check_crop(const exn_kv_length_params& p, Check& check, KvLengthArgs* a) {
  check.absent("sequence", p.sequence, "action is EXN_KV_CROP (1)");
  check.absent("active", p.active, "action is EXN_KV_CROP (1)");
  check.absent("slot", p.slot, "action is EXN_KV_CROP (1)");
  check.absent("visible", p.visible, "action is EXN_KV_CROP (1)");
  const Vector limit = check.flat("limit", p.limit, kAnyRank, kI32Only, Role::kIn);
  a->one_limit = limit.size == 1;
  if (!a->one_limit) check.same("limit", "elements", limit.size, "length", a->lengths);
  a->limit = static_cast<const int32_t*>(limit.data);
}

void check_advance(const exn_kv_length_params& p, Check& check, KvLengthArgs* a) {
  check.absent("limit", p.limit, "action is EXN_KV_ADVANCE (0)");
  check.at_least("capacity", p.capacity, 1);
  check.at_most("capacity", p.capacity, INT32_MAX);
  a->capacity = p.capacity;
  const Vector slot = check.vector("slot", p.slot, kI32Only, Role::kOut);
  a->rows = slot.size;
  a->slot = static_cast<int32_t*>(slot.data);
  a->sequence = check.per_row<const int32_t>("sequence", p.sequence, kI32Only, Role::kIn, "slot",
                                             a->rows, Need::kOptional);
  a->active = check.per_row<const uint8_t>("active", p.active, kU8Only, Role::kIn, "slot", a->rows,
                                           Need::kOptional);
  a->visible = check.per_row<int32_t>("visible", p.visible, kI32Only, Role::kOut, "slot", a->rows,
                                      Need::kOptional);
}

void check_length(const exn_kv_length_params& p, Check& check, KvLengthArgs* a) {
  check.reserved(p.reserved);
  check.one_of("action", p.action, EXN_KV_ADVANCE, EXN_KV_CROP);
  const Vector length = check.flat("length", p.length, kAnyRank, kI32Only, Role::kInOut);
  a->length = static_cast<int32_t*>(length.data);
  a->lengths = length.size;
  a->action = p.action;
  p.action == EXN_KV_CROP ? check_crop(p, check, a) : check_advance(p, check, a);
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(kv_append, KvAppendArgs, check_append)
EXN_DEFINE_OP(kv_copy, KvCopyArgs, check_copy)
EXN_DEFINE_OP(kv_length, KvLengthArgs, check_length)
