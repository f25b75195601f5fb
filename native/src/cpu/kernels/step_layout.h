// SPDX-License-Identifier: Apache-2.0
// How a step of quantised rows lies in memory, packed or not.
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

// A step, or the half of one that a row of long blocks may end with.
enum class Extent { kStep, kHalf };

template <Blocks kBlocks, bool kPacked>
struct StepLayout : BlockTraits<kBlocks> {
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
  static constexpr int kHalfBytes = 256 / Traits::kElements * kBlockBytes;
  static constexpr int kQuarterBytes = 4 * kBlockBytes;  // of short blocks
  // Whether rows may end with half a step, which is not packed; and whether with some short blocks,
  // of which those of several rows are a step together.
  static constexpr bool kRests = kSuperBlock && !kSixBits, kRestsTogether = !kSuperBlock;

  static constexpr int vectors_of(Extent extent) { return extent == Extent::kStep ? kVectors : 4; }

  // An input's step: upper and lower halves of its elements, and scales. Then, where blocks have a
  // minimum, what it is multiplied by, in less than a step in lanes 8 to 15; and elsewhere what the
  // zero point takes off the sums, in multiples of 256, and its last eight bits, as the first of
  // their lanes.
  static constexpr int kUpper = 0, kLower = 64 * kVectors, kScales = 2 * kLower;
  static constexpr int kMins = kScales + 64, kZeroPointSum = kScales + 64,
                       kZeroPointLow = kScales + 128;
  static constexpr int kInputBytes = kHasMin ? kScales + 128 : kScales + 192;

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
};

}  // namespace exn::cpu::EXN_ISA
