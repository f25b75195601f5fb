// SPDX-License-Identifier: Apache-2.0
// Keys of weights for prune_mask: their order, the window of keys near a guess, and where a row or
// a tensor is cut.
#pragma once

#include <cmath>
#include <cstring>

#include "base/args/prune.h"
#include "selection.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int64_t kTile = 1024;        // keys that are looked at together
constexpr int64_t kUnit = 16 * kTile;  // elements of a row that a thread takes together
constexpr int64_t kUnitsAtOnce = 16;   // before counts are added up
constexpr int kKeyBits = 31;
constexpr int kDigitBits = 11;
constexpr int kMostDigits = 1 << kDigitBits;

constexpr uint32_t kMagnitude = 0x7fffffffu;
constexpr uint32_t kInfinity = 0x7f800000u;
constexpr uint32_t kMostKey = kInfinity + 2;

struct Scratch {
  alignas(64) float scores[kTile];
  float flags[kTile];
  uint32_t keys[kUnit];  // of a row, or of a tile
  // Keys of a row or unit that lie in the window, and where.
  uint32_t near[kUnit];
  int32_t places[kUnit + kMoreListed];
  // Neighbours often have one digit: they count in two places, so that none waits for the other.
  uint32_t counts[2][kMostDigits];
  int64_t below;
  // Of the rows before: the key, 0 for none, and how far from it one looks.
  uint32_t guess;
  uint32_t reach;
};

// How keys are made of scores: those pruned first are smallest, what is pruned already is 0.
struct Order {
  explicit Order(const PruneMaskArgs& a)
      : flip(a.largest ? ~0u : 0), more(a.largest ? kInfinity + 3 : 1), first(a.first) {}
  uint32_t flip;
  uint32_t more;
  bool first;
};

// Elements of one row.
struct Run {
  int64_t row;
  int64_t begin;
  int64_t end;
};

uint8_t* mask_at(const PruneTensor& t, int64_t row, int64_t col) {
  return t.mask + row * t.mask_stride + col;
}

// ---- keys ---------------------------------------------------------------------------------------

template <class T>
EXN_SIMD void make_scores(const T* w, const float* norm, int64_t n, float* scores) {
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    f32v score = load_part(w + i, lanes, 0.0f);
    if (norm != nullptr) score = mul(score, load_part(norm + i, lanes, 0.0f));
    store_part(scores + i, score, lanes);
  });
}

template <class F>
EXN_SIMD void rank(const Order& order, int64_t n, uint32_t* keys, F&& bits_of_score) {
  const uint32_t flip = order.flip, more = order.more;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = bits_of_score(i) & kMagnitude;
    const uint32_t ranked = bits > kInfinity ? kInfinity + 1 : bits;  // NaNs are alike
    keys[i] = (ranked ^ flip) + more;
  }
}

EXN_SIMD void rank(const Order& order, const float* scores, int64_t n, uint32_t* keys) {
  rank(order, n, keys, [&](int64_t i) EXN_FLAT {
    uint32_t bits;
    std::memcpy(&bits, scores + i, sizeof bits);
    return bits;
  });
}

// The keys of at most kTile elements from (row, col) on.
__attribute__((noinline)) void make_keys(const PruneTensor& t, const Order& order, int64_t row,
                                         int64_t col, int64_t n, uint32_t* __restrict keys,
                                         Scratch& s) {
  const int64_t at = row * t.stride + col;
  if (t.norm == nullptr && t.dtype == DType::kF32) {
    rank(order, static_cast<const float*>(t.weight) + at, n, keys);
  } else if (t.norm == nullptr && t.dtype == DType::kBF16) {
    const bf16* w = static_cast<const bf16*>(t.weight) + at;
    rank(order, n, keys, [&](int64_t i) EXN_FLAT { return uint32_t{w[i].bits} << 16; });
  } else {
    with_float_type(t.dtype, [&](auto type) EXN_FLAT {
      using T = EXN_TYPE_OF(type);
      make_scores(static_cast<const T*>(t.weight) + at, t.norm == nullptr ? nullptr : t.norm + col,
                  n, s.scores);
    });
    rank(order, s.scores, n, keys);
  }
  if (order.first) return;
  const uint8_t* __restrict mask = mask_at(t, row, col);
  for (int64_t i = 0; i < n; ++i) keys[i] = mask[i] != 0 ? keys[i] : 0;
}

// Asks for what make_keys will read: it waits for memory, and what is done with keys does not.
EXN_SIMD void prefetch_tile(const PruneTensor& t, int64_t row, int64_t col) {
  const int64_t bytes = size_of(t.dtype);
  const char* at = static_cast<const char*>(t.weight) + (row * t.stride + col) * bytes;
  for (int64_t i = 0; i < kTile * bytes; i += kLine) prefetch_l2(at + i);
  const uint8_t* mask = mask_at(t, row, col);
  for (int64_t i = 0; i < kTile; i += kLine) prefetch_l2(mask + i);
}

