// SPDX-License-Identifier: Apache-2.0
// Quantised weights that meet inputs by bytes, where there are instructions for that: unsigned
// quants, and the two halves of an input's integers, both with a sign.
//
// A step is four short blocks or a long one, in vectors of 64 quants. In those of short blocks each
// quarter is half a block, so that one vector of sums suits all; and of long ones they lie as they
// come out of the halves of bytes, eight or four lanes of sums for each scale.
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

template <Blocks kBlocks>
struct Step : BlockTraits<kBlocks> {
  using Traits = BlockTraits<kBlocks>;
  using Traits::kFive;
  using Traits::kLong;
  using Traits::kTwo;
  static constexpr int kBlockBytes = Traits::kBytes;
  static constexpr int kElements = kLong ? 256 : 128;
  static constexpr int kBytes = kElements / Traits::kElements * kBlockBytes;
  static constexpr int kParts = kElements / 64;
  static constexpr int kLess = kBlocks == Blocks::kQ8_0 ? 128 : Traits::kLess;

  // An input's step: upper halves, lower halves, what kLess takes off the sums, scales, and of
  // short blocks with two numbers the sums of elements. Of long ones these are upper scales.
  static constexpr int kLower = 64 * kParts, kTaken = 2 * kLower;
  static constexpr int kScales = kTaken + (kLess == 0 ? 0 : kLong ? 64 * kParts : 64);
  static constexpr int kSums = kScales + 64;
  static constexpr int kInputBytes = kSums + (kTwo && !kLong ? 64 : 0);

  bytes_v parts[kParts];
  f32v scale, second;

  // The quants of lanes that a bit in `bits` makes larger by 16: bits 0 to 3 of them from `low`.
  static EXN_SIMD bytes_v five_bits(bytes_v low, bytes_v bits) {
    return and_bytes(select_bits(set1_bytes(15), low, bits), set1_bytes(31));
  }

  // 64 bytes of a step, of which `bytes` exist from there on; all of them if it is whole.
  template <bool kWhole>
  static EXN_SIMD bytes_v load_some(const uint8_t* p, int64_t bytes) {
    return kWhole ? load_bytes(p) : load_bytes_n(p, bytes);
  }

  template <bool kWhole>
  static EXN_SIMD Step load(const uint8_t* p, int64_t bytes) {
    static_assert(kWhole || !kLong);
    if constexpr (kBlocks == Blocks::kQ8_0) {
      return load_whole<kWhole>(p, bytes);
    } else if constexpr (!kLong) {
      return load_short<kWhole>(p, bytes);
    } else if constexpr (kBlocks == Blocks::kQ6_K) {
      return load_six(p);
    } else {
      return load_long(p);
    }
  }

  template <bool kWhole>
  static EXN_SIMD Step load_whole(const uint8_t* p, int64_t bytes) {
    constexpr int kThird = 16, kFourth = kBytes - 64;  // what is read for the upper halves
    static constexpr auto kLow =
        ByteOrder::of([](int i) { return i / 16 * kBlockBytes + 2 + i % 16; });
    static constexpr auto kHigh = ByteOrder::of([](int i) {
      const int at = i / 16 * kBlockBytes + 18 + i % 16;
      return at < kFourth ? at - kThird : at - kFourth + 64;
    });
    static constexpr auto kScale =
        ByteOrder::of([](int i) { return i / 8 % 4 * kBlockBytes + i % 2; });
    const auto at = [&](int first) EXN_FLAT { return load_some<kWhole>(p + first, bytes - first); };
    bytes_v a = at(0);
    const bytes_v b = at(64);
    bytes_v scale = pick_bytes(kScale, a, b);
    made_of(scale, a);
    Step step;
    step.scale = halves_to_floats(scale);
    step.parts[0] = xor_bytes(pick_bytes(kLow, a, b), set1_bytes(128));
    step.parts[1] = xor_bytes(pick_bytes(kHigh, at(kThird), at(kFourth)), set1_bytes(128));
    return step;
  }

  // Number of a byte of the step in two vectors, of its beginning and its end.
  static constexpr int in_two(int at) { return at < 64 ? at : at - (kBytes - 64) + 64; }
  // A half of each block, four times.
  static constexpr ByteOrder halves_at(int first) {
    return ByteOrder::of(
        [first](int i) { return in_two(i / 8 % 4 * kBlockBytes + first + i % 2); });
  }

