// SPDX-License-Identifier: Apache-2.0
// How a step of quantised rows lies in memory, packed or not, and what block_bytes.h loads of it:
// scales, quants, and the input that is multiplied by them.
#pragma once

#include "../simd/bytes.h"
#include "block_products.h"

namespace exn::cpu::EXN_ISA {

struct alignas(64) ByteOrder {
  uint8_t at[64];

  template <class F>
  static constexpr ByteOrder of(F&& f) {
    ByteOrder order{};
    for (int i = 0; i < 64; ++i) order.at[i] = static_cast<uint8_t>(f(i));
    return order;
  }
  EXN_SIMD operator bytes_v() const { return load_bytes(at); }
};

struct alignas(64) LaneOrder {
  int32_t at[16];

  template <class F>
  static constexpr LaneOrder of(F&& f) {
    LaneOrder order{};
    for (int i = 0; i < 16; ++i) order.at[i] = f(i);
    return order;
  }
  EXN_SIMD operator bytes_v() const { return load_bytes(at); }
};

// Which bytes of a step, or of its half or quarter, are in memory: all, those before an edge, or
// those from an edge on.
enum class Valid { kAll, kBefore, kFrom };

// A step, or the half or quarter of one that a row may end with.
enum class Extent { kStep, kHalf, kQuarter };

template <Blocks kBlocks, bool kPacked = false>
struct Step : BlockTraits<kBlocks> {
  using Traits = BlockTraits<kBlocks>;
  using Traits::kFiveBits;
  using Traits::kHasMin;
  using Traits::kSuperBlock;
  static constexpr int kBlockBytes = Traits::kBytes;
  static constexpr bool kSixBits = kBlocks == Blocks::kQ6_K, kEightBits = kBlocks == Blocks::kQ8_0;
  static constexpr int kZeroPoint = kEightBits ? 128 : Traits::kZeroPoint;
  static constexpr int kElements = kSixBits ? 256 : 512, kGroups = kElements / 32;
  static constexpr int kVectors = kElements / 64;
  static constexpr int kBytes = kElements / Traits::kElements * kBlockBytes;
  // Of 256 elements, and of 128.
  static constexpr int kHalfBytes = 256 / Traits::kElements * kBlockBytes;
  static constexpr int kQuarterBytes = 4 * kBlockBytes;
  // Whether rows may end within a step; what they end with is not packed.
  static constexpr bool kRests = !kSixBits;
  using Plain = Step<kBlocks>;

  static constexpr int vectors_of(Extent extent) {
    return extent == Extent::kStep ? kVectors : extent == Extent::kHalf ? 4 : 2;
  }
  static constexpr int groups_of(Extent extent) { return 2 * vectors_of(extent); }
  static constexpr int bytes_of(Extent extent) {
    return extent == Extent::kStep ? kBytes : extent == Extent::kHalf ? kHalfBytes : kQuarterBytes;
  }
  // What so many groups of 32 are taken as, and groups for which that stands.
  static constexpr Extent extent_of(int groups) {
    return groups > 8 ? Extent::kStep : groups > 4 ? Extent::kHalf : Extent::kQuarter;
  }

  static constexpr int taken_as(int64_t steps_before, int groups) {
    return steps_before > 0 || kSuperBlock ? groups : kGroups;
  }
  // Whether that is a step like any other, once it is unpacked.
  static constexpr bool is_step(int groups) {
    return kRests && groups > 0 && extent_of(groups) == Extent::kStep;
  }

  // An input's step: upper and lower halves of its elements, and scales. Then, where blocks have a
  // minimum, what it is multiplied by, in less than a step in lanes 8 to 15; and elsewhere what the
  // zero point takes off the sums, in multiples of 256, and its last eight bits, as the first of
  // their lanes.
  static constexpr int kUpper = 0, kLower = 64 * kVectors, kScales = 2 * kLower;
  static constexpr int kMins = kScales + 64, kZeroPointSum = kScales + 64,
                       kZeroPointLow = kScales + 128;
  static constexpr int kInputBytes = kHasMin ? kScales + 128 : kScales + 192;

  // 64 bytes, of which some are not in memory and 0 instead.
  template <Valid kValid>
  static EXN_SIMD bytes_v load_at(const uint8_t* p, int first, int64_t edge) {
    if constexpr (kValid == Valid::kAll) return load_bytes(p + first);
    if constexpr (kValid == Valid::kBefore) return load_bytes_n(p + first, edge - first);
    if constexpr (kValid == Valid::kFrom) return load_bytes_from(p + first, edge - first);
  }

