// SPDX-License-Identifier: Apache-2.0
// What was tuned to processors: a row for each, and the prefetch distances that machine code has as
// constants. docs/tuning.md has the measurements. A new processor is a new row.
#pragma once

#include <cstdint>

namespace exn::cpu {

struct Tuning {
  // What a processor's maker and family begin with, "GenuineIntel/6" say.
  const char* processor;
  // VDPBF16PS multiplies faster than widening to f32 does. Decides the bits of bf16 times bf16.
  bool bf16_dot;
  // What a stream of loads will read is prefetched line by line; otherwise hardware does it better.
  bool prefetch_streams;
  // Where two arrays are read together, their lines are prefetched in turn, not one array's first.
  bool prefetch_alternates;
  // Lines that lie apart, or far ahead, are asked for several times, as requests are lost where
  // many are under way.
  bool prefetch_again;
  // Many inputs pass by a few rows of weights that stay in L1, with AVX-512, and each group widens
  // them: where that takes nothing from the multipliers.
  bool blocks_stay;
  // Ticks of the time-stamp counter below which a load comes from a cache of the core, timing
  // included; 0: calls that move much do not look where it lies.
  int cached_ticks;
};

// The first row that fits counts, and the last one fits all.
inline constexpr Tuning kTunings[] = {
    // processor     bf16_dot  streams  alternates  again  blocks_stay  cached_ticks
    {"GenuineIntel", false, true, true, false, false, 0},  // Granite Rapids; not x86: untimed
    {"", true, false, false, true, true, 200},             // Zen 4
};

// The row of this processor.
const Tuning& tuning();

// Bytes before a line, in the direction of reading: places at each of which it is prefetched.
template <int... kBytes>
struct Before {};

// Where prefetch_again: weights, of which a block prefetches all that it reads or half; and keys.
using AllWeightsAgain = Before<0, 12 << 10, 24 << 10, 36 << 10>;
using HalfWeightsAgain = Before<0, 16 << 10, 32 << 10>;
using KeysAgain = Before<1 << 10, 3 << 10>;  // beside the line itself
// Weights of one of several streams, from kStreamAhead bytes before they are read on.
using StreamAgain = Before<3 << 10, 2 << 10, 1 << 10, 0>;
constexpr int kStreamAhead = 4 << 10;
// Bytes of a weight matrix that no cache keeps from one call to the next.
constexpr int64_t kFarBytes = int64_t{16} << 20;
// Bytes from keys that meet queries of f32 to those that are prefetched: into both levels where
// prefetch_streams, into L2 elsewhere; and of a tile that is elsewhere, to the earlier ones.
constexpr int kKeysStagedL1 = 2560, kKeysStagedL2 = 3584;
constexpr int kKeysFar = 12 << 10, kKeysEarlier = 1 << 10;
// Entries of a list (moves.h): how often, and blocks from one time to the next.
constexpr int kEntryTimes = 5, kEntryBlocksApart = 8;
// In the cache: bytes to the entry that is prefetched, and of an entry from which on none is.
constexpr int64_t kNearAhead = 8 << 10, kNearLong = 2 << 10;

}  // namespace exn::cpu
