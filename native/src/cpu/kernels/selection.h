// SPDX-License-Identifier: Apache-2.0
// The best columns of a row of scores, for select and for what scores and selects in one run.
//
// The k-th largest score is found by bisection of its bits: a pass counts the scores above a
// threshold half way between the bounds, in the order of floats, and as soon as few scores lie
// between the bounds, only those are looked at. At most 32 counts, wherever the scores lie and
// whatever k is. Two more passes mark the columns above the cut and write their numbers.
#pragma once

#include <cmath>

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
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return static_cast<int64_t>(x * 0x0101010101010101u >> 56);
  }
};

// ---- the k-th largest ---------------------------------------------------------------------------

// Floats in ascending order, as integers in ascending order; both zeros are 0.
static EXN_SIMD int32_t rank_of(float x) {
  const uint32_t bits = float_to_bits(x);
  const int32_t magnitude = static_cast<int32_t>(bits & 0x7fffffffu);
  return bits >> 31 != 0 ? -magnitude : magnitude;
}
static EXN_SIMD float of_rank(int32_t rank) {
  return bits_to_float(rank < 0 ? 0x80000000u | static_cast<uint32_t>(-rank)
                                : static_cast<uint32_t>(rank));
}

// Scores above `bar`. Counted in floats, which hold what a lane can count of so many.
static EXN_SIMD int64_t count_above(const float* x, int64_t n, float bar) {
  constexpr int kAtOnce = 4;
  constexpr int64_t kMost = int64_t{kLanes * kAtOnce} << 20;
  int64_t all = 0;
  for (int64_t first = 0; first < n; first += kMost) {
    const int64_t last = n - first < kMost ? n : first + kMost;
    const f32v cut = set1(bar), one = set1(1.0f);
    f32v above[kAtOnce];
    for (f32v& v : above) v = zero();
    int64_t i = first;
    for (; i + kAtOnce * kLanes <= last; i += kAtOnce * kLanes) {
      for (int k = 0; k < kAtOnce; ++k)
        above[k] = add(above[k], select(less(cut, load(x + i + k * kLanes)), one, zero()));
    }
    for_vectors(last - i, [&](int64_t j, int lanes) EXN_FLAT {
      const f32v v = load_part(x + i + j, lanes, bar);
      above[0] = add(above[0], select(less(cut, v), one, zero()));
    });
    for (f32v v : above) all += static_cast<int64_t>(reduce_add(v));
  }
  return all;
}

// Copies the scores from `low` to `high` to `out`, which may be `x`, and returns how many they are.
static EXN_SIMD int64_t keep_between(const float* x, int64_t n, float low, float high, float* out) {
  int64_t kept = 0;
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    const f32v v = load_part(x + i, lanes, NAN);
    const uint32_t off = bits_of(less(v, set1(low))) | bits_of(less(set1(high), v));
    for (uint32_t in = bits_of(equal(v, v)) & ~off; in != 0; in &= in - 1)
      out[kept++] = x[i + __builtin_ctz(in)];
  });
  return kept;
}

// Where a row is cut: all above `bar` and the first `equal` of those that equal it.
struct ScoreCut {
  float bar;
  int64_t equal;
};

// The cut that leaves the k largest of n scores; NaN are none of them, and of the others there are
// more than k > 0, from `low` to `high`. `room` holds n / kFew + kLanes scores.
constexpr int64_t kFew = 4;
static EXN_SIMD ScoreCut cut_at(const float* x, int64_t n, int64_t k, float low, float high,
                                float* room) {
  int64_t least = rank_of(low), most = rank_of(high);
  // Scores above the bounds `least` - 1 and `most`.
  int64_t above_least = n, above_most = 0;
  while (least < most) {
    const int64_t middle = least + (most - least) / 2;
    const int64_t above = count_above(x, n, of_rank(static_cast<int32_t>(middle)));
    if (above >= k) {
      least = middle + 1;
      above_least = above;
    } else {
      most = middle;
      above_most = above;
    }
    if (above_least - above_most > n / kFew || n < 8 * kFew * kLanes) continue;
    n = keep_between(x, n, of_rank(static_cast<int32_t>(least)),
                     of_rank(static_cast<int32_t>(most)), room);
    x = room;
    k -= above_most;
    above_least = n;
    above_most = 0;
  }
  return {of_rank(static_cast<int32_t>(least)), k - above_most};
}

