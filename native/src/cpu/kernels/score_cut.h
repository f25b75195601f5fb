// SPDX-License-Identifier: Apache-2.0
// The k-th largest of a row of scores, and the lists of bits that a selection leaves.
#pragma once

#include "../pool.h"
#include "../simd/prefetch.h"
#include "column_set.h"

namespace exn::cpu::EXN_ISA {

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
static __attribute__((noinline)) int64_t keep_between(const float* x, int64_t n, float low,
                                                      float high, float* out) {
  int64_t kept = 0;
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    const f32v v = load_part(x + i, lanes, NAN);
    const uint32_t off = bits_of(less(v, set1(low))) | bits_of(less(set1(high), v));
    kept += store_some(out + kept, v, bits_of(equal(v, v)) & ~off);
  });
  return kept;
}

// Where a row is cut: all above `bar` and the first `equal` of those that equal it.
struct ScoreCut {
  float bar;
  int64_t equal;
};

// The cut that leaves the k largest of n scores; NaN are none of them, and of the others there are
// k > 0 or more, from `low` to `high`. `scratch` holds n / kFew + kLanes scores, and may be x.
constexpr int64_t kFew = 4;
static __attribute__((noinline)) ScoreCut cut_at(const float* x, int64_t n, int64_t k, float low,
                                                 float high, float* scratch) {
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
                     of_rank(static_cast<int32_t>(most)), scratch);
    x = scratch;
    k -= above_most;
    above_least = n;
    above_most = 0;
  }
  return {of_rank(static_cast<int32_t>(least)), k - above_most};
}

// ---- long rows ----------------------------------------------------------------------------------

// From so many columns on a segment is sampled. A sample is an eighth of them or less: it and what
// is looked at of it fit where few of the scores fit.
constexpr int64_t kLong = 16384;
constexpr uint32_t kAllLanes = (uint32_t{1} << kLanes) - 1;
// Columns of a long row that are passed over at a time, by one thread: in L1.
constexpr int64_t kPiece = 8192;
constexpr int64_t kSeenWords = kPiece / 64 / 64;
// Places for its near scores: a few more are written.
constexpr int64_t kNearPiece = kPiece + 64;
// What a thread takes of them, and how many columns pay for waking it.
constexpr int64_t kPiecesOfThread = 2;
constexpr int64_t kWorthThreads = 65536;

// Calls f(i) for [0, pieces), where `shared` on several threads.
template <int64_t kOfThread = kPiecesOfThread, class F>
static EXN_SIMD void for_pieces(int64_t pieces, bool shared, F&& f) {
  parallel_for(pieces, shared ? kOfThread : pieces, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) f(i);
  });
}

// The lowest bit that is set, 0 if none is.
static EXN_SIMD int first_bit(uint64_t bits) {
#if defined(__BMI__)
  return static_cast<int>(__builtin_ia32_tzcnt_u64(bits) & 63);
#else
  return bits != 0 ? __builtin_ctzll(bits) : 0;
#endif
}

// Writes value(i) for each set bit i, and a few more: whether there is one more bit is harder to
// foresee than to write in vain. Returns where the next one goes.
template <int kAtOnce, class T, class F>
static EXN_SIMD T* list_bits(uint64_t bits, T* to, F&& value) {
  T* const end = to + ColumnSet::ones(bits);
  do {
    for (int i = 0; i < kAtOnce; ++i) {
      to[i] = value(first_bit(bits));
      bits &= bits - 1;
    }
    to += kAtOnce;
  } while (to < end);
  return end;
}

// Writes first + i for each set bit i, and up to kMoreListed places more.
constexpr int64_t kMoreListed = 16;
static EXN_SIMD int32_t* list_columns(uint64_t bits, int32_t first, int32_t* to) {
#if defined(EXN_HAS_STORE_NUMBERS)
  return store_numbers(to, first, bits);
#else
  return list_bits<8>(bits, to, [&](int bit) EXN_FLAT { return first + bit; });
#endif
}

// Bit i of `bits` at the place of the i-th bit of `places`.
static EXN_SIMD uint64_t spread(uint64_t bits, uint64_t places) {
#if defined(__BMI2__)
  return __builtin_ia32_pdep_di(bits, places);
#else
  uint64_t all = 0;
  for (; places != 0; places &= places - 1, bits >>= 1)
    all |= (bits & 1) != 0 ? places & (~places + 1) : 0;
  return all;
#endif
}

}  // namespace exn::cpu::EXN_ISA
