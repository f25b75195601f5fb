// SPDX-License-Identifier: Apache-2.0
// What tells images, and the heads they were made of, from others.
#pragma once

#include <cstdint>
#include <cstring>

#include "args.h"

namespace exn {

// The 128 bits of XXH3, which tell accidents, not enemies: its way with more than 240 bytes for every
// number of bytes, where less than a stripe is followed by zeros. Of many bytes it takes no longer
// than the memory they come from.
class Digest {
 public:
  EXN_INLINE void bytes(const void* from, int64_t count) {
    const char* p = static_cast<const char*>(from);
    total_ += static_cast<uint64_t>(count);
    while (count > 0) {
      if (held_ == kStripe) {  // more bytes follow, so it is not the last
        stripes(rest_, 1);
        held_ = 0;
      }
      if (held_ == 0 && count > kStripe) {
        const int64_t whole = (count - 1) / kStripe;
        stripes(p, whole);
        p += whole * kStripe;
        count -= whole * kStripe;
      }
      const int64_t missing = kStripe - held_, taken = count < missing ? count : missing;
      std::memcpy(rest_ + held_, p, static_cast<size_t>(taken));
      held_ += taken;
      p += taken;
      count -= taken;
    }
  }

  EXN_INLINE void number(int64_t n) { bytes(&n, sizeof n); }

  // Of all bytes so far, the lower half first.
  EXN_INLINE void take(uint64_t (&to)[2]) const {
    Digest end = *this;
    char last[kStripe] = {};
    if (total_ < static_cast<uint64_t>(kStripe)) {
      std::memcpy(last, rest_, static_cast<size_t>(held_));
    } else {
      std::memcpy(last, before_ + held_, static_cast<size_t>(kStripe - held_));
      std::memcpy(last + (kStripe - held_), rest_, static_cast<size_t>(held_));
    }
    end.add(last, kSecret + sizeof kSecret - kStripe - 7, 1, 0);
    to[0] = end.merged(kSecret + 11, total_ * kPrimes[0]);
    to[1] = end.merged(kSecret + sizeof kSecret - kStripe - 11, ~(total_ * kPrimes[1]));
  }

  EXN_INLINE bool is(const uint64_t (&other)[2]) const {
    uint64_t own[2];
    take(own);
    return own[0] == other[0] && own[1] == other[1];
  }

 private:
  static constexpr int64_t kStripe = 64;
  static constexpr int64_t kBlock = 16;    // stripes, until the sums are scrambled
  static constexpr int64_t kAhead = 4096;  // bytes: a page, so that the next one is mapped by then
  static constexpr uint64_t kPrimes[5] = {0x9e3779b185ebca87u, 0xc2b2ae3d27d4eb4fu,
                                          0x165667b19e3779f9u, 0x85ebca77c2b2ae63u,
                                          0x27d4eb2f165667c5u};
  static constexpr uint64_t kShort[3] = {0x9e3779b1u, 0x85ebca77u, 0xc2b2ae3du};
  static constexpr unsigned char kSecret[192] = {
      0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad,
      0x1c, 0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3,
      0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc,
      0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6,
      0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65,
      0x8b, 0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19,
      0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8, 0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9,
      0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31,
      0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb,
      0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb, 0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0,
      0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16, 0xbe, 0x58, 0x7d,
      0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f,
      0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e};

  static EXN_INLINE uint64_t word(const void* p) {
    uint64_t w;
    std::memcpy(&w, p, sizeof w);
    return w;
  }

  // Stripes after each of which others follow.
  EXN_INLINE void stripes(const char* p, int64_t count) {
    std::memcpy(before_, p + (count - 1) * kStripe, kStripe);
    while (count > 0) {
      const int64_t left = kBlock - in_block_, some = count < left ? count : left;
      add(p, kSecret + 8 * in_block_, some, 8);
      p += some * kStripe;
      count -= some;
      in_block_ += some;
      if (in_block_ < kBlock) continue;
      in_block_ = 0;
      for (int i = 0; i < 8; ++i) {
        const uint64_t sum = sums_[i];
        sums_[i] = (sum ^ sum >> 47 ^ word(kSecret + sizeof kSecret - kStripe + 8 * i)) * kShort[0];
      }
    }
  }

  // `step`: bytes of the secret from one stripe to the next.
  EXN_INLINE void add(const char* p, const unsigned char* secret, int64_t count, int64_t step) {
    uint64_t sums[8];
    std::memcpy(sums, sums_, sizeof sums);
    for (int64_t n = 0; n < count; ++n, p += kStripe, secret += step) {
      // No pointer: nothing may be there.
      __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(p) + kAhead));
      for (int i = 0; i < 8; i += 2) {
        const uint64_t a = word(p + 8 * i), b = word(p + 8 * i + 8);
        const uint64_t x = a ^ word(secret + 8 * i), y = b ^ word(secret + 8 * i + 8);
        sums[i] += b + (x & 0xffffffffu) * (x >> 32);
        sums[i + 1] += a + (y & 0xffffffffu) * (y >> 32);
      }
    }
    std::memcpy(sums_, sums, sizeof sums);
  }

  EXN_INLINE uint64_t merged(const unsigned char* secret, uint64_t h) const {
    for (int i = 0; i < 8; i += 2) {
      __extension__ using Wide = unsigned __int128;
      const Wide product = static_cast<Wide>(sums_[i] ^ word(secret + 8 * i)) *
                           (sums_[i + 1] ^ word(secret + 8 * i + 8));
      h += static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
    }
    h = (h ^ h >> 37) * 0x165667919e3779f9u;
    return h ^ h >> 32;
  }

  uint64_t sums_[8] = {kShort[2],  kPrimes[0], kPrimes[1], kPrimes[2],
                       kPrimes[3], kShort[1],  kPrimes[4], kShort[0]};
  char before_[kStripe] = {};  // the stripe that was added last
  char rest_[kStripe] = {};
  int64_t held_ = 0;      // of rest_
  int64_t in_block_ = 0;  // stripes added since sums were scrambled
  uint64_t total_ = 0;
};

}  // namespace exn
