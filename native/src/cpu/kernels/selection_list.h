// SPDX-License-Identifier: Apache-2.0
// The list of what a selection takes.
#pragma once

#include "selection_scratch.h"

namespace exn::cpu::EXN_ISA {

// The columns of a word, up to `end`; returns where the next ones go.
static EXN_SIMD int32_t* list_word(int64_t w, uint64_t bits, int32_t* to, int32_t* end) {
  const auto number = static_cast<int32_t>(w * 64);
  if (end - to >= 64 || end - to >= ColumnSet::ones(bits) + kMoreListed)
    return list_columns(bits, number, to);
  for (; bits != 0 && to < end; bits &= bits - 1) *to++ = number + first_bit(bits);
  return to;
}

// The columns of some words, from `to` up to `end`. Returns how many there are.
static EXN_SIMD int64_t list_words(const SelectionScratch& scratch, const Words& words, int32_t* to,
                                   int32_t* end) {
  int64_t all = 0;
  for (int64_t w = words.first; w < words.last; ++w) {
    const uint64_t left = scratch.taken.word[w];
    if (left == 0) continue;
    all += ColumnSet::ones(left);
    to = list_word(w, left, to, end);
  }
  return all;
}

// The list of a long row, by all threads; returns how many columns are taken.
static __attribute__((noinline)) int64_t write_shared(int64_t columns, int32_t* list,
                                                      int64_t capacity,
                                                      const SelectionScratch& scratch) {
  const Columns all = {0, columns};
  const int64_t pieces = SelectionScratch::pieces(columns);
  for_pieces(pieces, true, [&](int64_t i) EXN_FLAT {
    const Words words = words_of(all, i);
    int64_t ones = 0;
    for (int64_t w = words.first; w < words.last; ++w)
      ones += ColumnSet::ones(scratch.taken.word[w]);
    scratch.count[i] = static_cast<int32_t>(ones);
  });
  int64_t count = 0;
  for (int64_t i = 0; i < pieces; ++i) {
    scratch.above[i] = static_cast<int32_t>(count);
    count += scratch.count[i];
  }
  for_pieces(pieces, true, [&](int64_t i) EXN_FLAT {
    const int64_t begin = scratch.above[i], end = begin + scratch.count[i];
    if (begin >= capacity) return;
    list_words(scratch, words_of(all, i), list + begin, list + (end < capacity ? end : capacity));
  });
  return count;
}

}  // namespace exn::cpu::EXN_ISA
