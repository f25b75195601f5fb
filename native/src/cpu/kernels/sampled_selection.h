// SPDX-License-Identifier: Apache-2.0
// The best columns of a long row, which is passed over once: a sample of it gives two scores that
// the k-th largest is nearly always between, the pass marks what is above both and sets aside the
// few between them, and only among those the bisection looks for the cut. Then each piece knows
// where its list begins. Where the sample misled, or has too many scores between the bounds, the
// row is bisected as a whole (selection.h). Threads share out such a row, the sample included.
#pragma once

#include <cmath>

#include "selection_list.h"

namespace exn::cpu::EXN_ISA {

// Missed: the sample misled, or the row has too many scores near the cut.
enum class Outcome { kTaken, kBroken, kMissed };

// What is between them is near the cut.
struct Bounds {
  float low, high;
};

// Two scores that hold the cut below the best `share` of the candidates, most likely; the same
// one where many candidates have it. False if too many lie between them.
template <bool kWhole, class T>
static EXN_SIMD bool sample(const T* scores, const Columns& at, double share,
                            const SelectionScratch& scratch, bool shared, Bounds* bounds) {
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

// Where the 64 scores at x, or fewer of them, are as is(vector) says.
template <class T, class F>
static EXN_SIMD uint64_t bits_of_word(const T* x, F&& is) {
#if defined(EXN_HAS_JOIN_BITS)
  return join_bits(is(load(x)), is(load(x + 16)), is(load(x + 32)), is(load(x + 48)));
#else
  uint64_t bits = 0;
  for (int i = 0; i < 64; i += kLanes) bits |= uint64_t{bits_of(is(load(x + i)))} << i;
  return bits;
#endif
}
template <class T, class F>
static EXN_SIMD uint64_t bits_of_part(const T* x, int64_t count, F&& is) {
  uint64_t bits = 0;
  for_vectors(count, [&](int64_t i, int lanes) EXN_FLAT {
    bits |= uint64_t{bits_of(is(load_part(x + i, lanes, NAN)))} << i;
  });
  return bits;
}

static EXN_SIMD bool holds_nan(const float* x, int64_t count) {
  uint64_t broken = 0;
  for_vectors(count, [&](int64_t i, int lanes) EXN_FLAT {
    const f32v v = load_part(x + i, lanes, 0.0f);
    broken |= ~bits_of(equal(v, v)) & kAllLanes;
  });
  return broken != 0;
}

// Marks the scores of a piece above the bounds, and those between them; sets these aside at
// `near`, and returns where they end, or, if there is but one such score, counts them. NaN are
// taken for near until they are found there. kWhole: all columns are candidates, and nothing is
// taken as yet.
template <bool kOneScore, bool kWhole, class T>
static EXN_SIMD float* mark_piece(const T* scores, Columns at, int64_t piece, Bounds bounds,
                                  float* near, const SelectionScratch& scratch) {
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
    mark_word(w, open, [&](auto is) EXN_FLAT { return bits_of_part(scores + w * 64, rest, is); });
  };
  for (int64_t first = words.first; first < words.last;) {
    const int64_t end = (first / 64 + 1) * 64, last = end < words.last ? end : words.last;
    const int64_t full = last * 64 <= at.end ? last : last - 1;
    int64_t w = first;
    seen = 0;
    if (w * 64 < at.begin) mark_part(w++);
    for (; w < full; ++w) {
      mark_word(w, ~uint64_t{0},
                [&](auto is) EXN_FLAT { return bits_of_word(scores + w * 64, is); });
    }
    if (w < last) mark_part(w);
    scratch.seen.word[first / 64] = seen;
    first = last;
  }
  if (!kOneScore) same = to - near;
  if (!kOneScore && holds_nan(near, same)) broken = 1;
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
static __attribute__((noinline)) void settle(const Columns& at, int64_t piece, float bar,
                                             const SelectionScratch& scratch, bool shared,
                                             int32_t* list, int64_t capacity) {
  const float* near = scratch.near + scratch.near_at[piece];
  const f32v cut = set1(bar);
  const bool equals = scratch.count[piece] != 0;
  uint64_t* const taken_words = scratch.taken.word;
  const uint64_t* const between_words = scratch.between.word;
  int32_t *to = nullptr, *end = nullptr;
  if (kWhole) {
    const int64_t begin = scratch.above[piece], next = scratch.above[piece + 1];
    if (begin >= capacity) return;
    to = list + begin;
    end = list + (shared && next < capacity ? next : capacity);
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

// Takes the k best of a segment, of which the last lies between the bounds; kWhole: and lists them.
template <bool kOneScore, bool kWhole, class T>
static EXN_SIMD Outcome take_between(const T* scores, const Columns& at, int64_t k,
                                     const Bounds& bounds, const SelectionScratch& scratch,
                                     bool shared, int32_t* list, int64_t capacity) {
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
    settle<kOneScore, kWhole>(at, first + i, cut.bar, scratch, shared, list, capacity);
  });
  return Outcome::kTaken;
}

// Takes the k best of the candidates of a segment; kWhole: and lists them.
template <bool kWhole, class T>
static __attribute__((noinline)) Outcome take_sampled(const T* scores, const Columns& at,
                                                      int64_t candidates, int64_t k,
                                                      const SelectionScratch& scratch, bool shared,
                                                      int32_t* list, int64_t capacity) {
  Bounds bounds;
  if (k >= candidates ||
      !sample<kWhole>(scores, at, static_cast<double>(k) / static_cast<double>(candidates), scratch,
                      shared, &bounds))
    return Outcome::kMissed;
  return bounds.low == bounds.high
             ? take_between<true, kWhole>(scores, at, k, bounds, scratch, shared, list, capacity)
             : take_between<false, kWhole>(scores, at, k, bounds, scratch, shared, list, capacity);
}

}  // namespace exn::cpu::EXN_ISA
