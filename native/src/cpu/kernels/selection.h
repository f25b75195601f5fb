// SPDX-License-Identifier: Apache-2.0
// The best columns of a row of scores, for select and for what scores and selects in one run.
//
// The k-th largest score is found by bisection of its bits: a pass counts the scores above a
// threshold half way between the bounds, in the order of floats, and as soon as few scores lie
// between the bounds, only those are looked at. At most 32 counts, wherever the scores lie and
// whatever k is. Two more passes mark the columns above the cut and write their numbers.
//
// A long row is passed over once instead: a sample of it gives two scores that the k-th largest is
// nearly always between, the pass marks what is above both and sets aside the few between them, and
// only among those the bisection looks for the cut. Then each piece knows where its list begins.
// Where the sample misled, or has too many scores between the bounds, the row is bisected as a
// whole. Threads share out such a row, the sample included.
#pragma once

#include <cmath>

#include "score_cut.h"

namespace exn::cpu::EXN_ISA {

// ---- a row --------------------------------------------------------------------------------------

// Scratch for one row at a time.
struct SelectionScratch {
  float* score = nullptr;  // the row; NaN where a column is no candidate
  float* near_cut = nullptr;
  ColumnSet open;  // candidates
  ColumnSet taken;
  // Of long rows, the scores between the bounds, those of a piece from its first column on, and
  // their columns, which count in those words alone that have a bit in `seen`.
  float* near = nullptr;
  ColumnSet between;
  ColumnSet seen;
  // Of each piece, how many scores are above the bounds and between them, where -1 stands for NaN;
  // later where its list begins, and how many columns it has or takes of those that equal the cut.
  int32_t* above = nullptr;
  int32_t* count = nullptr;
  // Where its near scores begin: after those of the piece before it, if a thread marked both.
  int64_t* near_at = nullptr;

  // How many rows have a scratch at a time: as many as can be of use to threads, within a few MiB.
  static EXN_SIMD int64_t count_for(int64_t rows, int64_t columns) {
    constexpr int64_t kMostBytes = int64_t{4} << 20, kMost = 64;
    const int64_t fit = kMostBytes / (padded(columns) * 4 + 1) + 1;
    const int64_t scratches = fit < kMost ? fit : kMost;
    return rows < scratches ? rows : scratches;
  }
  static EXN_SIMD int64_t padded(int64_t columns) { return ColumnSet::words(columns) * 64; }
  static EXN_SIMD int64_t pieces(int64_t columns) { return (columns + kPiece - 1) / kPiece; }

  EXN_SIMD void take(Workspace& ws, int64_t columns) {
    score = ws.take<float>(padded(columns));
    near_cut = ws.take<float>(columns / kFew + kLanes);
    open.word = ws.take<uint64_t>(ColumnSet::words(columns));
    taken.word = ws.take<uint64_t>(ColumnSet::words(columns) + 1);
    if (columns < kLong) return;
    near = ws.take<float>(pieces(columns) * kNearPiece);
    between.word = ws.take<uint64_t>(ColumnSet::words(columns));
    seen.word = ws.take<uint64_t>(pieces(columns) * kSeenWords);
    above = ws.take<int32_t>(pieces(columns) + 1);
    count = ws.take<int32_t>(pieces(columns));
    near_at = ws.take<int64_t>(pieces(columns));
  }
};

// The scratch memory of several rows, one after another.
struct SelectionScratches {
  SelectionScratch first;
  int64_t count = 0, columns = 0;

  EXN_SIMD void take(Workspace& ws, int64_t rows, int64_t of_columns) {
    columns = of_columns;
    count = SelectionScratch::count_for(rows, columns);
    for (int64_t i = 0; i < count; ++i) {
      SelectionScratch scratch;
      scratch.take(ws, columns);
      if (i == 0) first = scratch;
      if (i == 1) step_ = scratch.score - first.score;
    }
  }
  EXN_SIMD SelectionScratch at(int64_t i) const {
    SelectionScratch r = first;
    r.score += i * step_;
    r.near_cut += i * step_;
    r.open.word += i * step_ / 2;
    r.taken.word += i * step_ / 2;
    if (columns < kLong) return r;
    r.near += i * step_;
    r.between.word += i * step_ / 2;
    r.seen.word += i * step_ / 2;
    r.above += i * step_;
    r.count += i * step_;
    r.near_at += i * step_ / 2;
    return r;
  }

 private:
  int64_t step_ = 0;  // floats between scratches
};

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
  struct Columns {
    int64_t begin, end;
  };

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
      const Outcome outcome = take_sampled<false>(scores, at, k, scratch, shared, nullptr);
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

