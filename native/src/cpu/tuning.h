// SPDX-License-Identifier: Apache-2.0
// What kernels choose by processor, and the prefetch distances that machine code has as constants.
// No choice decides a bit of a result. A default follows from what a processor is (tuning.cpp);
// calibrate.cpp measures what is better on this one. docs/tuning.md has the measurements.
#pragma once

#include <cstdint>

namespace exn::cpu {

// X(name, values...): each choice and the values that it may have.
//
// prefetch_streams     what a stream of loads will read is prefetched line by line; otherwise
//                      hardware does it better
// prefetch_alternates  where two arrays are read together, their lines are prefetched in turn, not
//                      one array's first
// prefetch_again       lines that lie apart, or far ahead, are asked for several times, as requests
//                      are lost where many are under way
// stream_requests      where four rows are read side by side for one input, how often each line of
//                      weights from memory is asked for; without prefetch_streams
// blocks_stay          many inputs pass by a few rows of weights that stay in L1, with AVX-512, and
//                      each group widens them: where that takes nothing from the multipliers
// blocks_at_once       the most inputs that meet rows of blocks together; more go in groups of four,
//                      and so do, unless it is 8, those of rows that are several depth blocks
// cached_ticks         ticks of the time-stamp counter below which a load comes from a cache of the
//                      core, timing included; 0: calls that move much do not look where it lies
// far_mib              MiB of weights that no cache keeps from one call to the next
#define EXN_FOR_EACH_CHOICE(X)                          \
  X(prefetch_streams, 0, 1)                             \
  X(prefetch_alternates, 0, 1)                          \
  X(prefetch_again, 0, 1)                               \
  X(stream_requests, 0, 1, 4)                           \
  X(blocks_stay, 0, 1)                                  \
  X(blocks_at_once, 4, 5, 8)                            \
  X(cached_ticks, 0, 100, 150, 200, 250, 300, 400, 600) \
  X(far_mib, 4, 8, 16, 32, 64, 128, 256)

// A choice. It may be made anew while kernels run, which then take one way or the other.
class Choice {
 public:
  __attribute__((always_inline)) operator int() const {
    return __atomic_load_n(&value_, __ATOMIC_RELAXED);
  }
  void choose(int value) { __atomic_store_n(&value_, value, __ATOMIC_RELAXED); }

 private:
  int value_ = 0;
};

struct Tuning {
#define EXN_CHOICE(name, ...) Choice name;
  EXN_FOR_EACH_CHOICE(EXN_CHOICE)
#undef EXN_CHOICE

  __attribute__((always_inline)) int64_t far_bytes() const { return int64_t{far_mib} << 20; }
};

extern Tuning in_force;

__attribute__((always_inline)) inline const Tuning& tuning() { return in_force; }

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
// Bytes from keys that meet queries of f32 to those that are prefetched: into both levels where
// prefetch_streams, into L2 elsewhere; and of a tile that is elsewhere, to the earlier ones.
constexpr int kKeysStagedL1 = 2560, kKeysStagedL2 = 3584;
constexpr int kKeysFar = 12 << 10, kKeysEarlier = 1 << 10;
// Entries of a list (moves.h): how often, and blocks from one time to the next.
constexpr int kEntryTimes = 5, kEntryBlocksApart = 8;
// In the cache: bytes to the entry that is prefetched, and of an entry from which on none is.
constexpr int64_t kNearAhead = 8 << 10, kNearLong = 2 << 10;

}  // namespace exn::cpu