  // Group of the scale of a lane.
  static constexpr int group_of(int lane) {
    return kSixBits      ? lane % 4 * 4 + lane / 4
           : kSuperBlock ? lane / 2
                         : lane / 4 + lane / 2 % 2 * 4;
  }
  // The same of a whole step of two halves. Of the groups of long blocks two and two lie side by
  // side.
  static constexpr int step_group_of(int lane) {
    if (kSixBits) return group_of(lane);
    if (kSuperBlock) return lane % 2 * 8 + lane / 4 * 2 + lane / 2 % 2;
    return lane / 2 % 2 * 8 + group_of(lane / 4 * 4 + lane % 2 * 2);
  }

  // ---- scales ----

  // Of all lanes; and the minima in the lanes that kMins says, if blocks have them.
  struct Scales {
    f32v scale, mins;
  };
  template <Extent kExtent, Valid kValid>
  static EXN_SIMD Scales scales(const uint8_t* p, int64_t edge) {
    if constexpr (kSixBits) {
      static constexpr auto kNumber = ByteOrder::of([](int i) { return 62 + i % 2; });
      static constexpr auto kEach = LaneOrder::of(group_of);
      const f32v d = halves_to_floats(pick_bytes(kNumber, load_bytes(p + kBytes - 64)));
      return {mul(pick_lanes(kEach, signed_bytes_to_floats(p + 192)), d), d};
    } else if constexpr (kExtent == Extent::kQuarter) {
      static constexpr auto kEach = LaneOrder::of([](int i) { return i / 4; });
      const f32v v = quarter_scales<kValid>(p, edge);
      return {kHasMin ? pick_lanes(kEach, v) : v, v};
    } else if constexpr (kExtent == Extent::kHalf) {
      static constexpr auto kEach = LaneOrder::of(group_of);
      const f32v v = half_scales<kValid>(p, edge);
      return {kHasMin ? pick_lanes(kEach, v) : v, v};
    } else if constexpr (kPacked && kValid == Valid::kAll && !kSuperBlock) {
      const auto* const d = reinterpret_cast<const f16*>(p);
      return {load(d), kHasMin ? load(d + 16) : zero()};
    } else {
      constexpr int kSecond = kPacked && kSuperBlock ? 16 : kHalfBytes;
      const f32v a = half_scales<kValid>(p, edge);
      const f32v b = half_scales<kValid>(p + kSecond, edge - kSecond);
      if constexpr (kHasMin) {
        static constexpr auto kEach =
            LaneOrder::of([](int i) { return step_group_of(i) / 8 * 16 + step_group_of(i) % 8; });
        static constexpr auto kOthers = LaneOrder::of(
            [](int i) { return step_group_of(i) / 8 * 16 + step_group_of(i) % 8 + 8; });
        return {pick_lanes(kEach, a, b), pick_lanes(kOthers, a, b)};
      } else {
        return {even_lanes(a, b), a};
      }
    }
  }

  // Of half a step: all d and all minima, or d of the lanes.
  template <Valid kValid>
  static EXN_SIMD f32v half_scales(const uint8_t* p, int64_t edge) {
    if constexpr (kSuperBlock) return six_bit_scales(p);
    constexpr int kTail = kEightBits ? 128 : kHalfBytes - 64;
    static constexpr auto kFirst = ByteOrder::of(half_at);
    static constexpr auto kTailOrder = ByteOrder::of([](int i) { return half_at(i) - kTail; });
    bytes_v halves = pick_bytes(kFirst, load_at<kValid>(p, 0, edge), load_at<kValid>(p, 64, edge));
    if constexpr (halves_in(128, 192) != 0) {
      halves =
          pick_some_bytes(halves, halves_in(128, 192), kTailOrder, load_at<kValid>(p, kTail, edge));
    }
    if constexpr (halves_in(192, 256) != 0) {
      static constexpr auto kLast = ByteOrder::of([](int i) { return half_at(i) - 192; });
      halves = pick_some_bytes(halves, halves_in(192, 256), kLast, load_at<kValid>(p, 192, edge));
    }
    return halves_to_floats(halves);
  }
  // The same of a quarter.
  template <Valid kValid>
  static EXN_SIMD f32v quarter_scales(const uint8_t* p, int64_t edge) {
    static constexpr auto kHalves = ByteOrder::of([](int i) {
      return in_quarter((kHasMin ? i / 2 % 4 : i / 8 % 4) * kBlockBytes + i % 2 +
                        (kHasMin && i >= 16 ? 2 : 0));
    });
    return halves_to_floats(
        pick_bytes(kHalves, load_at<kValid>(p, 0, edge), load_at<kValid>(p, kQuarterSecond, edge)));
  }
  // Of the two vectors that a quarter is in.
  static constexpr int kQuarterSecond = kEightBits ? 64 : kQuarterBytes - 64;
  static constexpr int in_quarter(int at) { return at < 64 ? at : at - kQuarterSecond + 64; }