  // ---- the same of long segments, from a sample

  enum class Outcome { kTaken, kBroken, kMissed };

  // What is between them is near the cut.
  struct Bounds {
    float low, high;
  };

  // Words of a piece, as far as the columns reach.
  struct Words {
    int64_t first, last;
  };
  static EXN_SIMD Words words_of(const Columns& at, int64_t piece) {
    constexpr int64_t kWords = kPiece / 64;
    const int64_t begin = at.begin / 64, end = ColumnSet::words(at.end);
    return {begin > piece * kWords ? begin : piece * kWords,
            end < (piece + 1) * kWords ? end : (piece + 1) * kWords};
  }

  // Two scores that hold the cut below the best `share` of the candidates, most likely; the same
  // one where many candidates have it. False if too many lie between them.
  template <bool kWhole, class T>
  EXN_SIMD bool sample(const T* scores, const Columns& at, double share,
                       const SelectionScratch& scratch, bool shared, Bounds* bounds) const {
    const int64_t n = at.end - at.begin;
    // Of a small share few lie between the bounds anyway.
    const int largest = share < 1.0 / 512 ? 12 : 13;
    int shift = 11;
    while (shift < largest && n >> shift > 32) ++shift;
    constexpr int64_t kSampleChunk = 1024;
    float* const x = scratch.near_cut;
    for_pieces<1>((int64_t{1} << shift) / kSampleChunk, shared, [&](int64_t chunk) EXN_FLAT {
      for (int64_t i = chunk * kSampleChunk; i < (chunk + 1) * kSampleChunk; ++i) {
        const uint32_t jitter = static_cast<uint32_t>(i) * 2654435761u >> 16;
        const int64_t j = at.begin + ((i << 16 | jitter) * n >> (16 + shift));
        const bool open = kWhole || (scratch.open.word[j / 64] >> j % 64 & 1) != 0;
        x[i] = open ? to_float(scores[j]) : NAN;
      }
    });
    int64_t count = int64_t{1} << shift;
    f32v least = set1(HUGE_VALF), most = set1(-HUGE_VALF);
    uint32_t numbers = kAllLanes;
    for (int64_t i = 0; i < count; i += kLanes) {
      const f32v v = load(x + i);
      numbers &= bits_of(equal(v, v));
      least = min(v, least);  // a NaN is no bound
      most = max(v, most);
    }
    const float lowest = -reduce_max(sub(zero(), least)), highest = reduce_max(most);
    if (numbers != kAllLanes) count = keep_between(x, count, lowest, highest, x);
    if (count == 0) return false;
    float* const more = x + count;
    const auto best = [&](int64_t place, float* free) EXN_FLAT {
      return cut_at(x, count, place, lowest, highest, free).bar;
    };
    // The place of the cut in the sample, and four deviations to both sides.
    const double place = share * static_cast<double>(count);
    const double away = 4 * ::sqrt(place * (1 - share)) + 4;
    const auto above = place < away ? 0 : static_cast<int64_t>(place - away);
    const int64_t below = static_cast<int64_t>(place + away) + 1;
    for_pieces<1>(2, shared, [&](int64_t side) {
      if (side == 0) {
        bounds->high = above < 1 ? HUGE_VALF : best(above, more);
      } else {
        bounds->low = below > count ? -HUGE_VALF : best(below, more + count / kFew + kLanes);
      }
    });
    const int64_t near = keep_between(x, count, bounds->low, bounds->high, more);
    if (near <= count / 10) return true;  // as where scores differ
    const float bar = best(static_cast<int64_t>(place) + 1, more);
    if (keep_between(x, count, bar, bar, more) <= near / 2) return near <= count / (2 * kFew);
    bounds->low = bounds->high = bar;
    return true;
  }

