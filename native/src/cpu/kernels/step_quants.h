// SPDX-License-Identifier: Apache-2.0
// The quants of a step, as unsigned bytes, a vector of four of every scale at a time.
#pragma once

#include "step_scales.h"

namespace exn::cpu::EXN_ISA {

template <Blocks kBlocks, bool kPacked>
struct StepQuants : StepScales<kBlocks, kPacked> {
  using Layout = StepLayout<kBlocks, kPacked>;
  using Traits = BlockTraits<kBlocks>;
  using Layout::group_of, Layout::kBlockBytes, Layout::kEightBits, Layout::kFiveBits,
      Layout::kHalfBytes, Layout::kHasMin, Layout::kQuarterBytes, Layout::kSixBits,
      Layout::kSuperBlock, Layout::kVectors;

  template <Extent kExtent>
  static EXN_SIMD void quants(const uint8_t* p, bytes_v* q) {
    if constexpr (kPacked && kExtent == Extent::kStep) {
      packed_quants(p, q);
    } else if constexpr (kSixBits) {
      six_bit_quants(p, q);
    } else if constexpr (kExtent == Extent::kHalf) {
      long_quants(p, q);
    } else if constexpr (kSuperBlock) {
      two_long_quants(p, p + kHalfBytes, q);
    } else {
      two_short_quants(p, p + kHalfBytes, q);
    }
  }

  // Half a step of bytes, where each group has two lanes.
  static EXN_SIMD void half_bytes(const uint8_t* p, bytes_v (&q)[4]) {
    for (int i = 0; i < 2; ++i) {
      const bytes_v a = load_sixteens<kBlockBytes>(p + 2 + 16 * i);
      const bytes_v b = load_sixteens<kBlockBytes>(p + kQuarterBytes + 2 + 16 * i);
      q[i] = xor_bytes(lower_eights(a, b), set1_bytes(128));
      q[2 + i] = xor_bytes(upper_eights(a, b), set1_bytes(128));
    }
  }

