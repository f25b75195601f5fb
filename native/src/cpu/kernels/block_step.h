// SPDX-License-Identifier: Apache-2.0
// A step of quantised rows, packed or not: what block_bytes.h loads of it (step_scales.h,
// step_quants.h), and the input that is multiplied by them.
#pragma once

#include "step_quants.h"

namespace exn::cpu::EXN_ISA {

template <Blocks kBlocks, bool kPacked = false>
struct Step : StepQuants<kBlocks, kPacked> {
  using Layout = StepLayout<kBlocks, kPacked>;
  using Loads = StepQuants<kBlocks, kPacked>;
  using Layout::kHasMin, Layout::kLower, Layout::kMins, Layout::kScales, Layout::kSixBits,
      Layout::kSuperBlock, Layout::kUpper, Layout::kVectors, Layout::kZeroPoint,
      Layout::kZeroPointLow, Layout::kZeroPointSum, Layout::step_group_of, Layout::vectors_of;
  using typename Loads::Scales;

  using Plain = Step<kBlocks>;  // what rows end with is not packed
  static constexpr bool kTwoPlanes = true;

  // ---- inputs ----

  // Where element i of a group of 32 lies in a step, or in the half of one.
  static EXN_SIMD int place_of(int group, int i, Extent extent) {
    const int byte = i % 4;
    if (kSixBits) {
      const int sixteen = 2 * group + i / 16, e = i % 16;
      return e / 4 * 64 + sixteen % 4 * 16 + sixteen / 4 * 4 + byte;
    }
    if (extent == Extent::kHalf) return i / 8 * 64 + group * 8 + i % 8;
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

  template <Extent kExtent>
  static EXN_SIMD void unpack_to(const uint8_t* p, char* to) {
    constexpr int kSome = vectors_of(kExtent);
    bytes_v q[kSome];
    Loads::template quants<kExtent>(p, q);
#pragma GCC unroll 8
    for (int i = 0; i < kSome; ++i) store_bytes(to + 64 * i, q[i]);
    const Scales s = Loads::template scales<kExtent>(p);
    store(reinterpret_cast<float*>(to + kUnpackedScales), s.scale);
    if constexpr (kHasMin) store(reinterpret_cast<float*>(to + kUnpackedMins), s.mins);
  }
};

// A step that meets inputs of 8 bits, whose upper plane is zeros.
template <class S>
struct OnePlane : S {
  static constexpr bool kTwoPlanes = false;
};

}  // namespace exn::cpu::EXN_ISA
