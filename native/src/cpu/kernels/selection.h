// SPDX-License-Identifier: Apache-2.0
// The best columns of a row of scores, for select and for what scores and selects in one run.
//
// The k-th largest score is found by bisection of its bits: a pass counts the scores above a
// threshold half way between the bounds, in the order of floats, and as soon as few scores lie
// between the bounds, only those are looked at. At most 32 counts, wherever the scores lie and
// whatever k is. Two more passes mark the columns above the cut and write their numbers.
//
// Long rows, and those that threads share out: sampled_selection.h.
#pragma once

#include "sampled_selection.h"

namespace exn::cpu::EXN_ISA {

// Selections of rows; contents are checked.
class Selector {
 public:
  EXN_SIMD Selector(const Selection& selection, int64_t columns)
      : s_(selection), columns_(columns) {}

  // Row `row`, whose candidates lie below `limit`. The scores may be those in it. `shared`:
  // by all threads, if it is long.
  template <class T>
  void run(const T* scores, int64_t row, int64_t limit, const SelectionScratch& scratch,
           bool shared = false) const;

  // Whether threads gain by sharing each of so many rows, and not the rows.
  EXN_SIMD bool shares(int64_t rows) const { return columns_ >= kWorthThreads && rows < threads(); }

 private:
  EXN_SIMD int64_t segment(int64_t g) const {
    return s_.segments != nullptr ? s_.segments[g] : g == 0 ? 0 : columns_;
  }

  EXN_SIMD int64_t wanted(int64_t row, int64_t g) const {
    return s_.budget != nullptr ? s_.budget[row * s_.segment_count + g] : s_.k;
  }

  // Whether all columns below the limit are candidates, of one segment.
  EXN_SIMD bool is_whole() const {
    return s_.segments == nullptr && s_.keep_count == 0 && s_.drop_count == 0;
  }

  // Calls f(begin, end) for the ranges of a row.
  template <class F>
  static EXN_SIMD void for_ranges(const int32_t* ranges, int64_t count, int64_t stride, int64_t row,
                                  F&& f) {
    const int32_t* of_row = ranges + row * stride;
    for (int64_t m = 0; m < count; ++m) f(of_row[2 * m], of_row[2 * m + 1]);
  }

  EXN_SIMD void mark(int64_t row, int64_t limit, const SelectionScratch& scratch) const {
    const int64_t first = segment(0), last = segment(s_.segment_count);
    scratch.open.clear(columns_);
    scratch.taken.clear(columns_ + 64);
    scratch.open.insert(first, last < limit ? last : limit);
    const auto close = [&](int64_t begin, int64_t end)
                           EXN_FLAT { scratch.open.remove(begin, end); };
    const auto keep = [&](int64_t begin, int64_t end) EXN_FLAT {
      scratch.open.remove(begin, end);
      scratch.taken.insert(begin, end);
    };
    for_ranges(s_.drop, s_.drop_count, s_.drop_stride, row, close);
    for_ranges(s_.keep, s_.keep_count, s_.keep_stride, row, keep);
  }

  // Takes the k best candidates of a segment, unless one is NaN: then it returns false.
  template <class T>
  EXN_SIMD bool select_from(const T* scores, const Columns& at, int64_t k, int64_t limit,
                            const SelectionScratch& scratch, bool shared, bool may_sample) const {
    if (may_sample && at.end - at.begin >= kLong && k > 0) {
      const bool all = s_.keep_count == 0 && s_.drop_count == 0;
      const int64_t candidates = all ? at.end - at.begin : scratch.open.count(at.begin, at.end);
      const Outcome outcome =
          take_sampled<false>(scores, at, candidates, k, scratch, shared, nullptr, 0);
      if (outcome != Outcome::kMissed) return outcome == Outcome::kTaken;
    }
    float low, high;
    if (!load_scores(scores, at, limit, scratch, &low, &high)) return false;
    take_best(scratch, at.begin, at.end, k, low, high);
    return true;
  }

