// SPDX-License-Identifier: Apache-2.0
// Microkernels for quantised weights that multiply words of 16 bits, as every set can, 256 in a
// step: elements in their order where a row is unpacked for one input, and side by side where it is
// for several, so that a vector of sums has lanes for four scales. So have the sums of the former,
// once they are folded.
#pragma once

#include "../simd/words.h"
#include "block_products.h"

namespace exn::cpu::EXN_ISA {

template <Blocks kBlocks, bool kPacked = false>
struct Step : BlockTraits<kBlocks> {
  using Traits = BlockTraits<kBlocks>;
  using Traits::kFiveBits;
  using Traits::kHasMin;
  using Traits::kSuperBlock;
  using Traits::kZeroPoint;
  static constexpr int kBlockBytes = Traits::kBytes;
  static constexpr int kElements = 256;
  static constexpr bool kRests = !kSuperBlock;  // whether rows may end within a step
  static constexpr int kBytes = kElements / Traits::kElements * kBlockBytes;
  static constexpr int kScales = kBlocks == Blocks::kQ6_K ? 16 : 8;
  // An input's step: words in their order, and side by side, scales, and the sums of elements if
  // they are wanted.
  static constexpr int kSideBySide = 2 * kElements, kScalesAt = 4 * kElements;
  static constexpr int kSumsAt = kScalesAt + 64;
  static constexpr int kTurns = 2;  // of add_unpacked: one for each row
  static constexpr int kInputBytes = kSumsAt + (kHasMin ? 64 : 0);
  // Vectors of 32 elements, and groups of so many that are unpacked together.
  static constexpr int kVectors = 32 / kWordLanes;
  static constexpr int kUnit = kBlocks == Blocks::kQ6_K ? 4 : kSuperBlock ? 2 : 1;
  // Vectors that one scale belongs to, and four of them.
  static constexpr int kEach = kVectors * 8 / kScales, kFour = 4 * kEach;

  static EXN_SIMD f16 half_at(const uint8_t* p) {
    f16 half;
    std::memcpy(&half, p, sizeof half);
    return half;
  }

  // Factors of the sums of products, and of the sums of elements; of groups that there are not 0.
  static EXN_SIMD void load_scales(const uint8_t* p, int groups, float* scale, float* second) {
    if constexpr (!kSuperBlock) {
      f16 d[8] = {}, m[8] = {};
      for (int b = 0; b < groups; ++b) {
        d[b] = half_at(p + b * kBlockBytes);
        if constexpr (kHasMin) m[b] = half_at(p + b * kBlockBytes + 2);
      }
      for (int i = 0; i < 8; i += kLanes) {
        store(scale + i, load(d + i));
        if constexpr (kHasMin) store(second + i, load(m + i));
      }
    } else if constexpr (kHasMin) {
      uint32_t in[3];
      std::memcpy(in, p + 4, sizeof in);
      // By words of 64 bits, which a vector takes from a register.
      uint64_t six[2];
      for (int i = 0; i < 2; ++i) {
        const uint32_t last = (in[2] >> 4 * i & 0x0f0f0f0f) | (in[i] >> 2 & 0x30303030);
        six[i] = (in[i] & 0x3f3f3f3f) | static_cast<uint64_t>(last) << 32;
      }
      const float d = to_float(half_at(p)), dmin = -to_float(half_at(p + 2));
      int8_t s[16];
      std::memcpy(s, six, sizeof s);
      for (int i = 0; i < 8; i += kLanes) {
        store(scale + i, mul(set1(d), load(s + i)));
        store(second + i, mul(set1(dmin), load(s + 8 + i)));
      }
    } else {
      const auto* const s = reinterpret_cast<const int8_t*>(p + 192);
      const f32v d = set1(to_float(half_at(p + 208)));
      for (int i = 0; i < 16; i += kLanes) store(scale + i, mul(d, load(s + i)));
    }
  }