  // Where the bytes of sixteen f16 lie in short blocks: all d and all minima, or d of the lanes.
  static constexpr int half_at(int i) {
    return kHasMin ? i / 2 % 8 * kBlockBytes + i % 2 + (i >= 16 ? 2 : 0)
                   : group_of(i / 2 % 16) * kBlockBytes + i % 2;
  }
  static constexpr uint64_t halves_in(int begin, int end) {
    uint64_t bits = 0;
    for (int i = 0; i < 32; ++i) {
      if (half_at(i) >= begin && half_at(i) < end) bits |= uint64_t{1} << i;
    }
    return bits;
  }

  // d s, and dmin t.
  static EXN_SIMD f32v six_bit_scales(const uint8_t* p) {
    const bytes_v head = load_bytes(p);
    // s and t side by side, the lower bits of the last four of each beside what has their others.
    static constexpr auto kSixes =
        ByteOrder::of([](int i) { return 4 + (i % 8 < 4 ? i % 16 / 8 * 4 : 4) + i % 8; });
    static constexpr auto kLow =
        ByteOrder::of([](int i) { return i % 8 * 8 + (i / 8 % 2 == 1 && i % 8 >= 4 ? 4 : 0); });
    static constexpr auto kHigh = ByteOrder::of([](int i) { return i % 4 * 8 + 6 - 4; });
    static constexpr auto kWhich = ByteOrder::of([](int i) { return i % 8 < 4 ? 63 : 15; });
    static constexpr auto kNumbers = ByteOrder::of([](int i) { return i % 32 / 16 * 2 + i % 2; });
    const bytes_v sixes = pick_bytes(kSixes, head);
    const bytes_v joined = select_bits(kWhich, pick_bits(kLow, sixes), pick_bits(kHigh, sixes));
    return mul(bytes_to_floats(and_bytes(joined, set1_bytes(63))),
               halves_to_floats(pick_bytes(kNumbers, head)));
  }

  // ---- quants ----

  template <Extent kExtent, Valid kValid>
  static EXN_SIMD void quants(const uint8_t* p, int64_t edge, bytes_v* q) {
    if constexpr (kPacked && kExtent == Extent::kStep && kValid == Valid::kAll) {
      packed_quants(p, q);
    } else if constexpr (kSixBits) {
      six_bit_quants(p, q);
    } else if constexpr (kExtent == Extent::kQuarter) {
      quarter_quants<kValid>(p, edge, q);
    } else if constexpr (kExtent == Extent::kHalf) {
      half_quants<kValid>(p, edge, q);
    } else if constexpr (kSuperBlock) {
      two_long_quants(p, p + kHalfBytes, q);
    } else {
      two_short_quants<kValid>(p, p + kHalfBytes, edge, q);
    }
  }

  // Half a step, where each group has two lanes.
  template <Valid kValid>
  static EXN_SIMD void half_quants(const uint8_t* p, int64_t edge, bytes_v* q) {
    if constexpr (kSuperBlock) {
      long_quants(p, q);
    } else if constexpr (kEightBits) {
      bytes_v a[2], b[2];
      whole_quants<kValid>(p, edge, a);
      whole_quants<kValid>(p + kQuarterBytes, edge - kQuarterBytes, b);
      for (int i = 0; i < 2; ++i) {
        q[i] = xor_bytes(lower_eights(a[i], b[i]), set1_bytes(128));
        q[2 + i] = xor_bytes(upper_eights(a[i], b[i]), set1_bytes(128));
      }
    } else {
      const ShortHalf half = short_half<kValid>(p, edge);
      for (int i = 0; i < 2; ++i) {
        q[2 * i] = and_bytes(half.nibbles[i], set1_bytes(15));
        q[2 * i + 1] = upper_nibbles(half.nibbles[i]);
      }
      if constexpr (kFiveBits) {
        static constexpr ByteOrder kFrom[4] = {bits_from(0), bits_from(16), bits_from(8),
                                               bits_from(24)};
        for (int i = 0; i < 4; ++i)
          q[i] = or_bits(q[i], pick_bits(kFrom[i], half.bits), set1_bytes(16));
      }
    }
  }