// ---- a row --------------------------------------------------------------------------------------

// Scratch for one row at a time.
struct SelectionRoom {
  float* score = nullptr;  // the row; NaN where a column is no candidate
  float* near_cut = nullptr;
  ColumnSet open;  // candidates
  ColumnSet taken;

  // Rows share rooms: there are as many as can be of use to threads, within a few MiB.
  static EXN_SIMD int64_t rooms(int64_t rows, int64_t columns) {
    constexpr int64_t kMostBytes = int64_t{4} << 20, kMost = 64;
    const int64_t fit = kMostBytes / (padded(columns) * 4 + 1) + 1;
    const int64_t rooms = fit < kMost ? fit : kMost;
    return rows < rooms ? rows : rooms;
  }
  static EXN_SIMD int64_t padded(int64_t columns) { return ColumnSet::words(columns) * 64; }

  EXN_SIMD void take(Workspace& ws, int64_t columns) {
    score = ws.take<float>(padded(columns));
    near_cut = ws.take<float>(columns / kFew + kLanes);
    open.word = ws.take<uint64_t>(ColumnSet::words(columns));
    taken.word = ws.take<uint64_t>(ColumnSet::words(columns) + 1);
  }
};

// Rooms one behind the other.
struct SelectionRooms {
  SelectionRoom first;
  int64_t count = 0, columns = 0;

  EXN_SIMD void take(Workspace& ws, int64_t rows, int64_t of_columns) {
    columns = of_columns;
    count = SelectionRoom::rooms(rows, columns);
    for (int64_t i = 0; i < count; ++i) {
      SelectionRoom room;
      room.take(ws, columns);
      if (i == 0) first = room;
      if (i == 1) step_ = room.score - first.score;
    }
  }
  EXN_SIMD SelectionRoom room(int64_t i) const {
    SelectionRoom r = first;
    r.score += i * step_;
    r.near_cut += i * step_;
    r.open.word += i * step_ / 2;
    r.taken.word += i * step_ / 2;
    return r;
  }

 private:
  int64_t step_ = 0;  // floats between rooms
};

// Selections of rows; contents are checked.
class Selector {
 public:
  EXN_SIMD Selector(const Selection& selection, int64_t columns)
      : s_(selection), columns_(columns) {}

  // Row `row`, whose candidates lie below `limit`. The scores may be those of the room.
  template <class T>
  EXN_SIMD void run(const T* scores, int64_t row, int64_t limit, const SelectionRoom& room) const {
    mark(row, limit, room);
    float low, high;
    const bool valid = load_scores(scores, limit, room, &low, &high);
    for (int64_t g = 0; valid && g < s_.segment_count; ++g) {
      const int64_t end = segment(g + 1) < limit ? segment(g + 1) : limit;
      const int64_t k = s_.budget != nullptr ? s_.budget[row * s_.segment_count + g] : s_.k;
      if (segment(g) < end) take_best(room, segment(g), end, k, low, high);
    }
    if (!valid) room.taken.insert(0, limit);
    write(row, valid, room);
  }

 private:
  EXN_SIMD int64_t segment(int64_t g) const {
    return s_.segments != nullptr ? s_.segments[g] : g == 0 ? 0 : columns_;
  }

  // Calls f(begin, end) for the ranges of a row.
  template <class F>
  static EXN_SIMD void for_ranges(const int32_t* ranges, int64_t count, int64_t stride, int64_t row,
                                  F&& f) {
    const int32_t* of_row = ranges + row * stride;
    for (int64_t m = 0; m < count; ++m) f(of_row[2 * m], of_row[2 * m + 1]);
  }

