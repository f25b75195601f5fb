// SPDX-License-Identifier: Apache-2.0
// A KV cache: tensors K and V of one shape, whose axes lie as the layout says.
#include "check.h"

namespace exn {
namespace {

long long wide(int64_t x) { return static_cast<long long>(x); }

// V must be as K is.
void check_alike(const CacheNames& names, const exn_kv_cache& cache, DType k, DType v,
                 Check& check) {
  if (cache.v == nullptr) return;
  const int32_t rank = cache.k->ndim;
  check.same_dtype(names.v, v, names.k, k);
  if (cache.v->ndim != rank)
    check.fail_argument("%s has rank %d, but %s has %d", names.v, cache.v->ndim, names.k, rank);
  for (int32_t i = 0; check.ok() && i < rank; ++i) {
    if (cache.v->shape[i] != cache.k->shape[i]) {
      check.fail_argument("%s has size %lld in axis %d, but %s has %lld", names.v,
                          wide(cache.v->shape[i]), i, names.k, wide(cache.k->shape[i]));
    }
  }
}

// Sizes and strides as the layout says; of pages, those of a page.
void read_axes(const exn_kv_cache& cache, KvCache* c) {
  const int32_t rank = cache.k->ndim;
  const int64_t* shape = cache.k->shape + (rank - 3);
  const bool head_major = cache.layout == EXN_KV_HEAD_MAJOR;
  c->dim = shape[2];
  c->heads = head_major ? shape[0] : shape[1];
  c->slots = head_major ? shape[1] : shape[0];
  c->head_stride = head_major ? c->slots * c->dim : c->dim;
  c->slot_stride = head_major ? c->dim : c->heads * c->dim;
  c->sequence_stride = c->slots * c->heads * c->dim;
  c->sequences = rank == 4 ? cache.k->shape[0] : 1;
}

// What was read as sequences is pages; the block table has the sequences.
void read_pages(const CacheNames& names, const exn_kv_cache& cache, Check& check, KvCache* c) {
  const Matrix table = check.matrix(names.block_table, cache.block_table, kI32Only, Role::kIn);
  if (!check.ok()) return;
  if (table.rows > 1) {
    check.same(names.block_table, "elements between rows", table.stride, "a compact table",
               table.cols);
  }
  if (c->slots < 1) {  // there may be ever so many where no sequence has a page
    check.fail_argument("%s has %lld slots of a page, expected at least 1", names.cache,
                        wide(c->slots));
  }
  c->page = c->slots;
  c->pages = c->sequences;
  c->page_stride = c->sequence_stride;
  c->sequences = table.rows;
  c->blocks = static_cast<const int32_t*>(table.data);
  c->block_count = table.cols;
  c->slots = product(c->page, c->block_count);
}

void check_size(const CacheNames& names, const char* axis, int64_t value, int64_t least,
                Check& check) {
  if (value < least) {
    check.fail_argument("%s of %s is %lld, expected at least %lld", axis, names.cache, wide(value),
                        wide(least));
  } else if (value > INT32_MAX) {
    check.fail_argument("%s of %s is %lld, expected at most %d", axis, names.cache, wide(value),
                        INT32_MAX);
  }
}

}  // namespace

KvCache Check::cache(const CacheNames& names, const exn_kv_cache& cache, Role role) {
  return described(names, cache, role, Need::kRequired);
}

KvCache Check::keys(const CacheNames& names, const exn_kv_cache& cache) {
  return described(names, cache, Role::kIn, Need::kOptional);
}

KvCache Check::described(const CacheNames& names, const exn_kv_cache& cache, Role role,
                         Need v_needed) {
  KvCache c;
  if (cache.reserved != 0)
    fail_argument("%s.reserved is %d, expected 0", names.cache, cache.reserved);
  if (cache.layout < EXN_KV_HEAD_MAJOR || cache.layout > EXN_KV_PAGED) {
    fail_argument("%s.layout is %d, expected %d..%d", names.cache, cache.layout, EXN_KV_HEAD_MAJOR,
                  EXN_KV_PAGED);
  }
  const bool paged = cache.layout == EXN_KV_PAGED;
  const Ranks ranks = {paged ? 4 : 3, 4};
  const Vector k = flat(names.k, cache.k, ranks, kFloats, role);
  const Vector v = flat(names.v, cache.v, ranks, kFloats, role, v_needed);
  if (!ok()) return c;
  check_alike(names, cache, k.dtype, v.dtype, *this);
  c.k = k.data;
  c.v = v.data;
  c.dtype = k.dtype;
  read_axes(cache, &c);
  check_size(names, "Hkv (heads)", c.heads, 1, *this);
  check_size(names, "dh (head dimension)", c.dim, 1, *this);
  if (paged) {
    read_pages(names, cache, *this, &c);
  } else {
    absent(names.block_table, cache.block_table, "the layout is not EXN_KV_PAGED (2)");
  }
  check_size(names, "T (slots of a sequence)", c.slots, 0, *this);
  check_size(names, "S (sequences)", c.sequences, 0, *this);
  return c;
}

bool Check::one_cache(const CacheNames& destination_names, const KvCache& destination,
                      const CacheNames& source_names, const KvCache& source) {
  may_alias(destination_names.k, source_names.k);
  may_alias(destination_names.v, source_names.v);
  if (!ok()) return false;
  const bool same_k = source.k == destination.k, same_v = source.v == destination.v;
  if (same_k != same_v) {
    fail_argument(
        "destination.%s is exactly that of source, but destination.%s is another, expected both or "
        "neither",
        same_k ? "k" : "v", same_k ? "v" : "k");
  }
  if (!same_k) return false;
  if (source.k == nothing_) {  // two caches without a slot are one if they are described alike
    return source.heads == destination.heads && source.head_stride == destination.head_stride &&
           source.slot_stride == destination.slot_stride && source.slots == destination.slots &&
           source.page == destination.page && source.blocks == destination.blocks;
  }
  same("destination", "heads", destination.heads, "source", source.heads);
  same("destination", "elements between heads", destination.head_stride, "source",
       source.head_stride);
  same("destination", "elements between slots", destination.slot_stride, "source",
       source.slot_stride);
  return true;
}

}  // namespace exn