  // A step of two halves: the pairs of lanes that a group has in each of them are split.
  template <Valid kValid>
  static EXN_SIMD void two_short_quants(const uint8_t* p, const uint8_t* second, int64_t edge,
                                        bytes_v* q) {
    if constexpr (kEightBits) {
      bytes_v a[4], b[4];
      half_quants<kValid>(p, edge, a);
      half_quants<kValid>(second, edge - kHalfBytes, b);
      for (int i = 0; i < 4; ++i) {
        q[i / 2 * 4 + i % 2] = even_fours(a[i], b[i]);
        q[i / 2 * 4 + i % 2 + 2] = odd_fours(a[i], b[i]);
      }
    } else {
      const ShortHalf a = short_half<kValid>(p, edge);
      const ShortHalf b = short_half<kValid>(second, edge - kHalfBytes);
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

  // The first halves of four blocks, and the second ones.
  template <Valid kValid>
  static EXN_SIMD void whole_quants(const uint8_t* p, int64_t edge, bytes_v (&q)[2]) {
    constexpr int kThird = 16, kFourth = 4 * kBlockBytes - 64;  // for the upper halves of blocks
    static constexpr auto kLow =
        ByteOrder::of([](int i) { return i / 16 * kBlockBytes + 2 + i % 16; });
    static constexpr auto kHigh = ByteOrder::of([](int i) {
      const int at = i / 16 * kBlockBytes + 18 + i % 16;
      return at < kFourth ? at - kThird : at - kFourth + 64;
    });
    if constexpr (kValid == Valid::kAll) {
      for (int i = 0; i < 2; ++i) q[i] = load_sixteens<kBlockBytes>(p + 2 + 16 * i);
      return;
    }
    q[0] = pick_bytes(kLow, load_at<kValid>(p, 0, edge), load_at<kValid>(p, 64, edge));
    q[1] = pick_bytes(kHigh, load_at<kValid>(p, kThird, edge), load_at<kValid>(p, kFourth, edge));
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
  template <Valid kValid>
  static EXN_SIMD ShortHalf short_half(const uint8_t* p, int64_t edge) {
    static constexpr auto kFirst = ByteOrder::of(nibbles_at<0>);
    static constexpr auto kSecond = ByteOrder::of(nibbles_at<1>);
    const bytes_v a = load_at<kValid>(p, 0, edge), b = load_at<kValid>(p, 64, edge);
    const bytes_v c = load_at<kValid>(p, kHalfBytes - 64, edge);
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
  template <Valid kValid>
  static EXN_SIMD void quarter_quants(const uint8_t* p, int64_t edge, bytes_v* q) {
    if constexpr (kEightBits) {
      bytes_v whole[2];
      whole_quants<kValid>(p, edge, whole);
      for (int i = 0; i < 2; ++i) q[i] = xor_bytes(whole[i], set1_bytes(128));
    } else {
      static constexpr auto kNibbles = ByteOrder::of(
          [](int i) { return in_quarter(i / 16 * kBlockBytes + Traits::kLow + i % 16); });
      const bytes_v a = load_at<kValid>(p, 0, edge);
      const bytes_v b = load_at<kValid>(p, kQuarterSecond, edge);
      const bytes_v both = pick_bytes(kNibbles, a, b);
      q[0] = and_bytes(both, set1_bytes(15));
      q[1] = upper_nibbles(both);
      if constexpr (kFiveBits) {
        static constexpr auto kBits = ByteOrder::of(
            [](int i) { return in_quarter(i / 16 * kBlockBytes + Traits::kHigh + i % 4); });
        static constexpr auto kFirst = ByteOrder::of([](int i) { return (i % 16 - 4) & 63; });
        static constexpr auto kSecond = ByteOrder::of([](int i) { return i % 16 + 16 - 4; });
        const bytes_v bits = pick_bytes(kBits, a, b);
        q[0] = or_bits(q[0], pick_bits(kFirst, bits), set1_bytes(16));
        q[1] = or_bits(q[1], pick_bits(kSecond, bits), set1_bytes(16));
      }
    }
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
  // Of eight bytes each: bits from `first` on, one for each, as bit 4; and of each four bytes.
  static constexpr ByteOrder bits_from(int first) {
    return ByteOrder::of([=](int i) { return (i % 8 + first - 4) & 63; });
  }
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

  // ---- inputs ----

  // Where element i of a group of 32 lies in a step, or in the half or quarter of one.
  static EXN_SIMD int place_of(int group, int i, Extent extent) {
    const int byte = i % 4;
    if (extent == Extent::kQuarter) return i / 16 * 64 + group * 16 + i % 16;
    if (kSixBits) {
      const int sixteen = 2 * group + i / 16, e = i % 16;
      return e / 4 * 64 + sixteen % 4 * 16 + sixteen / 4 * 4 + byte;
    }
    if (extent == Extent::kHalf) {
      if (kSuperBlock) return i / 8 * 64 + group * 8 + i % 8;
      return (i % 16 / 8 * 2 + i / 16) * 64 + group % 4 * 16 + group / 4 * 8 + i % 8;
    }
    return (kSuperBlock ? i / 4 : i % 16 / 4 * 2 + i / 16) * 64 + step_lanes().at[group] * 4 + byte;
  }
  static constexpr int step_lane_of(int group) {
    int lane = 0;
    while (lane < 15 && step_group_of(lane) != group) ++lane;
    return lane;
  }
  static EXN_SIMD const LaneOrder& step_lanes() {
    static constexpr auto kEach = LaneOrder::of(step_lane_of);
    return kEach;
  }

  // 32 elements of an input into their place in a step, which holds zeros.
  template <Extent kExtent>
  static EXN_SIMD void put(const Rounded& x, int group, char* step) {
    int8_t upper[32], lower[32];
    for (int i = 0; i < 32; ++i) {
      lower[i] = static_cast<int8_t>(x.q[i]);
      upper[i] = static_cast<int8_t>((x.q[i] + 128) >> 8);
    }
    keep_in_memory(upper);
    keep_in_memory(lower);
#pragma GCC unroll 8
    for (int i = 0; i < 32; i += 4) {
      const int place = place_of(group, i, kExtent);
      std::memcpy(step + kUpper + place, upper + i, 4);
      std::memcpy(step + kLower + place, lower + i, 4);
      if (kExtent == Extent::kStep && !kSixBits && i > 0) continue;  // all have a lane
      reinterpret_cast<float*>(step + kScales)[place % 64 / 4] = x.scale;
    }
    if constexpr (kHasMin) {
      // Of the integer: a NaN keeps its sign, or that of a result would depend on its batch.
      const int32_t sum = kSuperBlock ? -x.sum(0, 32) : x.sum(0, 32);
      const int lane = kExtent == Extent::kStep ? step_lanes().at[group] : 8 + group;
      reinterpret_cast<float*>(step + kMins)[lane] = x.scale * static_cast<float>(sum);
    }
  }
  // Bytes that are copied by fours: out of a register each would be taken by an instruction or two.
  static EXN_SIMD void keep_in_memory(int8_t (&bytes)[32]) { __asm__("" : "+m"(bytes)); }

  // What the zero point takes off the sums, once all elements are there.
  static EXN_SIMD void put_zero_point(char* step) {
    bytes_v ints = zero_bytes();
    for (int i = 0; i < kVectors; ++i) {
      ints = dot_bytes(ints, set1_bytes(kZeroPoint), load_bytes(step + kUpper + 64 * i));
    }
    ints = times_256(ints);
    for (int i = 0; i < kVectors; ++i) {
      ints = dot_bytes(ints, set1_bytes(kZeroPoint), load_bytes(step + kLower + 64 * i));
    }
    int32_t lanes[16], taken[16], left[16];
    store_bytes(lanes, ints);
    for (int i = 0; i < 16; ++i) taken[i] = -lanes[i] >> 8;
    for (int i = 0; i < 16; ++i)
      left[i] = static_cast<int32_t>(static_cast<uint32_t>(-lanes[i]) << 24);
    std::memcpy(step + kZeroPointSum, taken, sizeof taken);
    std::memcpy(step + kZeroPointLow, left, sizeof left);
  }

  // ---- rows that were unpacked ----

  static constexpr int kTurns = 2 * kVectors;  // of add_unpacked
  static constexpr int kUnpackedScales = 64 * kVectors, kUnpackedMins = kUnpackedScales + 64;
  static constexpr int kUnpackedBytes = kUnpackedMins + (kHasMin ? 64 : 0);

  template <Extent kExtent, Valid kValid>
  static EXN_SIMD void unpack_to(const uint8_t* p, int64_t edge, char* to) {
    constexpr int kSome = vectors_of(kExtent);
    bytes_v q[kSome];
    quants<kExtent, kValid>(p, edge, q);
#pragma GCC unroll 8
    for (int i = 0; i < kSome; ++i) store_bytes(to + 64 * i, q[i]);
    const Scales s = scales<kExtent, kValid>(p, edge);
    store(reinterpret_cast<float*>(to + kUnpackedScales), s.scale);
    if constexpr (kHasMin) store(reinterpret_cast<float*>(to + kUnpackedMins), s.mins);
  }
};

}  // namespace exn::cpu::EXN_ISA
