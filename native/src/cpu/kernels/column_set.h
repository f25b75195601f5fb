// SPDX-License-Identifier: Apache-2.0
// Sets of columns of a row, a bit for each.
#pragma once

#include "elements.h"

namespace exn::cpu::EXN_ISA {

// ---- sets of columns ----------------------------------------------------------------------------

// One bit for each column, in words of 64.
struct ColumnSet {
  uint64_t* word = nullptr;

  static EXN_SIMD int64_t words(int64_t columns) { return (columns + 63) / 64; }

  EXN_SIMD void clear(int64_t columns) const {
    for (int64_t w = 0; w < words(columns); ++w) word[w] = 0;
  }

  // Calls f(word, bits) for the words that [begin, end) touches.
  template <class F>
  static EXN_SIMD void for_range(int64_t begin, int64_t end, F&& f) {
    if (begin >= end) return;
    const int64_t first = begin / 64, last = (end - 1) / 64;
    for (int64_t w = first; w <= last; ++w) {
      uint64_t bits = ~uint64_t{0};
      if (w == first) bits &= ~uint64_t{0} << begin % 64;
      if (w == last) bits &= ~uint64_t{0} >> (63 - (end - 1) % 64);
      f(w, bits);
    }
  }
  EXN_SIMD void insert(int64_t begin, int64_t end) const {
    for_range(begin, end, [&](int64_t w, uint64_t bits) EXN_FLAT { word[w] |= bits; });
  }
  EXN_SIMD void remove(int64_t begin, int64_t end) const {
    for_range(begin, end, [&](int64_t w, uint64_t bits) EXN_FLAT { word[w] &= ~bits; });
  }
  EXN_SIMD int64_t count(int64_t begin, int64_t end) const {
    int64_t n = 0;
    for_range(begin, end, [&](int64_t w, uint64_t bits) EXN_FLAT { n += ones(word[w] & bits); });
    return n;
  }
  // Up to 16 bits for the columns from `column` on.
  EXN_SIMD void insert_bits(int64_t column, uint32_t bits) const {
    const int64_t w = column / 64, shift = column % 64;
    word[w] |= uint64_t{bits} << shift;
    if (shift > 48 && bits >> (64 - shift) != 0) word[w + 1] |= uint64_t{bits} >> (64 - shift);
  }

  static EXN_SIMD int64_t ones(uint64_t x) {
#if defined(__POPCNT__)
    return __builtin_popcountll(x);
#else
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return static_cast<int64_t>(x * 0x0101010101010101u >> 56);
#endif
  }
};

}  // namespace exn::cpu::EXN_ISA
