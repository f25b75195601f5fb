// SPDX-License-Identifier: Apache-2.0
#include <exeunt/kv_compact.h>

#include "backends.h"
#include "base/args/kv_compact.h"

namespace exn {
namespace {

// Ranges are compared by the addresses of their names: each is written once.
constexpr CacheNames kSource = {"source", "source.k", "source.v", "source.block_table"};
constexpr CacheNames kDestination = {"destination", "destination.k", "destination.v",
                                     "destination.block_table"};

void check_caches(const exn_kv_compact_params& p, Check& check, KvCompactArgs* a) {
  a->destination = check.cache(kDestination, p.destination, Role::kInOut);
  a->source = check.cache(kSource, p.source, Role::kIn);
  check.same("destination", "sequences", a->destination.sequences, "source", a->source.sequences);
  check.same("destination", "elements per head", a->destination.dim, "source", a->source.dim);
  check.same_dtype("destination", a->destination.dtype, "source", a->source.dtype);
  if (!check.ok()) return;
  if (a->destination.heads % a->source.heads != 0) {
    check.fail_argument("destination has %lld heads, which the %lld heads of source do not divide",
                        static_cast<long long>(a->destination.heads),
                        static_cast<long long>(a->source.heads));
  }
  a->in_place = check.one_cache(kDestination, a->destination, kSource, a->source);
  if (!a->in_place) return;
  // One cache has one table of its pages.
  check.same("destination", "slots of a page", a->destination.page, "source", a->source.page);
  check.same("destination", "slots of a sequence", a->destination.slots, "source", a->source.slots);
  if (check.ok() && a->source.blocks != a->destination.blocks) {
    check.fail_argument(
        "destination.block_table is at %p, but that of source, the same cache, is at %p",
        static_cast<const void*>(a->destination.blocks),
        static_cast<const void*>(a->source.blocks));
  }
}

void check_lists(const exn_kv_compact_params& p, Check& check, KvCompactArgs* a) {
  check.one_of("per_head", p.per_head, 0, 1);
  a->per_head = p.per_head != 0;
  check.product_in_range(
      {{"B (sequences)", a->sequences}, {"Hd (heads of destination)", a->destination.heads}});
  if (!check.ok()) return;
  a->lists = a->sequences * (a->per_head ? a->destination.heads : 1);
  if (p.list == nullptr) check.fail_argument("list is null, a tensor is required");
  if ((p.offsets == nullptr) == (p.count == nullptr)) {
    check.fail_argument("offsets is %s and count is %s, exactly one of them is expected",
                        p.offsets == nullptr ? "null" : "given",
                        p.count == nullptr ? "null" : "given");
    return;
  }
  const bool packed = p.offsets != nullptr;
  const Vector list =
      check.flat("list", p.list, packed ? Ranks{1, 1} : Ranks{2, 2}, kI32Only, Role::kIn);
  if (!check.ok()) return;
  if (!packed) {
    a->list_stride = p.list->shape[1];
    check.shape("list", p.list, {a->lists, a->list_stride});
  }
  a->list = static_cast<const int32_t*>(list.data);
  a->list_size = list.size;
  a->offsets =
      check.per_row<const int32_t>("offsets", p.offsets, kI32Only, Role::kIn,
                                   "the lists and their end", a->lists + 1, Need::kOptional);
  a->count = check.per_row<const int32_t>("count", p.count, kI32Only, Role::kIn, "the lists",
                                          a->lists, Need::kOptional);
  a->new_length = check.per_row<int32_t>("new_length", p.new_length, kI32Only, Role::kOut,
                                         "the lists", a->lists, Need::kOptional);
}

void check_freed(const exn_kv_compact_params& p, Check& check, KvCompactArgs* a) {
  const bool frees = p.freed != nullptr;
  if (!frees) {
    check.absent("freed_count", p.freed_count, "freed is null");
  } else if (a->source.blocks == nullptr || !a->in_place) {
    check.absent("freed", p.freed, "the cache is not a paged one that is compacted in place");
  }
  a->length = check.per_row<const int32_t>("length", p.length, kI32Only, Role::kIn, "the sequences",
                                           a->sequences, frees ? Need::kRequired : Need::kOptional);
  const Vector freed = check.vector("freed", p.freed, kI32Only, Role::kOut, Need::kOptional);
  a->freed = static_cast<int32_t*>(freed.data);
  a->freed_capacity = freed.size;
  a->freed_count = check.per_row<int32_t>("freed_count", p.freed_count, kI32Only, Role::kOut,
                                          "a count", 1, Need::kOptional);
}

void check_args(const exn_kv_compact_params& p, Check& check, KvCompactArgs* a) {
  check.reserved(p.reserved);
  check_caches(p, check, a);
  const Vector sequence =
      check.vector("sequence", p.sequence, kI32Only, Role::kIn, Need::kOptional);
  if (!check.ok()) return;
  a->sequence = static_cast<const int32_t*>(sequence.data);
  a->sequences = p.sequence != nullptr ? sequence.size : a->source.sequences;
  check_lists(p, check, a);
  check_freed(p, check, a);
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(kv_compact, KvCompactArgs, check_args)
