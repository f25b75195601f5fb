// SPDX-License-Identifier: Apache-2.0
// The scales and minima of a step, and of the half that a row may end with.
#pragma once

#include "step_layout.h"

namespace exn::cpu::EXN_ISA {

template <Blocks kBlocks, bool kPacked>
struct StepScales : StepLayout<kBlocks, kPacked> {
  using Layout = StepLayout<kBlocks, kPacked>;
  using Layout::group_of, Layout::kBlockBytes, Layout::kBytes, Layout::kEightBits,
      Layout::kHalfBytes, Layout::kHasMin, Layout::kMins, Layout::kSixBits, Layout::kSuperBlock,
      Layout::step_group_of;

  // Of all lanes; and the minima in the lanes that kMins says, if blocks have them.
  struct Scales {
    f32v scale, mins;
  };
  template <Extent kExtent>
  static EXN_SIMD Scales scales(const uint8_t* p) {
    if constexpr (kSixBits) {
      static constexpr auto kNumber = ByteOrder::of([](int i) { return 62 + i % 2; });
      static constexpr auto kEach = LaneOrder::of(group_of);
      const f32v d = halves_to_floats(pick_bytes(kNumber, load_bytes(p + kBytes - 64)));
      return {mul(pick_lanes(kEach, signed_bytes_to_floats(p + 192)), d), d};
    } else if constexpr (kExtent == Extent::kHalf) {
      static constexpr auto kEach = LaneOrder::of(group_of);
      const f32v v = half_scales(p);
      return {pick_lanes(kEach, v), v};
    } else if constexpr (kPacked && !kSuperBlock) {
      const auto* const d = reinterpret_cast<const f16*>(p);
      return {load(d), kHasMin ? load(d + 16) : zero()};
    } else {
      constexpr int kSecond = kPacked && kSuperBlock ? 16 : kHalfBytes;
      const f32v a = half_scales(p), b = half_scales(p + kSecond);
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
  static EXN_SIMD f32v half_scales(const uint8_t* p) {
    if constexpr (kSuperBlock) return six_bit_scales(p);
    constexpr int kTail = kEightBits ? 128 : kHalfBytes - 64;
    static constexpr auto kFirst = ByteOrder::of(half_at);
    static constexpr auto kTailOrder = ByteOrder::of([](int i) { return half_at(i) - kTail; });
    bytes_v halves = pick_bytes(kFirst, load_bytes(p), load_bytes(p + 64));
    if constexpr (halves_in(128, 192) != 0) {
      halves = pick_some_bytes(halves, halves_in(128, 192), kTailOrder, load_bytes(p + kTail));
    }
    if constexpr (halves_in(192, 256) != 0) {
      static constexpr auto kLast = ByteOrder::of([](int i) { return half_at(i) - 192; });
      halves = pick_some_bytes(halves, halves_in(192, 256), kLast, load_bytes(p + 192));
    }
    return halves_to_floats(halves);
  }
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
};

}  // namespace exn::cpu::EXN_ISA
