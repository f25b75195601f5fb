// SPDX-License-Identifier: Apache-2.0
// What the descriptions of several ops have in common.
#pragma once

#include "maker.h"

namespace exn::test {

// ---- statistics and norms -----------------------------------------------------------------------

void stats(Maker& m, exn_stats& out, Dim rows, Dim columns, bool softmax);

template <class Params>
void normalizer(Maker& m, Params& p) {
  m.choice(FIELD(normalizer), EXN_SOFTMAX, EXN_STABLEMAX);
  m.real(FIELD(temperature), Domain::kPositive);
  m.real(FIELD(softcap), Domain::kNotNegative);
}

// The coefficients that `norm` asks for.
void norm_of(Maker& m, int32_t norm, const DLTensor*& weight, const char* weight_name,
             const DLTensor*& bias, const char* bias_name, Dim columns);

// How inputs of weights of `blocks` are rounded; in a sample, which other devices take as well, to
// 16 bits.
template <class Params>
void input_rounding(Maker& m, Params& p, const BlockFormat* blocks) {
  if (blocks == nullptr || in_panels(blocks->tag)) {
    m.zero(FIELD(input_rounding));
  } else if (m.on_cpu()) {
    m.integer(FIELD(input_rounding), m.some("int8", 2) ? EXN_INPUT_INT8 : EXN_INPUT_INT16,
              EXN_INPUT_INT16, EXN_INPUT_INT8);
  } else {
    m.any_integer(FIELD(input_rounding), EXN_INPUT_INT16);
  }
}

// ---- caches -------------------------------------------------------------------------------------

// Of the fields of a cache and of its sizes.
struct CacheNames {
  const char *k, *v, *block_table, *layout, *reserved;
  const char *sequences, *slots, *page, *blocks, *pages;
};
#define CACHE_NAMES(cache)                                                                       \
  {cache ".k",         cache ".v",     cache ".block_table", cache ".layout", cache ".reserved", \
   cache ".sequences", cache ".slots", cache ".page",        cache ".blocks", cache ".pages"}

// A cache's sizes, from which its tensors are made.
struct CacheShape {
  int32_t layout;
  Dim sequences;
  Dim heads;
  Dim dim;
  int64_t slots;  // T
  Dim run;        // slots of a sequence, or of a page
  Dim blocks;     // of a sequence
  Dim pages;
  bool has_one;  // [Hkv,T,dh]
  TypeOf type;
};

int32_t cache_layout(Maker& m, const CacheNames& names);
CacheShape cache_shape(Maker& m, const CacheNames& names, int32_t layout, Dim sequences, Dim heads,
                       Dim dim, TypeOf type);
CacheShape cache_shape(Maker& m, const CacheNames& names);
void cache(Maker& m, exn_kv_cache& p, const CacheNames& names, const CacheShape& c, Role role,
           unsigned v_flags = kPlain);

// The cache whose tensors were described first, once more.
void cache_again(Maker& m, exn_kv_cache& p, const CacheNames& names, const exn_kv_cache& first);

// Which slot each row writes: a different one for each, -1 where there is none left or by chance.
void distinct_slots(Maker& m, int32_t* slots, const int32_t* sequences, int64_t rows,
                    int64_t capacity);

// ---- selections ---------------------------------------------------------------------------------

struct SelectionShape {
  Dim rows;
  int64_t columns;
};

void selection(Maker& m, exn_selection& given, const SelectionShape& s, unsigned needed);

}  // namespace exn::test