  // A step of two halves: the pairs of lanes that a group has in each of them are split.
  static EXN_SIMD void two_short_quants(const uint8_t* p, const uint8_t* second, bytes_v* q) {
    if constexpr (kEightBits) {
      bytes_v a[4], b[4];
      half_bytes(p, a);
      half_bytes(second, b);
      for (int i = 0; i < 4; ++i) {
        q[i / 2 * 4 + i % 2] = even_fours(a[i], b[i]);
        q[i / 2 * 4 + i % 2 + 2] = odd_fours(a[i], b[i]);
      }
    } else {
      const ShortHalf a = short_half(p), b = short_half(second);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const bytes_v v = i % 2 == 0 ? even_fours(a.nibbles[i / 2], b.nibbles[i / 2])
                                     : odd_fours(a.nibbles[i / 2], b.nibbles[i / 2]);
        q[2 * i] = and_bytes(v, set1_bytes(15));
        q[2 * i + 1] = upper_nibbles(v);
      }
      if constexpr (kFiveBits) {
        static constexpr ByteOrder kFrom[8] = {
            lane_bits_from(0), lane_bits_from(16), lane_bits_from(4),  lane_bits_from(20),
            lane_bits_from(8), lane_bits_from(24), lane_bits_from(12), lane_bits_from(28)};
        const bytes_v bits = even_fours(a.bits, b.bits);
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) q[i] = or_bits(q[i], pick_bits(kFrom[i], bits), set1_bytes(16));
      }
    }
  }
  static EXN_SIMD void two_long_quants(const uint8_t* p, const uint8_t* second, bytes_v* q) {
    constexpr int kNibbles = kFiveBits ? 48 : 16;
    const bytes_v a[2] = {load_bytes(p + kNibbles), load_bytes(p + kNibbles + 64)};
    const bytes_v b[2] = {load_bytes(second + kNibbles), load_bytes(second + kNibbles + 64)};
    for (int i = 0; i < 2; ++i) {
      const bytes_v x = i == 0 ? even_sixteens(a[0], a[1]) : odd_sixteens(a[0], a[1]);
      const bytes_v y = i == 0 ? even_sixteens(b[0], b[1]) : odd_sixteens(b[0], b[1]);
      for (int n = 0; n < 2; ++n) {
        const bytes_v both = n == 0 ? lower_eights(x, y) : upper_eights(x, y);
        const bytes_v low = and_bytes(both, set1_bytes(15)), high = upper_nibbles(both);
        q[4 * i + 2 * n] = even_fours(low, high);
        q[4 * i + 2 * n + 1] = odd_fours(low, high);
      }
    }
    if constexpr (kFiveBits) {
      // Four bytes of one block beside those of the other.
      static constexpr auto kBeside =
          ByteOrder::of([](int i) { return i / 4 % 2 * 64 + i / 8 * 4 + i % 4; });
      alignas(64) uint8_t beside[64];
      store_bytes(beside, pick_bytes(kBeside, load_bytes(p + 16), load_bytes(second + 16)));
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        const bytes_v bits = pick_bits(kGroupBits, load_eight_bytes(beside + 8 * i));
        q[i] = or_bits(q[i], bits, set1_bytes(16));
      }
    }
  }

  // Of the vectors at 0 and 64, or of those at 64 and at the end.
  template <int kHalf>
  static constexpr int in_two(int at) {
    constexpr int kLast = kHalfBytes - 64;
    return kHalf == 0 ? at : at < kLast ? at - 64 : at - kLast + 64;
  }
  // Halves of bytes of four blocks.
  template <int kHalf>
  static constexpr int nibbles_at(int i) {
    return in_two<kHalf>((4 * kHalf + i / 16) * kBlockBytes + Traits::kLow + i % 16);
  }

  // Of half a step of short blocks: halves of bytes, and the bytes that have highest bits, twice.
  struct ShortHalf {
    bytes_v nibbles[2], bits;
  };
  static EXN_SIMD ShortHalf short_half(const uint8_t* p) {
    static constexpr auto kFirst = ByteOrder::of(nibbles_at<0>);
    static constexpr auto kSecond = ByteOrder::of(nibbles_at<1>);
    const bytes_v a = load_bytes(p), b = load_bytes(p + 64), c = load_bytes(p + kHalfBytes - 64);
    const bytes_v first = pick_bytes(kFirst, a, b), second = pick_bytes(kSecond, b, c);
    ShortHalf half = {{lower_eights(first, second), upper_eights(first, second)}, first};
    if constexpr (kFiveBits) {
      static constexpr auto kBits = ByteOrder::of([](int i) { return bit_byte(i) & 127; });
      static constexpr auto kTail =
          ByteOrder::of([](int i) { return bit_byte(i) - (kHalfBytes - 64); });
      half.bits = pick_bytes(kBits, a, b);
      if constexpr (tail_bits() != 0) {
        half.bits = pick_some_bytes(half.bits, tail_bits(), kTail, c);
      }
    }
    return half;
  }
  static constexpr int bit_byte(int i) {
    return group_of(i / 4) * kBlockBytes + Traits::kHigh + i % 4;
  }
  static constexpr uint64_t tail_bits() {
    uint64_t bits = 0;
    for (int i = 0; i < 64; ++i) {
      if (bit_byte(i) >= 128) bits |= uint64_t{1} << i;
    }
    return bits;
  }
  // Of each four of eight bytes: bits from `first` on, one for each, as bit 4.
  static constexpr ByteOrder lane_bits_from(int first) {
    return ByteOrder::of([=](int i) { return (i / 4 % 2 * 32 + i % 4 + first - 4) & 63; });
  }
  // Of eight bytes of which each has a bit for every group, in the order of groups.
  static constexpr auto kGroupBits =
      ByteOrder::of([](int i) { return (i % 8 * 8 + i / 8 - 4) & 63; });

  static EXN_SIMD void long_quants(const uint8_t* p, bytes_v* q) {
    const uint8_t* const nibbles = p + (kFiveBits ? 48 : 16);
    const bytes_v a = load_bytes(nibbles), b = load_bytes(nibbles + 64);
    const bytes_v halves[2] = {even_sixteens(a, b), odd_sixteens(a, b)};
    for (int i = 0; i < 2; ++i) {
      const bytes_v low = and_bytes(halves[i], set1_bytes(15)), high = upper_nibbles(halves[i]);
      q[2 * i] = lower_eights(low, high);
      q[2 * i + 1] = upper_eights(low, high);
    }
    if constexpr (kFiveBits) {
      for (int i = 0; i < 4; ++i) {
        const bytes_v bits = pick_bits(kGroupBits, load_eight_bytes(p + 16 + 8 * i));
        q[i] = or_bits(q[i], bits, set1_bytes(16));
      }
    }
  }

  static EXN_SIMD void six_bit_quants(const uint8_t* p, bytes_v* q) {
    // Bits from 0 or 4 on of a byte as those from 4 on in the lower half, and two later ones in the
    // upper.
    static constexpr ByteOrder kFrom[2] = {pairs_from(0), pairs_from(4)};
    bytes_v v[4];
    for (int half = 0; half < 2; ++half) {
      const bytes_v both = load_bytes(p + 64 * half);
      const bytes_v bits = load_bytes_twice(p + 128 + 32 * half);
      v[2 * half] =
          or_bits(and_bytes(both, set1_bytes(15)), pick_bits(kFrom[0], bits), set1_bytes(48));
      v[2 * half + 1] = or_bits(upper_nibbles(both), pick_bits(kFrom[1], bits), set1_bytes(48));
    }
    // Four groups of 16 lie in each; a quarter of every group belongs into a vector.
    const bytes_v a = lower_fours(v[0], v[1]), b = lower_fours(v[2], v[3]);
    const bytes_v c = upper_fours(v[0], v[1]), d = upper_fours(v[2], v[3]);
    q[0] = lower_eights(a, b);
    q[1] = upper_eights(a, b);
    q[2] = lower_eights(c, d);
    q[3] = upper_eights(c, d);
  }
  static constexpr ByteOrder pairs_from(int first) {
    return ByteOrder::of([=](int i) { return (i % 8 * 8 + first + i / 32 * 2 - 4) & 63; });
  }

  // ---- packed steps: scales, highest bits, quants; of six bits the other way round ----

  static constexpr int kPackedScales = kSixBits ? 192 : 0;
  static constexpr int kPackedBits = kSixBits ? 128 : kHasMin && !kSuperBlock ? 64 : 32;
  static constexpr int kPackedQuants = kSixBits ? 0 : kPackedBits + (kFiveBits ? 64 : 0);
  // Bits of a byte for every vector, above the four that lie in kPackedQuants.
  static constexpr int kUpperBits = kSixBits ? 2 : kFiveBits ? 1 : 0;

  // kUpperBits of each byte, as those from 4 on.
  static constexpr ByteOrder upper_bits(int vector) {
    return ByteOrder::of([=](int i) { return (i % 8 * 8 + vector * kUpperBits - 4) & 63; });
  }

  static EXN_SIMD void packed_quants(const uint8_t* p, bytes_v* q) {
    const uint8_t* const quants = p + kPackedQuants;
    if constexpr (kEightBits) {
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) q[i] = load_bytes(quants + 64 * i);
    } else {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; i += 2) {
        const bytes_v both = load_bytes(quants + 32 * i);
        q[i] = and_bytes(both, set1_bytes(15));
        q[i + 1] = upper_nibbles(both);
      }
    }
    if constexpr (kUpperBits > 0) {
      static constexpr ByteOrder kFrom[8] = {upper_bits(0), upper_bits(1), upper_bits(2),
                                             upper_bits(3), upper_bits(4), upper_bits(5),
                                             upper_bits(6), upper_bits(7)};
      const bytes_v bits = load_bytes(p + kPackedBits);
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) {
        q[i] = or_bits(q[i], pick_bits(kFrom[i], bits), set1_bytes(kSixBits ? 48 : 16));
      }
    }
  }
};

}  // namespace exn::cpu::EXN_ISA
