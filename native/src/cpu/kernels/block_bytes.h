// SPDX-License-Identifier: Apache-2.0
// Quantised weights that meet inputs by bytes, where there are instructions for that: unsigned
// quants, and the two halves of an input's integers, both with a sign.
//
// A step is 256 elements, in two halves of two vectors each. In those of short blocks each quarter
// is half a block, so that one vector of sums suits both; those of long ones lie as they come out
// of the halves of bytes, with eight or four lanes of sums for each scale.
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
  static constexpr int kElements = 256;
  static constexpr int kBytes = kElements / Traits::kElements * kBlockBytes;
  static constexpr bool kSix = kBlocks == Blocks::kQ6_K, kWhole = kBlocks == Blocks::kQ8_0;
  static constexpr int kLess = kWhole ? 128 : Traits::kLess;

  // An input's step: of each half what kLess takes off the sums, in multiples of 256, upper halves,
  // and lower ones; then scales, in lanes 0 to 7, and in the others what the second number of a
  // block is multiplied by, or what is left of kLess. With six bits, sixteen of each.
  static constexpr int kTaken = kLess == 0 ? 0 : kSix ? 128 : 64;
  static constexpr int kHalfBytes = kTaken + 4 * 64;
  static constexpr int kScales = 2 * kHalfBytes, kLeft = kScales + 64;
  static constexpr int kInputBytes = kLeft + (kSix ? 64 : 0);

  // 64 bytes of a step, of which `bytes` exist from its beginning on if it is not all there.
  template <bool kAll>
  static EXN_SIMD bytes_v load_at(const uint8_t* p, int first, int64_t bytes) {
    return kAll ? load_bytes(p + first) : load_bytes_n(p + first, bytes - first);
  }

  // ---- scales ----

  template <bool kAll>
  static EXN_SIMD f32v scales(const uint8_t* p, int64_t bytes) {
    if constexpr (kSix) {
      static constexpr auto kNumber = ByteOrder::of([](int i) { return 62 + i % 2; });
      return mul(signed_bytes_to_floats(p + 192),
                 halves_to_floats(pick_bytes(kNumber, load_bytes(p + kBytes - 64))));
    } else if constexpr (kLong) {
      return six_bit_scales(p);
    } else {
      constexpr int kBehind = kWhole ? 128 : kBytes - 64;
      static constexpr auto kFirst = ByteOrder::of(half_at);
      static constexpr auto kBehindFirst =
          ByteOrder::of([](int i) { return half_at(i) - kBehind; });
      bytes_v halves = pick_bytes(kFirst, load_at<kAll>(p, 0, bytes), load_at<kAll>(p, 64, bytes));
      if constexpr (halves_in(128, 192) != 0) {
        halves = pick_some_bytes(halves, halves_in(128, 192), kBehindFirst,
                                 load_at<kAll>(p, kBehind, bytes));
      }
      if constexpr (halves_in(192, 256) != 0) {
        static constexpr auto kLast = ByteOrder::of([](int i) { return half_at(i) - 192; });
        halves = pick_some_bytes(halves, halves_in(192, 256), kLast, load_at<kAll>(p, 192, bytes));
      }
      return halves_to_floats(halves);
    }
  }
  // Where the bytes of sixteen halves lie in short blocks: all d, and the second numbers or d again.
  static constexpr int half_at(int i) {
    return i / 2 % 8 * kBlockBytes + i % 2 + (i >= 16 && kTwo ? 2 : 0);
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

  template <int kHalf, bool kAll>
  static EXN_SIMD void quants(const uint8_t* p, int64_t bytes, bytes_v (&q)[2]) {
    if constexpr (kWhole) {
      whole_quants<kAll>(p + kHalf * 4 * kBlockBytes, bytes - kHalf * 4 * kBlockBytes, q);
    } else if constexpr (!kLong) {
      short_quants<kHalf, kAll>(p, bytes, q);
    } else {
      long_quants<kHalf>(p, q);
    }
  }

  template <bool kAll>
  static EXN_SIMD void whole_quants(const uint8_t* p, int64_t bytes, bytes_v (&q)[2]) {
    constexpr int kThird = 16, kFourth = 4 * kBlockBytes - 64;  // for the upper halves of blocks
    static constexpr auto kLow =
        ByteOrder::of([](int i) { return i / 16 * kBlockBytes + 2 + i % 16; });
    static constexpr auto kHigh = ByteOrder::of([](int i) {
      const int at = i / 16 * kBlockBytes + 18 + i % 16;
      return at < kFourth ? at - kThird : at - kFourth + 64;
    });
    q[0] = xor_bytes(pick_bytes(kLow, load_at<kAll>(p, 0, bytes), load_at<kAll>(p, 64, bytes)),
                     set1_bytes(128));
    q[1] = xor_bytes(
        pick_bytes(kHigh, load_at<kAll>(p, kThird, bytes), load_at<kAll>(p, kFourth, bytes)),
        set1_bytes(128));
  }

  // Of the vectors at 0 and 64, or of those at 64 and at the end.
  template <int kHalf>
  static constexpr int in_two(int at) {
    constexpr int kLast = kBytes - 64;
    return kHalf == 0 ? at : at < kLast ? at - 64 : at - kLast + 64;
  }

  template <int kHalf, bool kAll>
  static EXN_SIMD void short_quants(const uint8_t* p, int64_t bytes, bytes_v (&q)[2]) {
    static constexpr auto kQuants = ByteOrder::of([](int i) {
      return in_two<kHalf>((4 * kHalf + i / 16) * kBlockBytes + Traits::kLow + i % 16);
    });
    const bytes_v a = load_at<kAll>(p, kHalf * 64, bytes);
    const bytes_v b = load_at<kAll>(p, kHalf == 0 ? 64 : kBytes - 64, bytes);
    const bytes_v both = pick_bytes(kQuants, a, b);
    q[0] = and_bytes(both, set1_bytes(15));
    q[1] = upper_nibbles(both);
    if constexpr (kFive) {
      // Of each block four bytes, four times; bit 4 of a byte is the one that its element wants.
      static constexpr auto kBits = ByteOrder::of([](int i) {
        return in_two<kHalf>((4 * kHalf + i / 16) * kBlockBytes + Traits::kHigh + i % 4);
      });
      static constexpr auto kFirst = ByteOrder::of([](int i) { return (i % 16 - 4) & 63; });
      static constexpr auto kSecond = ByteOrder::of([](int i) { return i % 16 + 16 - 4; });
      const bytes_v bits = pick_bytes(kBits, a, b);
      q[0] = or_bits(q[0], pick_bits(kFirst, bits), set1_bytes(16));
      q[1] = or_bits(q[1], pick_bits(kSecond, bits), set1_bytes(16));
    }
  }

  template <int kHalf>
  static EXN_SIMD void long_quants(const uint8_t* p, bytes_v (&q)[2]) {
    const bytes_v both = load_bytes(p + (kSix ? 0 : kFive ? 48 : 16) + 64 * kHalf);
    q[0] = and_bytes(both, set1_bytes(15));
    q[1] = upper_nibbles(both);
    if constexpr (kSix || kFive) {
      // Bits of the first and the next group in the halves of a vector.
      static constexpr auto kFirst = bits_from(kSix ? 0 : 4 * kHalf, 2);
      static constexpr auto kSecond = bits_from(kSix ? 4 : 4 * kHalf + 1, 2);
      const bytes_v bits = load_bytes_twice(p + (kSix ? 128 + 32 * kHalf : 16));
      q[0] = or_bits(q[0], pick_bits(kFirst, bits), set1_bytes(kSix ? 48 : 16));
      q[1] = or_bits(q[1], pick_bits(kSecond, bits), set1_bytes(kSix ? 48 : 16));
    }
  }
  // Bits from `first` on of a byte as those from 4 on in the lower half, and `apart` later ones in
  // the upper.
  static constexpr ByteOrder bits_from(int first, int apart) {
    return ByteOrder::of([=](int i) { return (i % 8 * 8 + first + i / 32 * apart - 4) & 63; });
  }

  // ---- products ----

  static EXN_SIMD f32v input_scales(const char* input) {
    return load(reinterpret_cast<const float*>(input + kScales));
  }

  // What no quant is in: products with second numbers, or what kLess leaves.
  static EXN_SIMD f32v add_seconds(f32v sum, f32v scale, const char* input) {
    if constexpr (kSix) {
      return fma(scale, load(reinterpret_cast<const float*>(input + kLeft)), sum);
    } else {
      return add_upper_product(scale, input_scales(input), sum);
    }
  }

  // The sum with the products of a half; `both` are the scales of either side, multiplied.
  template <int kHalf>
  static EXN_SIMD f32v add_half(f32v sum, const bytes_v (&q)[2], f32v both, const char* input) {
    const char* const at = input + kHalf * kHalfBytes;
    const char* const upper = at + kTaken;
    const char* const lower = upper + 128;
    if constexpr (!kLong) {
      static constexpr auto kOrder = LaneOrder::of([](int i) { return 4 * kHalf + i / 4; });
      bytes_v ints = kLess == 0 ? zero_bytes() : load_bytes(at);
      ints = dot_bytes(ints, q[0], load_bytes(upper));
      ints = dot_bytes(ints, q[1], load_bytes(upper + 64));
      ints = times_256(ints);
      ints = dot_bytes(ints, q[0], load_bytes(lower));
      ints = dot_bytes(ints, q[1], load_bytes(lower + 64));
      return fma(to_floats(ints), pick_lanes(kOrder, both), sum);
    } else {
      static constexpr LaneOrder kOrder[2] = {lanes_of(2 * kHalf), lanes_of(2 * kHalf + 1)};
      for (int i = 0; i < 2; ++i) {
        bytes_v ints = kLess == 0 ? zero_bytes() : load_bytes(at + 64 * i);
        ints = dot_bytes(ints, q[i], load_bytes(upper + 64 * i));
        ints = dot_bytes(times_256(ints), q[i], load_bytes(lower + 64 * i));
        sum = fma(to_floats(ints), pick_lanes(kOrder[i], both), sum);
      }
      return sum;
    }
  }
  // Scales of the lanes of a long block's vector.
  static constexpr LaneOrder lanes_of(int part) {
    return LaneOrder::of(
        [part](int i) { return kSix ? part * 4 + i / 4 : part / 2 * 4 + part % 2 + i / 8 * 2; });
  }

  // ---- inputs ----

  // The n-th 32 elements of an input into their steps, which hold zeros.
  static EXN_SIMD void put(const Rounded& x, int64_t n, char* input) {
    char* const step = input + n / 8 * kInputBytes;
    const int group = static_cast<int>(n % 8);
    char* const half = step + group / 4 * kHalfBytes;
    // Where 16 of the elements lie, and the others, in the two vectors.
    const int first = !kLong ? group % 4 * 16
                      : kSix ? group % 4 / 2 * 64 + group % 2 * 32
                             : group % 2 * 64 + group % 4 / 2 * 32;
    const int at[2] = {first, first + (kLong ? 16 : 64)};
    int8_t upper[32], lower[32];
    for (int i = 0; i < 32; ++i) {
      lower[i] = static_cast<int8_t>(x.q[i]);
      upper[i] = static_cast<int8_t>((x.q[i] - lower[i]) >> 8);
    }
    for (int i = 0; i < 2; ++i) {
      std::memcpy(half + kTaken + at[i], upper + 16 * i, 16);
      std::memcpy(half + kTaken + 128 + at[i], lower + 16 * i, 16);
    }
    auto* const scales = reinterpret_cast<float*>(step + kScales);
    for (int i = 0; i < 2; ++i) {
      if constexpr (kSix) scales[2 * group + i] = x.scale;
    }
    if constexpr (!kSix) scales[group] = x.scale;
    if constexpr (kTwo) {
      const float sum = x.scale * static_cast<float>(x.sum(0, 32));
      scales[8 + group] = kLong ? -sum : sum;
    }
    if constexpr (kLess != 0) {
      // The last eight bits of what is taken off are left to f32.
      auto* const taken = reinterpret_cast<int32_t*>(half);
      int32_t left[2] = {0, 0};
      for (int i = 0; i < 32; i += 4) {
        const int lane = (at[i / 16] + i % 16) / 4;
        int32_t& whole = taken[kLong ? lane : lane % 16];
        const int32_t less = -kLess * x.sum(i, i + 4);
        whole += less >> 8;
        left[kSix ? i / 16 : 0] += less & 255;
      }
      float* const to =
          kSix ? reinterpret_cast<float*>(step + kLeft) + 2 * group : scales + 8 + group;
      for (int i = 0; i < (kSix ? 2 : 1); ++i) to[i] = x.scale * static_cast<float>(left[i]);
    }
  }
};