// Calls f(col, n) for tiles of a run, their keys in s.keys.
template <class F>
EXN_SIMD void for_tiles(const PruneTensor& t, const Order& order, const Run& run, Scratch& s,
                        F&& f) {
  for (int64_t col = run.begin; col < run.end; col += kTile) {
    const int64_t n = run.end - col < kTile ? run.end - col : kTile;
    make_keys(t, order, run.row, col, n, s.keys, s);
    if (col + n < run.end) prefetch_tile(t, run.row, col + n);
    f(col, n);
  }
}

__attribute__((noinline)) int64_t count_equal(const uint32_t* keys, int64_t n, uint32_t key) {
  uint32_t equal = 0;
  for (int64_t i = 0; i < n; ++i) equal += keys[i] == key ? 1 : 0;
  return equal;
}

__attribute__((noinline)) int64_t count_below(const uint32_t* keys, int64_t n, uint32_t key) {
  uint32_t below = 0;
  for (int64_t i = 0; i < n; ++i) below += keys[i] < key ? 1 : 0;
  return below;
}

// Keeps those whose key is at least so large.
__attribute__((noinline)) void mark(const uint32_t* __restrict keys, int64_t n, uint32_t least,
                                    uint8_t* __restrict mask) {
  for (int64_t i = 0; i < n; ++i) mask[i] = keys[i] >= least ? 1 : 0;
}

// The place after the `number`-th of the keys that are `key`.
int64_t place_after(const uint32_t* keys, int64_t n, uint32_t key, int64_t number) {
  constexpr int64_t kAtOnce = 64;
  int64_t i = 0;
  for (; i + kAtOnce <= n; i += kAtOnce) {
    const int64_t equal = count_equal(keys + i, kAtOnce, key);
    if (equal >= number) break;
    number -= equal;
  }
  for (; number > 0; ++i) number -= keys[i] == key ? 1 : 0;
  return i;
}

// The smallest of n keys that are not below `least`.
uint32_t next_key(const uint32_t* keys, int64_t n, uint32_t least) {
  uint32_t next = kMostKey;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t key = keys[i] < least ? kMostKey : keys[i];
    next = key < next ? key : next;
  }
  return next;
}

// The `wanted`-th smallest of n keys, which lies within low ... high; `below` are smaller than low.
uint32_t select_key(const uint32_t* keys, int64_t n, int64_t wanted, uint32_t low, uint32_t high,
                    int64_t below) {
  while (low < high) {
    if (below + 1 == wanted) return next_key(keys, n, low);
    const uint32_t middle = low + (high - low) / 2;
    const int64_t lower = count_below(keys, n, middle + 1);
    if (lower >= wanted) {
      high = middle;
    } else {
      low = middle + 1;
      below = lower;
    }
  }
  return low;
}

// ---- the window ---------------------------------------------------------------------------------

// Where the key is looked for.
struct Window {
  uint32_t low;
  uint32_t high;
  bool single() const { return low == high; }
};

// Adds up the keys of a tile below the window, and lists those within it after `count` others; the
// first key is at `place`. Returns how many are listed then.
__attribute__((noinline)) int64_t list_near(const uint32_t* keys, int64_t n, const Window& window,
                                            int64_t place, int64_t count, Scratch& s) {
  const uint32_t low = window.low, size = window.high - low;
  uint32_t below = 0;
  for (int64_t i = 0; i < n; ++i) {
    s.flags[i] = keys[i] - low <= size ? 1.0f : 0.0f;
    below += keys[i] < low ? 1 : 0;
  }
  s.below += below;
  for (int64_t i = n; i % 64 != 0; ++i) s.flags[i] = 0;
  int32_t* to = s.places + count;
  for (int64_t i = 0; i < n; i += 64) {
    const auto within = [&](int64_t at) EXN_FLAT { return less(zero(), load(s.flags + i + at)); };
#if defined(EXN_HAS_JOIN_BITS)
    const uint64_t bits = join_bits(within(0), within(16), within(32), within(48));
#else
    uint64_t bits = 0;
    for (int at = 0; at < 64; at += kLanes) bits |= uint64_t{bits_of(within(at))} << at;
#endif
    to = list_columns(bits, static_cast<int32_t>(place + i), to);
  }
  const int64_t end = to - s.places;
  for (int64_t i = count; i < end; ++i) s.near[i] = keys[s.places[i] - place];
  return end;
}

// The key that is looked for, and what it decides.
struct Cut {
  uint32_t key;
  bool splits;  // equal keys are not pruned all
  bool largest;
  int64_t number;  // then the equal ones up to this one have another fate than the rest

  // `wanted` of the `present` equal keys are pruned.
  Cut(uint32_t which, int64_t wanted, int64_t present, bool from_the_end)
      : key(which), largest(from_the_end) {
    // Key 0 is pruned already, however many there are.
    const int64_t taken = key == 0 ? present : wanted;
    splits = taken < present;
    number = largest ? present - taken : taken;
  }
  // What the smallest key is that is kept, before that equal one and after it.
  uint32_t least_before() const { return splits && largest ? key : key + 1; }
  uint32_t least_after() const { return splits && !largest ? key : key + 1; }
};

}  // namespace
}  // namespace exn::cpu::EXN_ISA