  // Quants of the groups of a unit, kVectors for each.
  static EXN_SIMD void unpack(const uint8_t* step, int unit, i16v* q) {
    if constexpr (kBlocks == Blocks::kQ8_0) {
      const auto* const p = reinterpret_cast<const int8_t*>(step + unit * kBlockBytes + 2);
      for (int i = 0; i < kVectors; ++i) q[i] = widen_bytes(p + i * kWordLanes);
    } else if constexpr (!kSuperBlock) {
      const uint8_t* const p = step + unit * kBlockBytes;
      uint32_t high = 0;
      if constexpr (kFiveBits) std::memcpy(&high, p + Traits::kHigh, sizeof high);
      for (int i = 0; i < kVectors / 2; ++i) {
        const i16v both = widen_bytes(p + Traits::kLow + i * kWordLanes);
        q[i] = both & 15;
        q[kVectors / 2 + i] = both >> 4;
      }
      for (int i = 0; i < kVectors; ++i) {
        if constexpr (kFiveBits) q[i] = q[i] | bits_of_words(high >> i * kWordLanes);
        if constexpr (kZeroPoint == 8) q[i] = q[i] - 8;
      }
    } else if constexpr (kHasMin) {
      const uint8_t* const p = step + (kFiveBits ? 48 : 16) + unit * 32;
      for (int i = 0; i < kVectors; ++i) {
        const i16v both = widen_bytes(p + i * kWordLanes);
        q[i] = both & 15;
        q[kVectors + i] = both >> 4;
        if constexpr (kFiveBits) {
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
        q[i] = ((a & 15) | (high << 4 & 48)) - kZeroPoint;
        q[kVectors + i] = ((b & 15) | (high << 2 & 48)) - kZeroPoint;
        q[2 * kVectors + i] = (a >> 4 | (high & 48)) - kZeroPoint;
        q[3 * kVectors + i] = (b >> 4 | (high >> 2 & 48)) - kZeroPoint;
      }
    }
  }
  // What the lowest bits add to nibbles: 16, or, where quants are less 16, -16 where there is none.
  static EXN_SIMD i16v bits_of_words(uint32_t bits) {
    alignas(32) static constexpr int16_t kBits[16] = {
        1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, -32768};
    const i16v each = load_words(kBits);
    const i16v all = static_cast<int16_t>(bits) - i16v{};
    return kZeroPoint == 0 ? ((all & each) == each) & 16 : ((all & each) == 0) & -16;
  }

  // The n-th 32 elements of an input into their steps, which hold zeros.
  static EXN_SIMD void put(const Rounded& x, int64_t n, char* input) {
    char* const to = input + n / 8 * kInputBytes;
    const int64_t group = n % 8;
    auto* const words = reinterpret_cast<int16_t*>(to) + group * 32;
    auto* const beside = reinterpret_cast<int16_t*>(to + kSideBySide);
    for (int i = 0; i < 32; ++i) words[i] = static_cast<int16_t>(x.q[i]);
    for (int i = 0; i < 32; i += 2) {
      std::memcpy(beside + place_of(static_cast<int>(group), i), words + i, 2 * sizeof *words);
    }
    auto* const scales = reinterpret_cast<float*>(to + kScalesAt);
    for (int64_t i = group * kScales / 8; i < (group + 1) * kScales / 8; ++i) scales[i] = x.scale;
    if constexpr (kHasMin) {
      reinterpret_cast<float*>(to + kSumsAt)[group] = x.scale * static_cast<float>(x.sum(0, 32));
    }
  }

  // Where element i of a group of 32 lies side by side: of each vector of its scale, fours of pairs
  // were exchanged with those of three other scales.
  static constexpr int place_of(int group, int i) {
    const int scale = group * kScales / 8 + i / (256 / kScales), pair = i % (256 / kScales) / 2;
    const int vector = scale / 4 * kFour + pair / (kWordLanes / 2) * 4 + pair % 4;
    return vector * kWordLanes + (pair % (kWordLanes / 2) / 4 * 4 + scale % 4) * 2 + i % 2;
  }

  // ---- rows that were unpacked: words side by side, scales and minima ----

  static constexpr int kMinsAt = 2 * kElements + 4 * kScales;
  static constexpr int kUnpackedBytes = kMinsAt + (kHasMin ? 32 : 0);

  template <bool kAll>
  static EXN_SIMD void unpack_to(const uint8_t* p, int some, char* to) {
    const int groups = kAll ? 8 : some;
    auto* const scales = reinterpret_cast<float*>(to + 2 * kElements);
    float none[8];
    load_scales(p, groups, scales, kHasMin ? reinterpret_cast<float*>(to + kMinsAt) : none);
    constexpr int kGroups = 4 > kUnit ? 4 : kUnit;  // of 32, that are exchanged with one another
    for (int first = 0; first < groups; first += kGroups) {
      i16v q[kGroups * kVectors];
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; g += kUnit) {
        if (kAll || first + g < groups) {
          unpack(p, (first + g) / kUnit, q + g * kVectors);
        } else {
          for (int i = 0; i < kVectors * kUnit; ++i) q[g * kVectors + i] = i16v{};
        }
      }
#pragma GCC unroll 4
      for (int v = 0; v < kGroups * kVectors; v += kFour) {
#pragma GCC unroll 4
        for (int i = 0; i < kEach; ++i) {
          i16v four[4];
#pragma GCC unroll 4
          for (int n = 0; n < 4; ++n) four[n] = q[v + n * kEach + i];
          exchange_pairs(four);
          std::memcpy(to + (first * kVectors + v + 4 * i) * int{sizeof(i16v)}, four, sizeof four);
        }
      }
    }
  }
};

// The sum with what the minima of a row add.
template <class S>
static EXN_SIMD f32v add_mins(const float* second, const char* input, f32v sum) {
  if constexpr (S::kHasMin) {
    const auto* const total = reinterpret_cast<const float*>(input + S::kSumsAt);
    for (int i = 0; i < 8; i += kLanes) sum = fma(load(second + i), load(total + i), sum);
  }
  return sum;
}

// The sum with integers that belong to four scales, of a row and of an input.
static EXN_SIMD f32v add_ints(i32v ints, const float* scales, const float* with, f32v sum) {
  return fma(to_floats(ints), mul(load_fours(scales), load_fours(with)), sum);
}

// Adds an input's products with `groups` times 32 elements of a step of kW rows to their sums.
template <class S, int kW, bool kWhole>
static EXN_SIMD void add_groups(const uint8_t* const* weight, int64_t at, int some,
                                const char* input, f32v* sums) {
  constexpr int kGroups = 4 > S::kUnit ? 4 : S::kUnit;
  const int groups = kWhole ? 8 : some;
  const auto* const with = reinterpret_cast<const float*>(input + S::kScalesAt);
  const uint8_t* rows[kW];
  float scales[kW][S::kScales];
#pragma GCC unroll 2
  for (int w = 0; w < kW; ++w) {
    rows[w] = weight[w] + at;
    float second[8];
    S::load_scales(rows[w], groups, scales[w], second);
    sums[w] = add_mins<S>(second, input, sums[w]);
  }
  for (int first = 0; first < groups; first += kGroups) {
    const auto* const words = reinterpret_cast<const int16_t*>(input) + first * 32;
#pragma GCC unroll 2
    for (int w = 0; w < kW; ++w) {
      i32v ints[kGroups * S::kVectors / S::kEach] = {};
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; g += S::kUnit) {
        if (!kWhole && first + g >= groups) break;
        i16v q[S::kUnit * S::kVectors];
        S::unpack(rows[w], (first + g) / S::kUnit, q);
#pragma GCC unroll 16
        for (int v = 0; v < S::kUnit * S::kVectors; v += S::kEach) {
          const int16_t* const p = words + (g * S::kVectors + v) * kWordLanes;
          i32v sum = dot_words(q[v], load_words(p));
#pragma GCC unroll 4
          for (int i = 1; i < S::kEach; ++i) {
            sum = sum + dot_words(q[v + i], load_words(p + i * kWordLanes));
          }
          ints[(g * S::kVectors + v) / S::kEach] = sum;
        }
      }
      const int scale = first * S::kScales / 8;
#pragma GCC unroll 2
      for (int i = 0; i < kGroups * S::kVectors / S::kFour; ++i) {
        sums[w] = add_ints(add_fours(ints + 4 * i), scales[w] + scale + 4 * i, with + scale + 4 * i,
                           sums[w]);
      }
    }
  }
}

