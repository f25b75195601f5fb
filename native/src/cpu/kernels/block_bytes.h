// SPDX-License-Identifier: Apache-2.0
// Quantised weights that meet inputs by bytes, where there are instructions for that: unsigned
// quants, and the two halves of an input's integers, both with a sign.
//
// A step is 256 elements in four vectors, in each of which every scale of the step has as many bytes:
// eight of a group of 32, or four of a group of 16. So one vector of sums suits all, and there is one
// conversion to f32 for each step. Half a step of short blocks, with which a row may end, has two
// vectors of 16 of a group.
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

  // An input's step: upper and lower halves of its elements, and scales. Then, where blocks have
  // second numbers, what these are multiplied by, in lanes 8 to 15; and elsewhere what kLess takes
  // off the sums, in multiples of 256, and its last eight bits, as the first of their lanes.
  static constexpr int kUpper = 0, kLower = 256, kScales = 512, kSeconds = 576;
  static constexpr int kTaken = 576, kLeft = 640;
  static constexpr int kInputBytes = kTwo ? 640 : 704;

  // 64 bytes of a step, of which `bytes` exist from its beginning on if it is not all there.
  template <bool kAll>
  static EXN_SIMD bytes_v load_at(const uint8_t* p, int first, int64_t bytes) {
    return kAll ? load_bytes(p + first) : load_bytes_n(p + first, bytes - first);
  }

  // Group of the scale of a lane.
  static constexpr int group_of(int lane) {
    return kSix ? lane % 4 * 4 + lane / 4 : kLong ? lane / 2 : lane / 4 + lane / 2 % 2 * 4;
  }

  // ---- scales ----

  // Of all lanes, and, where there are second numbers, d in lanes 0 to 7 and those in the others.
  struct Scales {
    f32v each, seconds;
  };
  template <bool kAll>
  static EXN_SIMD Scales scales(const uint8_t* p, int64_t bytes) {
    static constexpr auto kEach = LaneOrder::of(group_of);
    if constexpr (kSix) {
      static constexpr auto kNumber = ByteOrder::of([](int i) { return 62 + i % 2; });
      const f32v d = halves_to_floats(pick_bytes(kNumber, load_bytes(p + kBytes - 64)));
      return {mul(pick_lanes(kEach, signed_bytes_to_floats(p + 192)), d), d};
    } else {
      const f32v v = kLong ? six_bit_scales(p) : short_scales<kAll>(p, bytes);
      return {kTwo ? pick_lanes(kEach, v) : v, v};
    }
  }
  template <bool kAll>
  static EXN_SIMD f32v short_scales(const uint8_t* p, int64_t bytes) {
    constexpr int kBehind = kWhole ? 128 : kBytes - 64;
    static constexpr auto kFirst = ByteOrder::of(half_at);
    static constexpr auto kBehindFirst = ByteOrder::of([](int i) { return half_at(i) - kBehind; });
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
  // The same of half a step.
  template <bool kAll>
  static EXN_SIMD Scales half_scales(const uint8_t* p, int64_t bytes) {
    static constexpr auto kEach = LaneOrder::of([](int i) { return i / 4; });
    static constexpr auto kHalves = ByteOrder::of([](int i) {
      return in_half((kTwo ? i / 2 % 4 : i / 8 % 4) * kBlockBytes + i % 2 +
                     (kTwo && i >= 16 ? 2 : 0));
    });
    const f32v v = halves_to_floats(
        pick_bytes(kHalves, load_at<kAll>(p, 0, bytes), load_at<kAll>(p, kHalfSecond, bytes)));
    return {kTwo ? pick_lanes(kEach, v) : v, v};
  }
  // Of the two vectors that half a step is in.
  static constexpr int kHalfStepBytes = 4 * kBlockBytes;
  static constexpr int kHalfSecond = kWhole ? 64 : kHalfStepBytes - 64;
  static constexpr int in_half(int at) { return at < 64 ? at : at - kHalfSecond + 64; }

  // Where the bytes of sixteen halves lie in short blocks: all d and all second numbers, or d of the
  // lanes.
  static constexpr int half_at(int i) {
    return kTwo ? i / 2 % 8 * kBlockBytes + i % 2 + (i >= 16 ? 2 : 0)
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

  template <bool kAll>
  static EXN_SIMD void quants(const uint8_t* p, int64_t bytes, bytes_v (&q)[4]) {
    if constexpr (kSix) {
      six_bit_quants(p, q);
    } else if constexpr (kLong) {
      long_quants(p, q);
    } else if constexpr (kWhole) {
      constexpr int kHalf = 4 * kBlockBytes;
      bytes_v a[2], b[2];
      whole_quants<kAll>(p, bytes, a);
      whole_quants<kAll>(p + kHalf, bytes - kHalf, b);
      for (int i = 0; i < 2; ++i) {
        q[i] = xor_bytes(lower_eights(a[i], b[i]), set1_bytes(128));
        q[2 + i] = xor_bytes(upper_eights(a[i], b[i]), set1_bytes(128));
      }
    } else {
      short_quants<kAll>(p, bytes, q);
    }
  }

  // The first halves of four blocks, and the second ones.
  template <bool kAll>
  static EXN_SIMD void whole_quants(const uint8_t* p, int64_t bytes, bytes_v (&q)[2]) {
    constexpr int kThird = 16, kFourth = 4 * kBlockBytes - 64;  // for the upper halves of blocks
    static constexpr auto kLow =
        ByteOrder::of([](int i) { return i / 16 * kBlockBytes + 2 + i % 16; });
    static constexpr auto kHigh = ByteOrder::of([](int i) {
      const int at = i / 16 * kBlockBytes + 18 + i % 16;
      return at < kFourth ? at - kThird : at - kFourth + 64;
    });
    q[0] = pick_bytes(kLow, load_at<kAll>(p, 0, bytes), load_at<kAll>(p, 64, bytes));
    q[1] = pick_bytes(kHigh, load_at<kAll>(p, kThird, bytes), load_at<kAll>(p, kFourth, bytes));
  }

  // Of the vectors at 0 and 64, or of those at 64 and at the end.
  template <int kHalf>
  static constexpr int in_two(int at) {
    constexpr int kLast = kBytes - 64;
    return kHalf == 0 ? at : at < kLast ? at - 64 : at - kLast + 64;
  }
  // Halves of bytes of four blocks.
  template <int kHalf>
  static constexpr int nibbles_at(int i) {
    return in_two<kHalf>((4 * kHalf + i / 16) * kBlockBytes + Traits::kLow + i % 16);
  }

  template <bool kAll>
  static EXN_SIMD void short_quants(const uint8_t* p, int64_t bytes, bytes_v (&q)[4]) {
    static constexpr auto kFirst = ByteOrder::of(nibbles_at<0>);
    static constexpr auto kSecond = ByteOrder::of(nibbles_at<1>);
    const bytes_v a = load_at<kAll>(p, 0, bytes), b = load_at<kAll>(p, 64, bytes);
    const bytes_v c = load_at<kAll>(p, kBytes - 64, bytes);
    const bytes_v first = pick_bytes(kFirst, a, b), second = pick_bytes(kSecond, b, c);
    const bytes_v low = lower_eights(first, second), high = upper_eights(first, second);
    q[0] = and_bytes(low, set1_bytes(15));
    q[1] = upper_nibbles(low);
    q[2] = and_bytes(high, set1_bytes(15));
    q[3] = upper_nibbles(high);
    if constexpr (kFive) {
      // Of each block four bytes, twice; bit 4 of a byte is the one that its element wants.
      static constexpr auto kBits = ByteOrder::of([](int i) { return bit_byte(i) & 127; });
      static constexpr auto kBehind =
          ByteOrder::of([](int i) { return bit_byte(i) - (kBytes - 64); });
      bytes_v bits = pick_bytes(kBits, a, b);
      if constexpr (bit_bytes_behind() != 0) {
        bits = pick_some_bytes(bits, bit_bytes_behind(), kBehind, c);
      }
      static constexpr ByteOrder kFrom[4] = {bits_from(0), bits_from(16), bits_from(8),
                                             bits_from(24)};
      for (int i = 0; i < 4; ++i) q[i] = or_bits(q[i], pick_bits(kFrom[i], bits), set1_bytes(16));
    }
  }
  template <bool kAll>
  static EXN_SIMD void half_quants(const uint8_t* p, int64_t bytes, bytes_v (&q)[2]) {
    if constexpr (kWhole) {
      whole_quants<kAll>(p, bytes, q);
      for (bytes_v& v : q) v = xor_bytes(v, set1_bytes(128));
      return;
    }
    static constexpr auto kNibbles =
        ByteOrder::of([](int i) { return in_half(i / 16 * kBlockBytes + Traits::kLow + i % 16); });
    const bytes_v a = load_at<kAll>(p, 0, bytes), b = load_at<kAll>(p, kHalfSecond, bytes);
    const bytes_v both = pick_bytes(kNibbles, a, b);
    q[0] = and_bytes(both, set1_bytes(15));
    q[1] = upper_nibbles(both);
    if constexpr (kFive) {
      static constexpr auto kBits = ByteOrder::of(
          [](int i) { return in_half(i / 16 * kBlockBytes + Traits::kHigh + i % 4); });
      static constexpr auto kFirst = ByteOrder::of([](int i) { return (i % 16 - 4) & 63; });
      static constexpr auto kSecond = ByteOrder::of([](int i) { return i % 16 + 16 - 4; });
      const bytes_v bits = pick_bytes(kBits, a, b);
      q[0] = or_bits(q[0], pick_bits(kFirst, bits), set1_bytes(16));
      q[1] = or_bits(q[1], pick_bits(kSecond, bits), set1_bytes(16));
    }
  }

  static constexpr int bit_byte(int i) {
    return group_of(i / 4) * kBlockBytes + Traits::kHigh + i % 4;
  }
  static constexpr uint64_t bit_bytes_behind() {
    uint64_t bits = 0;
    for (int i = 0; i < 64; ++i) {
      if (bit_byte(i) >= 128) bits |= uint64_t{1} << i;
    }
    return bits;
  }
  // Of eight bytes each: bits from `first` on, one for each, as bit 4.
  static constexpr ByteOrder bits_from(int first) {
    return ByteOrder::of([=](int i) { return (i % 8 + first - 4) & 63; });
  }

  static EXN_SIMD void long_quants(const uint8_t* p, bytes_v (&q)[4]) {
    const uint8_t* const nibbles = p + (kFive ? 48 : 16);
    const bytes_v a = load_bytes(nibbles), b = load_bytes(nibbles + 64);
    const bytes_v halves[2] = {even_sixteens(a, b), odd_sixteens(a, b)};
    for (int i = 0; i < 2; ++i) {
      const bytes_v low = and_bytes(halves[i], set1_bytes(15)), high = upper_nibbles(halves[i]);
      q[2 * i] = lower_eights(low, high);
      q[2 * i + 1] = upper_eights(low, high);
    }
    if constexpr (kFive) {
      static constexpr auto kFrom =
          ByteOrder::of([](int i) { return (i % 8 * 8 + i / 8 - 4) & 63; });
      for (int i = 0; i < 4; ++i) {
        const bytes_v bits = pick_bits(kFrom, load_eight_bytes(p + 16 + 8 * i));
        q[i] = or_bits(q[i], bits, set1_bytes(16));
      }
    }
  }

  static EXN_SIMD void six_bit_quants(const uint8_t* p, bytes_v (&q)[4]) {
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

  // ---- inputs ----

  // Where element i of a group of 32 lies in a step, or half a step.
  static constexpr int place_of(int group, int i, bool half) {
    if (half) return i / 16 * 64 + group * 16 + i % 16;
    if (kSix) {
      const int sixteen = 2 * group + i / 16, e = i % 16;
      return e / 4 * 64 + sixteen % 4 * 16 + sixteen / 4 * 4 + e % 4;
    }
    if (kLong) return i / 8 * 64 + group * 8 + i % 8;
    return (i % 16 / 8 * 2 + i / 16) * 64 + group % 4 * 16 + group / 4 * 8 + i % 8;
  }

  // 32 elements of an input into their step, which holds zeros.
  static EXN_SIMD void put(const Rounded& x, int group, bool half, char* step) {
    int8_t upper[32], lower[32];
    for (int i = 0; i < 32; ++i) {
      lower[i] = static_cast<int8_t>(x.q[i]);
      upper[i] = static_cast<int8_t>((x.q[i] - lower[i]) >> 8);
    }
    for (int i = 0; i < 32; i += 4) {
      const int place = place_of(group, i, half);
      std::memcpy(step + kUpper + place, upper + i, 4);
      std::memcpy(step + kLower + place, lower + i, 4);
      reinterpret_cast<float*>(step + kScales)[place % 64 / 4] = x.scale;
    }
    if constexpr (kTwo) {
      // Of the integer: a NaN keeps its sign, or that of a result would depend on its batch.
      const int32_t sum = kLong ? -x.sum(0, 32) : x.sum(0, 32);
      reinterpret_cast<float*>(step + kSeconds)[8 + group] = x.scale * static_cast<float>(sum);
    }
  }
  // What kLess takes off, once all elements are there.
  static EXN_SIMD void put_taken(char* step) {
    bytes_v ints = zero_bytes();
    for (int i = 0; i < 256; i += 64) {
      ints = dot_bytes(ints, set1_bytes(kLess), load_bytes(step + kUpper + i));
    }
    ints = times_256(ints);
    for (int i = 0; i < 256; i += 64) {
      ints = dot_bytes(ints, set1_bytes(kLess), load_bytes(step + kLower + i));
    }
    int32_t lanes[16], taken[16], left[16];
    store_bytes(lanes, ints);
    for (int i = 0; i < 16; ++i) taken[i] = -lanes[i] >> 8;
    for (int i = 0; i < 16; ++i)
      left[i] = static_cast<int32_t>(static_cast<uint32_t>(-lanes[i]) << 24);
    std::memcpy(step + kTaken, taken, sizeof taken);
    std::memcpy(step + kLeft, left, sizeof left);
  }

  // ---- rows that were unpacked ----

  static constexpr int kReadyBytes = kTwo ? 384 : 320;

  template <bool kAll>
  static EXN_SIMD void make_ready(const uint8_t* p, int64_t bytes, char* to) {
    bytes_v q[4];
    quants<kAll>(p, bytes, q);
    for (int i = 0; i < 4; ++i) store_bytes(to + 64 * i, q[i]);
    store_scales(scales<kAll>(p, bytes), to);
  }
  template <bool kAll>
  static EXN_SIMD void make_half_ready(const uint8_t* p, int64_t bytes, char* to) {
    bytes_v q[2];
    half_quants<kAll>(p, bytes, q);
    for (int i = 0; i < 2; ++i) store_bytes(to + 64 * i, q[i]);
    store_scales(half_scales<kAll>(p, bytes), to);
  }
  static EXN_SIMD void store_scales(const Scales& s, char* to) {
    store(reinterpret_cast<float*>(to + 256), s.each);
    if constexpr (kTwo) store(reinterpret_cast<float*>(to + 320), s.seconds);
  }
};

// Adds the products of kX inputs' step with that of kW rows to their sums. quant(w, i) is the i-th
// vector of a row, of kVectors; scales(w) are its scales.
template <class S, int kW, int kX, int kVectors, class Quant, class Scales>
static EXN_SIMD void add_products(Quant&& quant, Scales&& scales, const char* input, int64_t stride,
                                  f32v* sums) {
  bytes_v ints[kX * kW];
  const auto add_half = [&](int half) EXN_FLAT {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      bytes_v q[kW];
#pragma GCC unroll 4
      for (int w = 0; w < kW; ++w) q[w] = quant(w, i);
#pragma GCC unroll 4
      for (int x = 0; x < kX; ++x) {
        bytes_v p = load_bytes(input + x * stride + half + 64 * i);
        if constexpr (kW > 1) keep_loaded(p);
#pragma GCC unroll 4
        for (int w = 0; w < kW; ++w) ints[x * kW + w] = dot_bytes(ints[x * kW + w], q[w], p);
      }
    }
  };
#pragma GCC unroll 4
  for (int x = 0; x < kX; ++x) {
#pragma GCC unroll 4
    for (int w = 0; w < kW; ++w) {
      ints[x * kW + w] = S::kTwo ? zero_bytes() : load_bytes(input + x * stride + S::kTaken);
    }
  }
  add_half(S::kUpper);
#pragma GCC unroll 4
  for (int x = 0; x < kX; ++x) {
    const char* const left = input + x * stride + S::kLeft;
#pragma GCC unroll 4
    for (int w = 0; w < kW; ++w) {
      bytes_v& v = ints[x * kW + w];
      v = S::kTwo ? times_256(v) : times_256(v, load_bytes(left));
    }
  }
  if constexpr (kX > 1) in_order();  // loads quants again, as there are no registers for all
  add_half(S::kLower);
#pragma GCC unroll 4
  for (int x = 0; x < kX; ++x) {
    const char* const from = input + x * stride;
    const f32v with = load(reinterpret_cast<const float*>(from + S::kScales));
#pragma GCC unroll 4
    for (int w = 0; w < kW; ++w) {
      f32v& sum = sums[x * kW + w];
      const auto s = scales(w);
      if constexpr (S::kTwo) {
        sum = fma(s.seconds, load(reinterpret_cast<const float*>(from + S::kSeconds)), sum);
      }
      sum = fma(to_floats(ints[x * kW + w]), mul(s.each, with), sum);
    }
  }
}

// The same with rows of blocks, of which `bytes` exist if a step, or half a step, is not all there.
template <Blocks kBlocks, int kW, bool kAll, int kVectors = 4>
static EXN_SIMD void add_blocks(const uint8_t* const* rows, int64_t at, int64_t bytes,
                                const char* input, f32v* sums) {
  using S = Step<kBlocks>;
  // Rows that share what is loaded of the input; of more the registers do not hold the quants.
  constexpr int kBoth = kW % 2 == 0 ? 2 : 1;
#pragma GCC unroll 4
  for (int first = 0; first < kW; first += kBoth) {
    bytes_v q[kBoth][kVectors];
    typename S::Scales scales[kBoth];
#pragma GCC unroll 2
    for (int w = 0; w < kBoth; ++w) {
      const uint8_t* const p = rows[first + w] + at;
      if constexpr (kVectors == 4) {
        S::template quants<kAll>(p, bytes, q[w]);
        scales[w] = S::template scales<kAll>(p, bytes);
      } else {
        S::template half_quants<kAll>(p, bytes, q[w]);
        scales[w] = S::template half_scales<kAll>(p, bytes);
      }
    }
    add_products<S, kBoth, 1, kVectors>([&](int w, int i) EXN_FLAT { return q[w][i]; },
                                        [&](int w) EXN_FLAT { return scales[w]; }, input, 0,
                                        sums + first);
  }
}
template <Blocks kBlocks, int kW>
static EXN_SIMD void add_step(const uint8_t* const* rows, int64_t at, const char* input,
                              f32v* sums) {
  add_blocks<kBlocks, kW, true>(rows, at, 0, input, sums);
}

// Whether so many groups of 32 are taken as half a step.
static EXN_SIMD constexpr bool is_half(int groups) { return groups <= 4; }

// The last groups of rows, at `at`, which have whole steps before them or not. They are the last
// ones of a step, or half a step, that ends with the row, and where it meets others the input has
// zeros: nothing is asked for that lies behind a row.
template <Blocks kBlocks, int kW>
static EXN_SIMD void add_rest(const uint8_t* const* rows, int64_t at, int groups, const char* input,
                              f32v* sums) {
  using S = Step<kBlocks>;
  const int64_t bytes = groups * S::kBlockBytes;
  const int64_t half = at + bytes - S::kHalfStepBytes, whole = at + bytes - S::kBytes;
  if (is_half(groups)) {
    at > 0 ? add_blocks<kBlocks, kW, true, 2>(rows, half, 0, input, sums)
           : add_blocks<kBlocks, kW, false, 2>(rows, 0, bytes, input, sums);
  } else {
    at > 0 ? add_blocks<kBlocks, kW, true>(rows, whole, 0, input, sums)
           : add_blocks<kBlocks, kW, false>(rows, 0, bytes, input, sums);
  }
}

// The same, unpacked.
template <Blocks kBlocks>
static EXN_SIMD void make_rest_ready(const uint8_t* row, int64_t at, int groups, char* to) {
  using S = Step<kBlocks>;
  const int64_t bytes = groups * S::kBlockBytes;
  const uint8_t* const end = row + at + bytes;
  if (is_half(groups)) {
    at > 0 ? S::template make_half_ready<true>(end - S::kHalfStepBytes, 0, to)
           : S::template make_half_ready<false>(row, bytes, to);
  } else {
    at > 0 ? S::template make_ready<true>(end - S::kBytes, 0, to)
           : S::template make_ready<false>(row, bytes, to);
  }
}
template <Blocks kBlocks>
static EXN_SIMD void make_step_ready(const uint8_t* p, char* to) {
  Step<kBlocks>::template make_ready<true>(p, 0, to);
}

// `count` times 32 elements of an input into its steps, which hold zeros.
template <Blocks kBlocks>
static EXN_SIMD void put_input(const float* x, int64_t count, char* input) {
  using S = Step<kBlocks>;
  const int64_t whole = count / 8 * 8;
  const int rest = static_cast<int>(count % 8);
  const bool half = is_half(rest);
  const int moved = whole > 0 ? (half ? 4 : 8) - rest : 0;
  for (int64_t n = 0; n < count; ++n) {
    char* const step = input + n / 8 * S::kInputBytes;
    const int group = static_cast<int>(n % 8);
    if (n < whole) {
      S::put(Rounded(x + n * 32), group, false, step);
    } else {
      S::put(Rounded(x + n * 32), group + moved, half, step);
    }
    if constexpr (!S::kTwo) {
      if (group == 7 || n + 1 == count) S::put_taken(step);
    }
  }
}

// The same with rows that were unpacked.
template <class S, int kW, int kX, int kVectors = 4>
static EXN_SIMD void add_ready(const char* const* rows, int64_t at, const char* input,
                               int64_t stride, f32v* sums) {
  add_products<S, kW, kX, kVectors>(
      [&](int w, int i) EXN_FLAT { return load_bytes(rows[w] + at + 64 * i); },
      [&](int w) EXN_FLAT {
        typename S::Scales s;
        s.each = load(reinterpret_cast<const float*>(rows[w] + at + 256));
        if constexpr (S::kTwo) s.seconds = load(reinterpret_cast<const float*>(rows[w] + at + 320));
        return s;
      },
      input, stride, sums);
}
template <class S, int kW, int kX>
static EXN_SIMD void add_ready_rest(const char* const* rows, int64_t at, int groups,
                                    const char* input, int64_t stride, f32v* sums) {
  is_half(groups) ? add_ready<S, kW, kX, 2>(rows, at, input, stride, sums)
                  : add_ready<S, kW, kX>(rows, at, input, stride, sums);
}

// Inputs, each of which does best alone.
constexpr int kFewInputs = 1;
// Rows and inputs of a block that is made of them.
constexpr int kReadyRows = 3, kReadyInputs = 4;

// What formats have alike once they are unpacked.
template <Blocks kBlocks>
using ReadyStep = Step<BlockTraits<kBlocks>::kTwo ? Blocks::kQ4_1 : Blocks::kQ4_0>;

}  // namespace exn::cpu::EXN_ISA