  template <bool kWhole>
  static EXN_SIMD Step load_short(const uint8_t* p, int64_t bytes) {
    static constexpr auto kQuants =
        ByteOrder::of([](int i) { return in_two(i / 16 * kBlockBytes + Traits::kLow + i % 16); });
    static constexpr auto kScale = halves_at(0), kSecond = halves_at(2);
    constexpr int kLast = kBytes - 64;
    bytes_v a = load_some<kWhole>(p, bytes);
    const bytes_v b = load_some<kWhole>(p + kLast, bytes - kLast);
    const auto halves = [&](bytes_v order) EXN_FLAT {
      constexpr bool kOne = 3 * kBlockBytes + (kTwo ? 4 : 2) <= 64;
      bytes_v some = kOne ? pick_bytes(order, a) : pick_bytes(order, a, b);
      made_of(some, a);
      return halves_to_floats(some);
    };
    Step step;
    step.scale = halves(kScale);
    if constexpr (kTwo) step.second = halves(kSecond);
    bytes_v bits = a;
    if constexpr (kFive) {
      // Of each block four bytes, four times; bit 4 of a byte is the one that its element wants.
      static constexpr auto kBits =
          ByteOrder::of([](int i) { return in_two(i / 16 * kBlockBytes + Traits::kHigh + i % 4); });
      bits = pick_bytes(kBits, a, b);
      made_of(bits, a);
    }
    const bytes_v quants = pick_bytes(kQuants, a, b), upper = upper_halves(quants);
    if constexpr (kFive) {
      static constexpr auto kFirst = ByteOrder::of([](int i) { return (i % 16 - 4) & 63; });
      static constexpr auto kSecondHalf = ByteOrder::of([](int i) { return i % 16 + 16 - 4; });
      step.parts[0] = five_bits(quants, pick_bits(kFirst, bits));
      step.parts[1] = five_bits(upper, pick_bits(kSecondHalf, bits));
    } else {
      step.parts[0] = and_bytes(quants, set1_bytes(15));
      step.parts[1] = and_bytes(upper, set1_bytes(15));
    }
    return step;
  }

  // Lanes 0 to 7 of the scales are d s, the others dmin t.
  static EXN_SIMD Step load_long(const uint8_t* p) {
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
    Step step;
    step.scale = mul(bytes_to_floats(and_bytes(joined, set1_bytes(63))),
                     halves_to_floats(pick_bytes(kNumbers, head)));
    constexpr int kQuants = kFive ? 48 : 16;
    const bytes_v bits = kFive ? load_bytes_twice(p + 16) : zero_bytes();
    for (int i = 0; i < 2; ++i) {
      const bytes_v quants = load_bytes(p + kQuants + 64 * i), upper = upper_halves(quants);
      if constexpr (kFive) {
        static constexpr ByteOrder kFrom[4] = {group_bit(0), group_bit(1), group_bit(4),
                                               group_bit(5)};
        step.parts[2 * i] = five_bits(quants, pick_bits(kFrom[2 * i], bits));
        step.parts[2 * i + 1] = five_bits(upper, pick_bits(kFrom[2 * i + 1], bits));
      } else {
        step.parts[2 * i] = and_bytes(quants, set1_bytes(15));
        step.parts[2 * i + 1] = and_bytes(upper, set1_bytes(15));
      }
    }
    return step;
  }
  // Bit `first` of a byte as bit 4 in the lower half, and bit first + 2 in the upper one.
  static constexpr ByteOrder group_bit(int first) {
    return ByteOrder::of([first](int i) { return (i % 8 * 8 + first + i / 32 * 2 - 4) & 63; });
  }

  static EXN_SIMD Step load_six(const uint8_t* p) {
    static constexpr auto kFirst = group_bit(0), kLast = group_bit(4);  // and the next one
    static constexpr auto kNumber = ByteOrder::of([](int i) { return 62 + i % 2; });
    Step step;
    for (int i = 0; i < 2; ++i) {
      const bytes_v low = load_bytes(p + 64 * i), high = load_bytes_twice(p + 128 + 32 * i);
      const auto six = [&](bytes_v four, bytes_v from) EXN_FLAT {
        return and_bytes(select_bits(set1_bytes(15), four, pick_bits(from, high)), set1_bytes(63));
      };
      step.parts[2 * i] = six(low, kFirst);
      step.parts[2 * i + 1] = six(upper_halves(low), kLast);
    }
    step.scale = mul(signed_bytes_to_floats(p + 192),
                     halves_to_floats(pick_bytes(kNumber, load_bytes(p + kBytes - 64))));
    return step;
  }