  // Marks the scores of a piece above the bounds, and those between them; sets these aside at
  // `near`, and returns where they end, or, if there is but one such score, counts them. NaN are
  // taken for near until they are found there. kWhole: all columns are candidates, and nothing is
  // taken as yet.
  template <bool kOneScore, bool kWhole, class T>
  EXN_SIMD float* mark_piece(const T* scores, Columns at, int64_t piece, Bounds bounds, float* near,
                             const SelectionScratch& scratch) const {
    const Words words = words_of(at, piece);
    constexpr int64_t kAhead = 4096 / sizeof(T);
    const bool ahead = tuning().prefetch_streams;
    // What the loop writes may lie anywhere, for all that the compiler knows, so it reads copies.
    uint64_t* const open_words = scratch.open.word;
    uint64_t* const taken_words = scratch.taken.word;
    uint64_t* const between_words = scratch.between.word;
    const f32v low = set1(bounds.low), high = set1(bounds.high);
    float* to = near;
    int64_t taken = 0, same = 0;
    uint64_t broken = 0, seen = 0;
    const auto mark_word = [&](int64_t w, uint64_t open, auto&& bits_where) EXN_FLAT {
      const T* x = scores + w * 64;
      for (int i = 0; ahead && i < 64; i += kLineOf<T>) prefetch_l1(x + kAhead + i);
      if (!kWhole) open &= open_words[w];
      open &= ~bits_where([&](f32v v) EXN_FLAT { return less(v, low); });
      if (open == 0) return;
      const uint64_t above = open & bits_where([&](f32v v) EXN_FLAT { return less(high, v); });
      const uint64_t between = open & ~above;
      taken_words[w] = kWhole ? above : taken_words[w] | above;
      between_words[w] = between;
      seen |= uint64_t{1} << w % 64;
      taken += ColumnSet::ones(above);
      if (kOneScore) {
        broken |= between & ~bits_where([&](f32v v) EXN_FLAT { return equal(v, low); });
        same += ColumnSet::ones(between);
      } else {
        to = list_bits<3>(between, to, [&](int j) EXN_FLAT { return to_float(x[j]); });
      }
    };
    const auto mark_part = [&](int64_t w) EXN_FLAT {
      const int64_t rest = at.end - w * 64 < 64 ? at.end - w * 64 : 64;
      uint64_t open = ~uint64_t{0} >> (64 - rest);
      if (w * 64 < at.begin) open &= ~uint64_t{0} << at.begin % 64;
      mark_word(w, open, [&](auto is) EXN_FLAT {
        uint64_t bits = 0;
        for_vectors(rest, [&](int64_t i, int lanes) EXN_FLAT {
          bits |= uint64_t{bits_of(is(load_part(scores + w * 64 + i, lanes, NAN)))} << i;
        });
        return bits;
      });
    };
    for (int64_t first = words.first; first < words.last;) {
      const int64_t end = (first / 64 + 1) * 64, last = end < words.last ? end : words.last;
      const int64_t full = last * 64 <= at.end ? last : last - 1;
      int64_t w = first;
      seen = 0;
      if (w * 64 < at.begin) mark_part(w++);
      for (; w < full; ++w) {
        mark_word(w, ~uint64_t{0}, [&](auto is) EXN_FLAT {
          const T* x = scores + w * 64;
#if defined(EXN_HAS_JOIN_BITS)
          return join_bits(is(load(x)), is(load(x + 16)), is(load(x + 32)), is(load(x + 48)));
#else
          uint64_t bits = 0;
          for (int i = 0; i < 64; i += kLanes) bits |= uint64_t{bits_of(is(load(x + i)))} << i;
          return bits;
#endif
        });
      }
      if (w < last) mark_part(w);
      scratch.seen.word[first / 64] = seen;
      first = last;
    }
    if (!kOneScore) {
      same = to - near;
      for_vectors(same, [&](int64_t i, int lanes) EXN_FLAT {
        const f32v v = load_part(near + i, lanes, 0.0f);
        broken |= ~bits_of(equal(v, v)) & kAllLanes;
      });
    }
    scratch.above[piece] = static_cast<int32_t>(taken);
    scratch.count[piece] = broken != 0 ? -1 : static_cast<int32_t>(same);
    scratch.near_at[piece] = near - scratch.near;
    return to;
  }

  // Calls f(w) for the words of a piece that were seen.
  template <class F>
  static EXN_SIMD void for_seen(const Columns& at, int64_t piece, const SelectionScratch& scratch,
                                F&& f) {
    const Words words = words_of(at, piece);
    for (int64_t s = words.first / 64; s * 64 < words.last; ++s) {
      for (uint64_t left = scratch.seen.word[s]; left != 0; left &= left - 1)
        f(s * 64 + first_bit(left));
    }
  }