template <class S, int kW, int kX, class Ahead>
static EXN_SIMD void add_step(const uint8_t* const* rows, int64_t at, Ahead ahead,
                              const char* input, int64_t, f32v* sums) {
  static_assert(kX == 1);
  if constexpr (kW > 1) {
    for (int w = 0; w < kW; ++w) prefetch_lines<(S::kBytes + 63) / 64>(rows[w] + at + ahead);
    in_order();
  }
  add_groups<S, kW, true>(rows, at, 8, input, sums);
}
template <class S, int kW, int kX>
static EXN_SIMD void add_rest(const uint8_t* const* rows, int64_t at, int groups, const char* input,
                              int64_t, f32v* sums) {
  static_assert(kX == 1);
  add_groups<S, kW, false>(rows, at, groups, input, sums);
}

template <class S>
static EXN_SIMD void unpack_step(const uint8_t* p, char* to) {
  S::template unpack_to<true>(p, 8, to);
}
template <class S>
static EXN_SIMD void unpack_rests(const uint8_t* const* rows, int64_t count, int64_t at, int groups,
                                  char* to, int64_t pitch) {
  for (int64_t w = 0; w < count; ++w) {
    S::template unpack_to<false>(rows[w] + at, groups, to + w * pitch);
  }
}

// Steps of an input of so many groups.
template <class S>
constexpr int64_t input_steps(int64_t groups) {
  return (groups * 32 - 1) / S::kElements + 1;
}