  // The sum with the products of a step of an input.
  EXN_SIMD f32v add_to(f32v sum, const char* input) const {
    const f32v scales = EXN_ISA::load(reinterpret_cast<const float*>(input + kScales));
    if constexpr (!kLong) {
      bytes_v ints = zero_bytes();
      for (int i = 0; i < kParts; ++i) {
        ints = dot_bytes(ints, parts[i], load_bytes(input + 64 * i));
      }
      ints = times_256(ints);
      for (int i = 0; i < kParts; ++i) {
        ints = dot_bytes(ints, parts[i], load_bytes(input + kLower + 64 * i));
      }
      if constexpr (kLess != 0) ints = add_ints(ints, load_bytes(input + kTaken));
      sum = fma(to_floats(ints), mul(scale, scales), sum);
      if constexpr (kTwo) {
        sum = fma(second, EXN_ISA::load(reinterpret_cast<const float*>(input + kSums)), sum);
      }
      return sum;
    }
    const f32v both = mul(scale, scales);
    static constexpr LaneOrder kOrder[4] = {lanes_of(0), lanes_of(1), lanes_of(2), lanes_of(3)};
    for (int i = 0; i < kParts; ++i) {
      bytes_v ints = dot_bytes(zero_bytes(), parts[i], load_bytes(input + 64 * i));
      ints = dot_bytes(times_256(ints), parts[i], load_bytes(input + kLower + 64 * i));
      if constexpr (kLess != 0) ints = add_ints(ints, load_bytes(input + kTaken + 64 * i));
      sum = fma(to_floats(ints), pick_lanes(kOrder[i], both), sum);
    }
    if constexpr (kTwo) sum = subtract_upper_product(scale, scales, sum);
    return sum;
  }
  // Scales of the lanes of a long block's part.
  static constexpr LaneOrder lanes_of(int part) {
    return LaneOrder::of(
        [part](int i) { return kTwo ? part / 2 * 4 + part % 2 + i / 8 * 2 : part * 4 + i / 4; });
  }

  // The n-th 32 elements of an input into their steps, which hold zeros.
  static EXN_SIMD void put(const Rounded& x, int64_t n, char* input) {
    char* const to = input + n * 32 / kElements * kInputBytes;
    const int group = static_cast<int>(n % (kElements / 32));
    // 16 of the elements lie at `first`, the others at `last`.
    int first, last;
    if constexpr (!kLong) {
      first = 16 * group;
      last = 64 + first;
    } else {
      const int part = kTwo ? group / 4 * 2 + group % 2 : group / 2;
      first = 64 * part + 32 * (kTwo ? group / 2 % 2 : group % 2);
      last = first + 16;
    }
    int8_t upper[32], lower[32];
    for (int i = 0; i < 32; ++i) {
      lower[i] = static_cast<int8_t>(x.q[i]);
      upper[i] = static_cast<int8_t>((x.q[i] - lower[i]) >> 8);
    }
    std::memcpy(to + first, upper, 16);
    std::memcpy(to + last, upper + 16, 16);
    std::memcpy(to + kLower + first, lower, 16);
    std::memcpy(to + kLower + last, lower + 16, 16);
    if constexpr (kLess != 0) {
      auto* const taken = reinterpret_cast<int32_t*>(to + kTaken);
      for (int i = 0; i < 32; i += 4) {
        const int at = i < 16 ? first + i : last + i - 16;
        taken[(kLong ? at : at % 64) / 4] -= kLess * x.sum(i, i + 4);
      }
    }
    auto* const scales = reinterpret_cast<float*>(to + kScales);
    if constexpr (!kLong) {
      for (int i = 0; i < 4; ++i) scales[4 * group + i] = x.scale;
      if constexpr (kTwo) {
        reinterpret_cast<float*>(to + kSums)[4 * group] =
            x.scale * static_cast<float>(x.sum(0, 32));
      }
    } else if constexpr (kTwo) {
      scales[group] = x.scale;
      scales[8 + group] = x.scale * static_cast<float>(x.sum(0, 32));
    } else {
      scales[2 * group] = scales[2 * group + 1] = x.scale;
    }
  }
};

// Adds kX inputs' products with a step of kW rows to their sums. Of one that is not whole there are
// `groups` times 32 elements.
template <Blocks kBlocks, int kW, int kX, bool kWhole>
static EXN_SIMD void add_step(const uint8_t* const* rows, int64_t at, int groups, const char* input,
                              int64_t stride, f32v* sums) {
  using S = Step<kBlocks>;
  const int64_t bytes = kWhole ? 0 : groups * S::kBlockBytes;
  // Those of long blocks take the registers.
  constexpr int kAtOnce = S::kLong ? 1 : kW;
  for (int w = 0; w < kW; w += kAtOnce) {
    S steps[kAtOnce];
    for (int i = 0; i < kAtOnce; ++i) {
      steps[i] = S::template load<kWhole>(rows[w + i] + at, bytes);
    }
#pragma GCC unroll 8
    for (int x = 0; x < kX; ++x) {
      for (int i = 0; i < kAtOnce; ++i) {
        f32v& sum = sums[x * kW + w + i];
        sum = steps[i].add_to(sum, input + x * stride);
      }
    }
  }
}

}  // namespace exn::cpu::EXN_ISA