  // Takes the scores of a piece above the bar, and those that equal it if the piece takes any.
  // kWhole: lists what is taken, by several threads if `shared`.
  template <bool kOneScore, bool kWhole>
  __attribute__((noinline)) void settle(const Columns& at, int64_t piece, float bar,
                                        const SelectionScratch& scratch, bool shared,
                                        int32_t* list) const {
    const float* near = scratch.near + scratch.near_at[piece];
    const f32v cut = set1(bar);
    const bool equals = scratch.count[piece] != 0;
    uint64_t* const taken_words = scratch.taken.word;
    const uint64_t* const between_words = scratch.between.word;
    int32_t *to = nullptr, *end = nullptr;
    if (kWhole) {
      const int64_t begin = scratch.above[piece], next = scratch.above[piece + 1];
      if (begin >= s_.capacity) return;
      to = list + begin;
      end = list + (shared && next < s_.capacity ? next : s_.capacity);
    }
    const auto settle_words = [&](auto is) EXN_FLAT {
      for_seen(at, piece, scratch, [&](int64_t w) EXN_FLAT {
        const uint64_t between = between_words[w];
        uint64_t bits = taken_words[w];
        if (kOneScore) {
          bits |= equals ? between : 0;
        } else {
          const int64_t ones = ColumnSet::ones(between);
          uint64_t above = 0;
          int64_t i = 0;
          do {  // at least once: often it is once, and rarely none at all
            above |= uint64_t{is(load(near + i))} << i;
            i += kLanes;
          } while (i < ones);
          near += ones;
          bits |= spread(above, between);
        }
        if (!kWhole) {
          taken_words[w] = bits;
        } else {
          to = list_word(w, bits, to, end);
        }
      });
    };
    if (equals) {
      settle_words([&](f32v v) EXN_FLAT { return bits_of(less(cut, v)) | bits_of(equal(cut, v)); });
    } else {
      settle_words([&](f32v v) EXN_FLAT { return bits_of(less(cut, v)); });
    }
  }

  // Leaves the first of a piece's near columns that equal the bar, so many, and none of the others.
  template <bool kOneScore>
  static __attribute__((noinline)) void leave_first(const Columns& at, int64_t piece, int64_t some,
                                                    float bar, const SelectionScratch& scratch) {
    if (kOneScore) {
      for_seen(at, piece, scratch, [&](int64_t w) EXN_FLAT {
        uint64_t bits = some > 0 ? scratch.between.word[w] : 0;
        int64_t ones = ColumnSet::ones(bits);
        for (; ones > some; --ones) bits &= ~(uint64_t{1} << (63 - __builtin_clzll(bits)));
        scratch.between.word[w] = bits;
        some -= ones;
      });
      return;
    }
    float* const near = scratch.near + scratch.near_at[piece];
    for (int64_t i = 0; i < scratch.count[piece]; ++i) {
      if (near[i] == bar && --some < 0) near[i] = NAN;
    }
  }

  // Where the lists of pieces begin, and which pieces take what equals the bar.
  template <bool kOneScore>
  static __attribute__((noinline)) void share_out(const Columns& at, int64_t equals, float bar,
                                                  const SelectionScratch& scratch) {
    const f32v cut = set1(bar), one = set1(1.0f);
    int32_t begin = 0;
    const int64_t last = (at.end - 1) / kPiece;
    for (int64_t i = at.begin / kPiece; i <= last; ++i) {
      int64_t more = scratch.above[i], same = scratch.count[i];
      if (!kOneScore) {
        const float* near = scratch.near + scratch.near_at[i];
        f32v above = zero(), equal_to = zero();
        for_vectors(scratch.count[i], [&](int64_t j, int lanes) EXN_FLAT {
          const f32v v = load_part(near + j, lanes, NAN);
          above = add(above, select(less(cut, v), one, zero()));
          equal_to = add(equal_to, select(equal(cut, v), one, zero()));
        });
        more += static_cast<int64_t>(reduce_add(above));
        same = static_cast<int64_t>(reduce_add(equal_to));
      }
      if (same > equals) {
        if (equals > 0) leave_first<kOneScore>(at, i, equals, bar, scratch);
        same = equals;
      }
      equals -= same;
      scratch.above[i] = begin;
      scratch.count[i] = static_cast<int32_t>(same);
      begin += static_cast<int32_t>(more + same);
    }
    scratch.above[last + 1] = begin;
  }

  // Takes the k best of a segment; kWhole: and lists them.
  template <bool kWhole, class T>
  __attribute__((noinline)) Outcome take_sampled(const T* scores, const Columns& at, int64_t k,
                                                 const SelectionScratch& scratch, bool shared,
                                                 int32_t* list) const {
    const bool all = s_.keep_count == 0 && s_.drop_count == 0;
    const int64_t candidates = all ? at.end - at.begin : scratch.open.count(at.begin, at.end);
    Bounds bounds;
    if (k >= candidates ||
        !sample<kWhole>(scores, at, static_cast<double>(k) / static_cast<double>(candidates),
                        scratch, shared, &bounds))
      return Outcome::kMissed;
    return bounds.low == bounds.high
               ? take_between<true, kWhole>(scores, at, k, bounds, scratch, shared, list)
               : take_between<false, kWhole>(scores, at, k, bounds, scratch, shared, list);
  }