  EXN_SIMD void mark(int64_t row, int64_t limit, const SelectionRoom& room) const {
    const int64_t first = segment(0), last = segment(s_.segment_count);
    room.open.clear(columns_);
    room.taken.clear(columns_ + 64);
    room.open.insert(first, last < limit ? last : limit);
    const auto close = [&](int64_t begin, int64_t end) EXN_FLAT { room.open.remove(begin, end); };
    const auto keep = [&](int64_t begin, int64_t end) EXN_FLAT {
      room.open.remove(begin, end);
      room.taken.insert(begin, end);
    };
    for_ranges(s_.drop, s_.drop_count, s_.drop_stride, row, close);
    for_ranges(s_.keep, s_.keep_count, s_.keep_stride, row, keep);
  }

  // Copies the scores below `limit`, puts NaN where no candidate is, and finds bounds of them all.
  // Returns whether no candidate is NaN.
  template <class T>
  EXN_SIMD bool load_scores(const T* scores, int64_t limit, const SelectionRoom& room, float* low,
                            float* high) const {
    f32v least = set1(HUGE_VALF), most = set1(-HUGE_VALF);
    uint64_t broken = 0;
    for (int64_t begin = 0; begin < limit; begin += 64) {
      const uint64_t open = room.open.word[begin / 64];
      uint64_t numbers = 0;
      const int64_t rest = limit - begin < 64 ? limit - begin : 64;
      for_vectors(rest, [&](int64_t i, int lanes) EXN_FLAT {
        const f32v v = load_part(scores + begin + i, lanes, NAN);
        numbers |= uint64_t{bits_of(equal(v, v))} << i;
        least = min(v, least);  // a NaN is no bound
        most = max(v, most);
        store(room.score + begin + i, v);
      });
      broken |= open & ~numbers;
      for (uint64_t closed = ~open & numbers; closed != 0; closed &= closed - 1)
        room.score[begin + __builtin_ctzll(closed)] = NAN;
    }
    *low = -reduce_max(sub(zero(), least));
    *high = reduce_max(most);
    return broken == 0;
  }

  EXN_SIMD void take_best(const SelectionRoom& room, int64_t begin, int64_t end, int64_t k,
                          float low, float high) const {
    const int64_t candidates = room.open.count(begin, end);
    if (k >= candidates) {
      ColumnSet::for_range(begin, end, [&](int64_t w, uint64_t bits) EXN_FLAT {
        room.taken.word[w] |= room.open.word[w] & bits;
      });
      return;
    }
    if (k == 0) return;
    const float* x = room.score + begin;
    const ScoreCut cut = cut_at(x, end - begin, k, low, high, room.near_cut);
    int64_t equals = cut.equal;
    for_vectors(end - begin, [&](int64_t i, int lanes) EXN_FLAT {
      const f32v v = load_part(x + i, lanes, NAN);
      uint32_t bits = bits_of(less(set1(cut.bar), v));
      for (uint32_t same = bits_of(equal(v, set1(cut.bar))); same != 0 && equals > 0;
           same &= same - 1, --equals)
        bits |= same & (~same + 1);
      room.taken.insert_bits(begin + i, bits);
    });
  }

  EXN_SIMD void write(int64_t row, bool valid, const SelectionRoom& room) const {
    int32_t* list = s_.indices + row * s_.capacity;
    int64_t count = 0;
    for (int64_t w = 0; w < ColumnSet::words(columns_); ++w) {
      uint64_t left = room.taken.word[w];
      for (; left != 0 && count < s_.capacity; left &= left - 1)
        list[count++] = static_cast<int32_t>(w * 64 + __builtin_ctzll(left));
      count += ColumnSet::ones(left);
    }
    if (s_.count != nullptr) s_.count[row] = static_cast<int32_t>(count);
    if (s_.valid != nullptr) s_.valid[row] = valid ? 1 : 0;
    for (; count < s_.capacity; ++count) list[count] = -1;
  }

  Selection s_;
  int64_t columns_;
};

}  // namespace exn::cpu::EXN_ISA
