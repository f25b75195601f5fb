// SPDX-License-Identifier: Apache-2.0
// What tells images, and the heads they were made of, from others.
#pragma once

#include <cstdint>
#include <cstring>

#include "args.h"

namespace exn {

// XXH64 of the same bytes with two seeds, which share all but the sums: 128 bits that tell
// accidents, not enemies. Of many bytes it takes less time than the memory they come from.
class Digest {
 public:
  EXN_INLINE void bytes(const void* from, int64_t count) {
    const char* p = static_cast<const char*>(from);
    total_ += static_cast<uint64_t>(count);
    if (held_ > 0) {
      const int64_t missing = kStripe - held_, taken = count < missing ? count : missing;
      std::memcpy(rest_ + held_, p, static_cast<size_t>(taken));
      held_ += taken;
      p += taken;
      count -= taken;
      if (held_ < kStripe) return;
      stripes(rest_, 1);
      held_ = 0;
    }
    stripes(p, count / kStripe);
    held_ = count % kStripe;
    std::memcpy(rest_, p + (count - held_), static_cast<size_t>(held_));
  }

  EXN_INLINE void number(int64_t n) { bytes(&n, sizeof n); }

  // Of all bytes so far: the digest with the seed 0, and with the other.
  EXN_INLINE void take(uint64_t (&to)[2]) const {
    for (int s = 0; s < 2; ++s) to[s] = last(s);
  }

  EXN_INLINE bool is(const uint64_t (&other)[2]) const {
    return last(0) == other[0] && last(1) == other[1];
  }

 private:
  static constexpr int64_t kStripe = 32;
  static constexpr int64_t kAhead = 4096;  // bytes: a page, so that the next one is mapped by then
  static constexpr uint64_t kSeeds[2] = {0, 0x5deece66d1ce4e5bu};
  static constexpr uint64_t kPrimes[5] = {0x9e3779b185ebca87u, 0xc2b2ae3d27d4eb4fu,
                                          0x165667b19e3779f9u, 0x85ebca77c2b2ae63u,
                                          0x27d4eb2f165667c5u};

  static EXN_INLINE uint64_t turned(uint64_t x, int by) { return x << by | x >> (64 - by); }
  static EXN_INLINE uint64_t round(uint64_t sum, uint64_t scaled) {
    return turned(sum + scaled, 31) * kPrimes[0];
  }
  static EXN_INLINE uint64_t word(const char* p) {
    uint64_t w;
    std::memcpy(&w, p, sizeof w);
    return w;
  }

  EXN_INLINE void stripes(const char* p, int64_t count) {
    // In registers, each for itself: as arrays they would become vectors, whose products of 64 bits
    // are slower.
    uint64_t a0 = sums_[0][0], a1 = sums_[0][1], a2 = sums_[0][2], a3 = sums_[0][3];
    uint64_t b0 = sums_[1][0], b1 = sums_[1][1], b2 = sums_[1][2], b3 = sums_[1][3];
    for (int64_t i = 0; i < count; ++i, p += kStripe) {
      if (i % 2 == 0) __builtin_prefetch(p + kAhead);
      const uint64_t w0 = word(p) * kPrimes[1], w1 = word(p + 8) * kPrimes[1],
                     w2 = word(p + 16) * kPrimes[1], w3 = word(p + 24) * kPrimes[1];
      a0 = round(a0, w0), b0 = round(b0, w0);
      a1 = round(a1, w1), b1 = round(b1, w1);
      a2 = round(a2, w2), b2 = round(b2, w2);
      a3 = round(a3, w3), b3 = round(b3, w3);
    }
    const uint64_t sums[2][4] = {{a0, a1, a2, a3}, {b0, b1, b2, b3}};
    std::memcpy(sums_, sums, sizeof sums);
  }

  EXN_INLINE uint64_t last(int s) const {
    uint64_t h = kSeeds[s] + kPrimes[4];
    if (total_ >= static_cast<uint64_t>(kStripe)) {
      const uint64_t* const v = sums_[s];
      h = turned(v[0], 1) + turned(v[1], 7) + turned(v[2], 12) + turned(v[3], 18);
      for (int i = 0; i < 4; ++i) h = (h ^ round(0, v[i] * kPrimes[1])) * kPrimes[0] + kPrimes[3];
    }
    h += total_;
    int64_t i = 0;
    for (; i + 8 <= held_; i += 8)
      h = turned(h ^ round(0, word(rest_ + i) * kPrimes[1]), 27) * kPrimes[0] + kPrimes[3];
    if (i + 4 <= held_) {
      uint32_t half;
      std::memcpy(&half, rest_ + i, sizeof half);
      h = turned(h ^ half * kPrimes[0], 23) * kPrimes[1] + kPrimes[2];
      i += 4;
    }
    for (; i < held_; ++i)
      h = turned(h ^ static_cast<unsigned char>(rest_[i]) * kPrimes[4], 11) * kPrimes[0];
    h = (h ^ h >> 33) * kPrimes[1];
    h = (h ^ h >> 29) * kPrimes[2];
    return h ^ h >> 32;
  }

  uint64_t sums_[2][4] = {{kSeeds[0] + kPrimes[0] + kPrimes[1], kSeeds[0] + kPrimes[1], kSeeds[0],
                           kSeeds[0] - kPrimes[0]},
                          {kSeeds[1] + kPrimes[0] + kPrimes[1], kSeeds[1] + kPrimes[1], kSeeds[1],
                           kSeeds[1] - kPrimes[0]}};
  char rest_[kStripe];
  int64_t held_ = 0;  // of rest_
  uint64_t total_ = 0;
};

}  // namespace exn
