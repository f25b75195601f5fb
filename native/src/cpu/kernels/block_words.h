// SPDX-License-Identifier: Apache-2.0
// Quantised weights that meet inputs by words of 16 bits, which every set multiplies: elements in
// their order, 256 in a step.
#pragma once

#include "../simd/words.h"
#include "block_products.h"

namespace exn::cpu::EXN_ISA {

template <Blocks kBlocks>
struct Step : BlockTraits<kBlocks> {
  using Traits = BlockTraits<kBlocks>;
  using Traits::kFive;
  using Traits::kLess;
  using Traits::kLong;
  using Traits::kTwo;
  static constexpr int kBlockBytes = Traits::kBytes;
  static constexpr int kElements = 256;
  static constexpr int kBytes = kElements / Traits::kElements * kBlockBytes;
  static constexpr int kScales = kBlocks == Blocks::kQ6_K ? 16 : 8;
  // An input's step: words, scales, and the sums of elements if they are wanted.
  static constexpr int kScalesAt = 2 * kElements, kSumsAt = kScalesAt + 32;
  static constexpr int kInputBytes = kScalesAt + 64;
  // Vectors of 32 elements, and groups of so many that are unpacked together.
  static constexpr int kVectors = 32 / kWordLanes;
  static constexpr int kUnit = kBlocks == Blocks::kQ6_K ? 4 : kLong ? 2 : 1;

  static EXN_SIMD f16 half_at(const uint8_t* p) {
    f16 half;
    std::memcpy(&half, p, sizeof half);
    return half;
  }

  // Factors of the sums of products, and of the sums of elements; of groups that there are not 0.
  static EXN_SIMD void load_scales(const uint8_t* p, int groups, float* scale, float* second) {
    if constexpr (!kLong) {
      f16 d[8] = {}, m[8] = {};
      for (int b = 0; b < groups; ++b) {
        d[b] = half_at(p + b * kBlockBytes);
        if constexpr (kTwo) m[b] = half_at(p + b * kBlockBytes + 2);
      }
      for (int i = 0; i < 8; i += kLanes) {
        store(scale + i, load(d + i));
        if constexpr (kTwo) store(second + i, load(m + i));
      }
    } else if constexpr (kTwo) {
      uint32_t in[3];
      std::memcpy(in, p + 4, sizeof in);
      // By words of 64 bits, which a vector takes from a register.
      uint64_t six[2];
      for (int i = 0; i < 2; ++i) {
        const uint32_t last = (in[2] >> 4 * i & 0x0f0f0f0f) | (in[i] >> 2 & 0x30303030);
        six[i] = (in[i] & 0x3f3f3f3f) | static_cast<uint64_t>(last) << 32;
      }
      const float d = to_float(half_at(p)), dmin = -to_float(half_at(p + 2));
      uint8_t s[8], t[8];
      std::memcpy(s, &six[0], sizeof s);
      std::memcpy(t, &six[1], sizeof t);
      for (int i = 0; i < 8; ++i) scale[i] = d * static_cast<float>(s[i]);
      for (int i = 0; i < 8; ++i) second[i] = dmin * static_cast<float>(t[i]);
    } else {
      int8_t s[16];
      std::memcpy(s, p + 192, sizeof s);
      const float d = to_float(half_at(p + 208));
      for (int i = 0; i < 16; ++i) scale[i] = d * static_cast<float>(s[i]);
    }
  }