  template <bool kOneScore, bool kWhole, class T>
  EXN_SIMD Outcome take_between(const T* scores, const Columns& at, int64_t k, const Bounds& bounds,
                                const SelectionScratch& scratch, bool shared, int32_t* list) const {
    const int64_t first = at.begin / kPiece, last = (at.end + kPiece - 1) / kPiece;
    const int64_t chunk = shared ? kPiecesOfThread : last - first;
    parallel_for(last - first, chunk, [&](int64_t begin, int64_t end) {
      float* to = scratch.near + begin * kNearPiece;
      for (int64_t i = begin; i < end; ++i)
        to = mark_piece<kOneScore, kWhole>(scores, at, first + i, bounds, to, scratch);
    });
    int64_t near = 0;
    for (int64_t i = first; i < last; ++i) {
      if (scratch.count[i] < 0) return Outcome::kBroken;
      k -= scratch.above[i];
      near += scratch.count[i];
    }
    if (k <= 0 || k > near || (!kOneScore && near > (at.end - at.begin) / kFew)) {
      if (!kWhole) {
        ColumnSet::for_range(at.begin, at.end, [&](int64_t w, uint64_t bits) EXN_FLAT {
          scratch.taken.word[w] &= ~(scratch.open.word[w] & bits);
        });
      }
      return Outcome::kMissed;
    }
    ScoreCut cut = {bounds.low, k};
    if (!kOneScore) {
      const float* x = scratch.near + scratch.near_at[first];
      // Several threads leave several runs of them.
      if (x + near != scratch.near + scratch.near_at[last - 1] + scratch.count[last - 1]) {
        int64_t n = 0;
        for (int64_t i = first; i < last; ++i) {
          const float* from = scratch.near + scratch.near_at[i];
          for_vectors(scratch.count[i], [&](int64_t j, int lanes) EXN_FLAT {
            store_part(scratch.near_cut + n + j, load_part(from + j, lanes, 0.0f), lanes);
          });
          n += scratch.count[i];
        }
        x = scratch.near_cut;
      }
      cut = cut_at(x, near, k, bounds.low, bounds.high, scratch.near_cut);
    }
    share_out<kOneScore>(at, cut.equal, cut.bar, scratch);
    for_pieces(last - first, shared, [&](int64_t i) EXN_FLAT {
      settle<kOneScore, kWhole>(at, first + i, cut.bar, scratch, shared, list);
    });
    return Outcome::kTaken;
  }

  // ---- the list

  // The columns of a word, up to `end`; returns where the next ones go.
  static EXN_SIMD int32_t* list_word(int64_t w, uint64_t bits, int32_t* to, int32_t* end) {
    const auto number = static_cast<int32_t>(w * 64);
    if (end - to >= 64 || end - to >= ColumnSet::ones(bits) + kMoreListed)
      return list_columns(bits, number, to);
    for (; bits != 0 && to < end; bits &= bits - 1) *to++ = number + first_bit(bits);
    return to;
  }

  // The columns of some words, from `to` up to `end`. Returns how many there are.
  static EXN_SIMD int64_t list_words(const SelectionScratch& scratch, const Words& words,
                                     int32_t* to, int32_t* end) {
    int64_t all = 0;
    for (int64_t w = words.first; w < words.last; ++w) {
      const uint64_t left = scratch.taken.word[w];
      if (left == 0) continue;
      all += ColumnSet::ones(left);
      to = list_word(w, left, to, end);
    }
    return all;
  }

  __attribute__((noinline)) int64_t write(int64_t row, const SelectionScratch& scratch,
                                          bool shared) const {
    int32_t* list = s_.indices + row * s_.capacity;
    return shared ? write_shared(list, scratch)
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

  // The list of a long row, by all threads; returns how many columns are taken.
  __attribute__((noinline)) int64_t write_shared(int32_t* list,
                                                 const SelectionScratch& scratch) const {
    const Columns all = {0, columns_};
    const int64_t pieces = SelectionScratch::pieces(columns_);
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
      if (begin >= s_.capacity) return;
      list_words(scratch, words_of(all, i), list + begin,
                 list + (end < s_.capacity ? end : s_.capacity));
    });
    return count;
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
    const Outcome outcome =
        take_sampled<true>(scores, {0, limit}, k, scratch, shared, s_.indices + row * s_.capacity);
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