// Adds kX inputs' products with a half of kW rows to their sums.
template <Blocks kBlocks, int kHalf, int kW, int kX, bool kAll>
static EXN_SIMD void add_half(const uint8_t* const* rows, int64_t at, int64_t bytes,
                              const f32v* scales, const char* input, int64_t stride, f32v* sums) {
  using S = Step<kBlocks>;
  bytes_v q[kW][2];
  for (int w = 0; w < kW; ++w) S::template quants<kHalf, kAll>(rows[w] + at, bytes, q[w]);
#pragma GCC unroll 8
  for (int x = 0; x < kX; ++x) {
    const char* const from = input + x * stride;
    const f32v with = S::input_scales(from);
    for (int w = 0; w < kW; ++w) {
      f32v& sum = sums[x * kW + w];
      if constexpr (kHalf == 0 && (S::kTwo || S::kLess != 0)) {
        sum = S::add_seconds(sum, scales[w], from);
      }
      sum = S::template add_half<kHalf>(sum, q[w], mul(scales[w], with), from);
    }
  }
}

// The same with a step; of one that is not all there are `groups` times 32 elements.
template <Blocks kBlocks, int kW, int kX, bool kAll>
static EXN_SIMD void add_step(const uint8_t* const* rows, int64_t at, int groups, const char* input,
                              int64_t stride, f32v* sums) {
  using S = Step<kBlocks>;
  const int64_t bytes = kAll ? 0 : groups * S::kBlockBytes;
  f32v scales[kW];
  for (int w = 0; w < kW; ++w) scales[w] = S::template scales<kAll>(rows[w] + at, bytes);
  add_half<kBlocks, 0, kW, kX, kAll>(rows, at, bytes, scales, input, stride, sums);
  if (kAll || groups > 4) {
    add_half<kBlocks, 1, kW, kX, kAll>(rows, at, bytes, scales, input, stride, sums);
  }
}

}  // namespace exn::cpu::EXN_ISA