  // Quants of the groups of a unit, kVectors for each.
  static EXN_SIMD void unpack(const uint8_t* step, int unit, i16v* q) {
    if constexpr (kBlocks == Blocks::kQ8_0) {
      const auto* const p = reinterpret_cast<const int8_t*>(step + unit * kBlockBytes + 2);
      for (int i = 0; i < kVectors; ++i) q[i] = widen_bytes(p + i * kWordLanes);
    } else if constexpr (!kLong) {
      const uint8_t* const p = step + unit * kBlockBytes;
      uint32_t high = 0;
      if constexpr (kFive) std::memcpy(&high, p + Traits::kHigh, sizeof high);
      for (int i = 0; i < kVectors / 2; ++i) {
        const i16v both = widen_bytes(p + Traits::kLow + i * kWordLanes);
        q[i] = both & 15;
        q[kVectors / 2 + i] = both >> 4;
      }
      for (int i = 0; i < kVectors; ++i) {
        if constexpr (kFive) q[i] = q[i] | bits_of_words(high >> i * kWordLanes);
        if constexpr (kLess == 8) q[i] = q[i] - 8;
      }
    } else if constexpr (kTwo) {
      const uint8_t* const p = step + (kFive ? 48 : 16) + unit * 32;
      for (int i = 0; i < kVectors; ++i) {
        const i16v both = widen_bytes(p + i * kWordLanes);
        q[i] = both & 15;
        q[kVectors + i] = both >> 4;
        if constexpr (kFive) {
          const i16v bits = widen_bytes(step + 16 + i * kWordLanes) >> (2 * unit);
          q[i] = q[i] | (bits << 4 & 16);
          q[kVectors + i] = q[kVectors + i] | (bits << 3 & 16);
        }
      }
    } else {
      for (int i = 0; i < kVectors; ++i) {
        const i16v a = widen_bytes(step + unit * 64 + i * kWordLanes);
        const i16v b = widen_bytes(step + unit * 64 + 32 + i * kWordLanes);
        const i16v high = widen_bytes(step + 128 + unit * 32 + i * kWordLanes);
        q[i] = ((a & 15) | (high << 4 & 48)) - kLess;
        q[kVectors + i] = ((b & 15) | (high << 2 & 48)) - kLess;
        q[2 * kVectors + i] = (a >> 4 | (high & 48)) - kLess;
        q[3 * kVectors + i] = (b >> 4 | (high >> 2 & 48)) - kLess;
      }
    }
  }
  // What the lowest bits add to nibbles: 16, or, where quants are less 16, -16 where there is none.
  static EXN_SIMD i16v bits_of_words(uint32_t bits) {
    alignas(32) static constexpr int16_t kBits[16] = {
        1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, -32768};
    const i16v each = load_words(kBits);
    const i16v all = static_cast<int16_t>(bits) - i16v{};
    return kLess == 0 ? ((all & each) == each) & 16 : ((all & each) == 0) & -16;
  }

  // The n-th 32 elements of an input into their steps, which hold zeros.
  static EXN_SIMD void put(const Rounded& x, int64_t n, char* input) {
    char* const to = input + n / 8 * kInputBytes;
    const int64_t group = n % 8;
    auto* const words = reinterpret_cast<int16_t*>(to) + group * 32;
    for (int i = 0; i < 32; ++i) words[i] = static_cast<int16_t>(x.q[i]);
    auto* const scales = reinterpret_cast<float*>(to + kScalesAt);
    for (int64_t i = group * kScales / 8; i < (group + 1) * kScales / 8; ++i) scales[i] = x.scale;
    if constexpr (kTwo) {
      reinterpret_cast<float*>(to + kSumsAt)[group] = x.scale * static_cast<float>(x.sum(0, 32));
    }
  }
};

// Adds kX inputs' products with `groups` times 32 elements of a step of kW rows to their sums.
template <Blocks kBlocks, int kW, int kX, bool kWhole>
static EXN_SIMD void add_step(const uint8_t* const* weight, int64_t at, int some, const char* input,
                              int64_t stride, f32v* sums) {
  using S = Step<kBlocks>;
  const int groups = kWhole ? 8 : some;
  const uint8_t* rows[kW];
  for (int w = 0; w < kW; ++w) rows[w] = weight[w] + at;
  float scales[kW * kX][S::kScales];
  for (int w = 0; w < kW; ++w) {
    float scale[S::kScales], second[8];
    S::load_scales(rows[w], groups, scale, second);
    for (int x = 0; x < kX; ++x) {
      const char* const from = input + x * stride;
      const auto* const with = reinterpret_cast<const float*>(from + S::kScalesAt);
      f32v& sum = sums[x * kW + w];
      for (int i = 0; i < S::kScales; i += kLanes) {
        store(scales[x * kW + w] + i, mul(load(scale + i), load(with + i)));
      }
      if constexpr (S::kTwo) {
        const auto* const total = reinterpret_cast<const float*>(from + S::kSumsAt);
        for (int i = 0; i < 8; i += kLanes) sum = fma(load(second + i), load(total + i), sum);
      }
    }
  }
  for (int unit = 0; unit * S::kUnit < groups; ++unit) {
    i16v q[kW][S::kUnit * S::kVectors];
    for (int w = 0; w < kW; ++w) S::unpack(rows[w], unit, q[w]);
    for (int x = 0; x < kX; ++x) {
      const auto* const words =
          reinterpret_cast<const int16_t*>(input + x * stride) + unit * S::kUnit * 32;
      for (int w = 0; w < kW; ++w) {
        const float* const scale = scales[x * kW + w] + unit * (S::kUnit * S::kScales / 8);
        // Vectors that one scale belongs to.
        constexpr int kEach = S::kVectors * 8 / S::kScales;
        for (int v = 0; v < S::kUnit * S::kVectors; v += kEach) {
          i32v ints = dot_words(q[w][v], load_words(words + v * kWordLanes));
          for (int i = 1; i < kEach; ++i) {
            ints = ints + dot_words(q[w][v + i], load_words(words + (v + i) * kWordLanes));
          }
          sums[x * kW + w] = fma(to_floats(ints), set1(scale[v / kEach]), sums[x * kW + w]);
        }
      }
    }
  }
}

}  // namespace exn::cpu::EXN_ISA