  // Copies the scores of the words of a segment below `limit`, puts NaN where no candidate is, and
  // finds bounds of them all. Returns whether no candidate is NaN.
  template <class T>
  EXN_SIMD bool load_scores(const T* scores, const Columns& at, int64_t limit,
                            const SelectionScratch& scratch, float* low, float* high) const {
    f32v least = set1(HUGE_VALF), most = set1(-HUGE_VALF);
    uint64_t broken = 0;
    for (int64_t begin = at.begin / 64 * 64; begin < at.end; begin += 64) {
      const uint64_t open = scratch.open.word[begin / 64];
      uint64_t numbers = 0;
      const int64_t rest = limit - begin < 64 ? limit - begin : 64;
      for_vectors(rest, [&](int64_t i, int lanes) EXN_FLAT {
        const f32v v = load_part(scores + begin + i, lanes, NAN);
        numbers |= uint64_t{bits_of(equal(v, v))} << i;
        least = min(v, least);  // a NaN is no bound
        most = max(v, most);
        store(scratch.score + begin + i, v);
      });
      broken |= open & ~numbers;
      for (uint64_t closed = ~open & numbers; closed != 0; closed &= closed - 1)
        scratch.score[begin + __builtin_ctzll(closed)] = NAN;
    }
    *low = -reduce_max(sub(zero(), least));
    *high = reduce_max(most);
    return broken == 0;
  }

  EXN_SIMD void take_best(const SelectionScratch& scratch, int64_t begin, int64_t end, int64_t k,
                          float low, float high) const {
    const int64_t candidates = scratch.open.count(begin, end);
    if (k >= candidates) {
      ColumnSet::for_range(begin, end, [&](int64_t w, uint64_t bits) EXN_FLAT {
        scratch.taken.word[w] |= scratch.open.word[w] & bits;
      });
      return;
    }
    if (k == 0) return;
    const float* x = scratch.score + begin;
    const ScoreCut cut = cut_at(x, end - begin, k, low, high, scratch.near_cut);
    int64_t equals = cut.equal;
    for_vectors(end - begin, [&](int64_t i, int lanes) EXN_FLAT {
      const f32v v = load_part(x + i, lanes, NAN);
      uint32_t bits = bits_of(less(set1(cut.bar), v));
      for (uint32_t same = bits_of(equal(v, set1(cut.bar))); same != 0 && equals > 0;
           same &= same - 1, --equals)
        bits |= same & (~same + 1);
      scratch.taken.insert_bits(begin + i, bits);
    });
  }

  // ---- the list

  __attribute__((noinline)) int64_t write(int64_t row, const SelectionScratch& scratch,
                                          bool shared) const {
    int32_t* list = s_.indices + row * s_.capacity;
    return shared ? write_shared(columns_, list, s_.capacity, scratch)
                  : list_words(scratch, {0, ColumnSet::words(columns_)}, list, list + s_.capacity);
  }

  // The count and the flag of a row, and -1 after the columns that its list has.
  EXN_SIMD void finish(int64_t row, int64_t count, bool valid, bool shared) const {
    int32_t* list = s_.indices + row * s_.capacity;
    if (s_.count != nullptr) s_.count[row] = static_cast<int32_t>(count);
    if (s_.valid != nullptr) s_.valid[row] = valid ? 1 : 0;
    const int64_t first = count < s_.capacity ? count : s_.capacity;
    const int64_t rest = s_.capacity - first;
    for_pieces(SelectionScratch::pieces(rest), shared, [&](int64_t i) EXN_FLAT {
      const int64_t begin = first + i * kPiece;
      const int64_t end = begin + kPiece < s_.capacity ? begin + kPiece : s_.capacity;
      for (int64_t at = begin; at < end; ++at) list[at] = -1;
    });
  }

  Selection s_;
  int64_t columns_;
};

template <class T>
__attribute__((noinline)) void Selector::run(const T* scores, int64_t row, int64_t limit,
                                             const SelectionScratch& scratch, bool shared) const {
  const bool whole = is_whole() && limit >= kLong;
  bool valid = true;
  if (whole && wanted(row, 0) > 0) {
    const int64_t k = wanted(row, 0);
    const Outcome outcome = take_sampled<true>(scores, {0, limit}, limit, k, scratch, shared,
                                               s_.indices + row * s_.capacity, s_.capacity);
    if (outcome == Outcome::kTaken) return finish(row, k, true, shared);
    valid = outcome != Outcome::kBroken;
  }
  mark(row, limit, scratch);
  for (int64_t g = 0; valid && g < s_.segment_count; ++g) {
    const Columns at = {segment(g), segment(g + 1) < limit ? segment(g + 1) : limit};
    const int64_t k = wanted(row, g);
    if (at.begin < at.end) valid = select_from(scores, at, k, limit, scratch, shared, !whole);
  }
  if (!valid) scratch.taken.insert(0, limit);
  finish(row, write(row, scratch, shared), valid, shared);
}

// Compiled in select.cpp alone.
extern template void Selector::run(const float*, int64_t, int64_t, const SelectionScratch&,
                                   bool) const;

}  // namespace exn::cpu::EXN_ISA
