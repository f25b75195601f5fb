// SPDX-License-Identifier: Apache-2.0
// Quantised blocks (blocks.h of the C ABI), unpacked: a signed byte q for each element, and a scale
// and a shift for each group of elements. The element is scale * q + shift; that product is exact
// in f32, so it is its exact value rounded once, fused or not.
#pragma once

#include <type_traits>

#include "isa.h"

namespace exn::cpu::EXN_ISA {

typedef uint8_t u8x16 __attribute__((vector_size(16)));

static EXN_SIMD u8x16 bytes_at(const uint8_t* p) {
  u8x16 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

static EXN_SIMD float half_at(const uint8_t* p) {
  f16 half;
  std::memcpy(&half, p, sizeof half);
  return to_float(half);
}

// 16 for each of the 16 bits at p that is set.
static EXN_SIMD u8x16 fifth_bits(const uint8_t* p) {
  constexpr uint64_t kEight = 0x0101010101010101;
  const uint64_t spread[2] = {p[0] * kEight, p[1] * kEight};
  const u8x16 bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  u8x16 v;
  std::memcpy(&v, spread, sizeof v);
  return reinterpret_cast<u8x16>((v & bit) == bit) & 16;
}

template <Blocks kFormat>
struct UnpackedBlock {
  static constexpr BlockShape kShape = shape_of(kFormat);
  static constexpr bool kOfGroups = kShape.elements == 256;  // which have scales of their own
  static constexpr bool kIsShifted = kFormat == Blocks::kQ4_1 || kFormat == Blocks::kQ5_1 ||
                                     kFormat == Blocks::kQ4_K || kFormat == Blocks::kQ5_K;
  static constexpr bool kHasFive = kFormat == Blocks::kQ5_0 || kFormat == Blocks::kQ5_1;
  static constexpr int kGroup = kFormat == Blocks::kQ6_K ? 16 : 32;
  static constexpr int kGroups = kShape.elements / kGroup;

  alignas(64) int8_t q[kShape.elements];
  float scale[kGroups];
  float shift[kGroups];  // if kIsShifted

  EXN_SIMD void read(const uint8_t* p) {
    if constexpr (kFormat == Blocks::kQ8_0) {
      scale[0] = half_at(p);
      std::memcpy(q, p + 2, sizeof q);
    } else if constexpr (kFormat == Blocks::kQ6_K) {
      read_six(p);
    } else if constexpr (kOfGroups) {
      read_groups(p);
    } else {
      read_small(p);
    }
  }

 private:
  EXN_SIMD void put(int i, u8x16 v) { std::memcpy(q + i, &v, sizeof v); }

  EXN_SIMD void read_small(const uint8_t* p) {
    constexpr int kHigh = kIsShifted ? 4 : 2, kLow = kHigh + (kHasFive ? 4 : 0);
    constexpr uint8_t kMiddle = kIsShifted ? 0 : kHasFive ? 16 : 8;
    scale[0] = half_at(p);
    if constexpr (kIsShifted) shift[0] = half_at(p + 2);
    const u8x16 pairs = bytes_at(p + kLow);
    u8x16 low = pairs & 15, high = pairs >> 4;
    if constexpr (kHasFive) {
      low |= fifth_bits(p + kHigh);
      high |= fifth_bits(p + kHigh + 2);
    }
    put(0, low - kMiddle);
    put(16, high - kMiddle);
  }

  EXN_SIMD void read_groups(const uint8_t* p) {
    const float d = half_at(p), least = half_at(p + 2);
    const uint8_t* const six = p + 4;
    for (int g = 0; g < 4; ++g) {
      scale[g] = d * static_cast<float>(six[g] & 63);
      shift[g] = -(least * static_cast<float>(six[g + 4] & 63));
      scale[g + 4] = d * static_cast<float>((six[g + 8] & 15) | six[g] >> 6 << 4);
      shift[g + 4] = -(least * static_cast<float>(six[g + 8] >> 4 | six[g + 4] >> 6 << 4));
    }
    constexpr bool kFive = kFormat == Blocks::kQ5_K;
    const uint8_t* const pairs = p + (kFive ? 48 : 16);
    for (int half = 0; half < 32; half += 16) {
      u8x16 fifth = kFive ? bytes_at(p + 16 + half) : u8x16{};
      for (int g = 0; g < 8; g += 2, fifth >>= 2) {
        const u8x16 pair = bytes_at(pairs + g * 16 + half);
        put(g * 32 + half, (pair & 15) | (fifth & 1) << 4);
        put(g * 32 + 32 + half, pair >> 4 | (fifth & 2) << 3);
      }
    }
  }

  EXN_SIMD void read_six(const uint8_t* p) {
    const float d = half_at(p + 208);
    for (int g = 0; g < kGroups; ++g)
      scale[g] = d * static_cast<float>(static_cast<int8_t>(p[192 + g]));
    for (int half = 0; half < 2; ++half) {
      for (int l = 0; l < 32; l += 16) {
        const u8x16 a = bytes_at(p + half * 64 + l), b = bytes_at(p + half * 64 + 32 + l);
        const u8x16 two = bytes_at(p + 128 + half * 32 + l);
        const int i = half * 128 + l;
        put(i, ((a & 15) | (two & 3) << 4) - 32);
        put(i + 32, ((b & 15) | (two & 12) << 2) - 32);
        put(i + 64, (a >> 4 | (two & 48)) - 32);
        put(i + 96, (b >> 4 | (two & 192) >> 2) - 32);
      }
    }
  }
};

// Calls f(i, v) for the elements of a block, a vector after another.
template <Blocks kFormat, class F>
static EXN_SIMD void for_elements(const uint8_t* block, F&& f) {
  UnpackedBlock<kFormat> unpacked;
  unpacked.read(block);
  using Block = UnpackedBlock<kFormat>;
  static_assert(Block::kGroup % kLanes == 0);
  for (int g = 0; g < Block::kGroups; ++g) {
    const f32v scale = set1(unpacked.scale[g]);
    for (int i = g * Block::kGroup; i < (g + 1) * Block::kGroup; i += kLanes) {
      f32v v = mul(scale, load(unpacked.q + i));
      if constexpr (Block::kIsShifted) v = add(v, set1(unpacked.shift[g]));
      f(i, v);
    }
  }
}

// Calls f(std::integral_constant<Blocks, ...>) with the format, of which there are blocks.
template <class F>
static EXN_SIMD void with_blocks(Blocks format, F&& f) {
  switch (format) {
    case Blocks::kNone:
    case Blocks::kPanelsF32:
    case Blocks::kPanelsF16:
    case Blocks::kPanelsBF16:
      break;
    case Blocks::kQ4_0:
      return f(std::integral_constant<Blocks, Blocks::kQ4_0>());
    case Blocks::kQ4_1:
      return f(std::integral_constant<Blocks, Blocks::kQ4_1>());
    case Blocks::kQ5_0:
      return f(std::integral_constant<Blocks, Blocks::kQ5_0>());
    case Blocks::kQ5_1:
      return f(std::integral_constant<Blocks, Blocks::kQ5_1>());
    case Blocks::kQ8_0:
      return f(std::integral_constant<Blocks, Blocks::kQ8_0>());
    case Blocks::kQ4_K:
      return f(std::integral_constant<Blocks, Blocks::kQ4_K>());
    case Blocks::kQ5_K:
      return f(std::integral_constant<Blocks, Blocks::kQ5_K>());
    case Blocks::kQ6_K:
      return f(std::integral_constant<Blocks, Blocks::kQ6_K>());
  }
}

}  // namespace exn::cpu::EXN_ISA