// `count` times 32 elements of an input into its steps, which hold zeros.
template <class S>
static EXN_SIMD void put_input(const float* x, int64_t count, bool int8, char* input) {
  for (int64_t n = 0; n < count; ++n) S::put(Rounded(x + n * 32, int8), n, input);
}

// Words take integers of 8 bits as they take those of 16.
template <class S>
using OnePlane = S;

// Adds the products of kX inputs with kW rows that were unpacked to their sums.
template <class S, int kW, int kX>
static EXN_SIMD void add_unpacked_rest(const char* const* rows, int64_t at, int groups,
                                       const char* input, int64_t stride, f32v* sums) {
#pragma GCC unroll 4
  for (int x = 0; x < kX; ++x) {
#pragma GCC unroll 2
    for (int w = 0; w < kW; ++w) {
      const auto* const second = reinterpret_cast<const float*>(rows[w] + at + S::kMinsAt);
      sums[x * kW + w] = add_mins<S>(second, input + x * stride, sums[x * kW + w]);
    }
  }
  const int fours = (groups * S::kScales / 8 + 3) / 4;
  for (int n = 0; n < fours; ++n) {
    const int64_t words = int64_t{n} * S::kFour * int64_t{sizeof(i16v)};
    i32v ints[kX * kW];
#pragma GCC unroll 8
    for (int i = 0; i < kX * kW; ++i) ints[i] = i32v{};
#pragma GCC unroll 1  // or all products are made before they are added
    for (int v = 0; v < S::kFour; ++v) {
      const int64_t place = words + v * int64_t{sizeof(i16v)};
      i16v q[kW];
#pragma GCC unroll 2
      for (int w = 0; w < kW; ++w) std::memcpy(q + w, rows[w] + at + place, sizeof(i16v));
#pragma GCC unroll 4
      for (int x = 0; x < kX; ++x) {
        const i16v p = load_words(
            reinterpret_cast<const int16_t*>(input + x * stride + S::kSideBySide + place));
#pragma GCC unroll 2
        for (int w = 0; w < kW; ++w) {
          ints[x * kW + w] = ints[x * kW + w] + dot_words(q[w], p);
        }
      }
    }
#pragma GCC unroll 4
    for (int x = 0; x < kX; ++x) {
      const auto* const with =
          reinterpret_cast<const float*>(input + x * stride + S::kScalesAt) + 4 * n;
#pragma GCC unroll 2
      for (int w = 0; w < kW; ++w) {
        const auto* const scales =
            reinterpret_cast<const float*>(rows[w] + at + 2 * S::kElements) + 4 * n;
        sums[x * kW + w] = add_ints(ints[x * kW + w], scales, with, sums[x * kW + w]);
      }
    }
  }
}

template <class S, int kW, int kX, class Between>
static EXN_SIMD void add_unpacked(const char* const* rows, int64_t at, const char* input,
                                  int64_t stride, f32v* sums, Between&& between) {
  for (int turn = 0; turn < S::kTurns; ++turn) between(turn);
  add_unpacked_rest<S, kW, kX>(rows, at, 8, input, stride, sums);
}

// Sums of kN vectors.
template <int kN>
static EXN_SIMD void fold_sums(const f32v (&v)[kN], float* out) {
  fold_vectors(v, out);
}

// Inputs for each of which a row is unpacked in registers.
constexpr int kFewInputs = 2, kInputsAtOnce = 1;
// The register tile of unpacked rows, MR x NR.
constexpr int kUnpackedMR = 2, kUnpackedNR = 4, kMostUnpackedInputs = 4;
constexpr int unpacked_rows(int) { return kUnpackedMR; }
template <class S>
constexpr int kHeldInputs = 0;

// What formats have alike once they are unpacked.
template <Blocks kBlocks>
using UnpackedStep = Step<BlockTraits<kBlocks>::kHasMin ? Blocks::kQ4_1
                          : kBlocks == Blocks::kQ6_K    ? Blocks::kQ6_K
                                                        : Blocks::kQ4_0>;

}  // namespace exn::cpu::EXN_ISA
