// SPDX-License-Identifier: Apache-2.0
//
// What a lane does with a stage of blocks in shared memory: it unpacks its share of 16 rows of W to
// signed bytes, which tensor cores multiply by those of x (block_inputs.cuh), and scales the sums.
#pragma once

#include "block_inputs.cuh"
#include "blocks.cuh"
#include "mma.cuh"
#include "norm.cuh"

namespace exn::cuda {

// How a stage of W lies in shared memory, and what it asks of x.
struct BlockStage {
  int elements;  // of a block
  int bytes;     // of a block
  int row_bytes;
  int pieces;  // of 16 bytes that may enclose those of a row
  int pitch;   // between rows: an odd number of pieces, so that they lie in different banks
  BlockSums sums;

  constexpr __host__ __device__ int weight_bytes() const { return kBlockTile * pitch; }
  // Weights, then x.
  constexpr __host__ __device__ int all_bytes() const {
    return weight_bytes() + kBlockFloats * static_cast<int>(sizeof(float));
  }
};

constexpr float kBlockUnit = 0x1p24f;  // see BlockSums

constexpr __host__ __device__ BlockStage block_stage(Blocks format) {
  const int elements = block_elements(format), bytes = block_bytes(format);
  const int row_bytes = kBlockDepth / elements * bytes;
  const int pieces = (row_bytes + 15 + 15) / 16;
  const bool halves = format == Blocks::kQ6_K;
  const int middle = is_shifted(format) || format == Blocks::kQ8_0 ? 0
                     : format == Blocks::kQ4_0                     ? 8
                     : halves                                      ? 32
                                                                   : 16;
  const float unit = elements == 256 ? 1.0f / kBlockUnit : 1.0f;
  return {elements,          bytes,
          row_bytes,         pieces,
          (pieces | 1) * 16, {is_shifted(format), halves, middle, unit}};
}

// ---- a lane -------------------------------------------------------------------------------------

// Rows of W that lane 4 g + t of a warp unpacks: g and g + 8 of the warp's.
constexpr int kLaneRows = 2;
__device__ __forceinline__ int block_output(int o) {
  const int thread = static_cast<int>(threadIdx.x);
  return thread / kWarp * 16 + o * 8 + thread % kWarp / 4;
}
// Its sums: products 2 i and 2 i + 1 are those of row i with rows 2 t and 2 t + 1 of x.
using BlockResults = float[2 * kLaneRows];

__device__ __forceinline__ int low_bits(const uint8_t* p) {
  return static_cast<int>(reinterpret_cast<uintptr_t>(p) & 15u);
}

__device__ __forceinline__ unsigned word_at(const uint8_t* p) {
  return *reinterpret_cast<const unsigned*>(p);
}
// From any byte on. Not a word is touched that has no byte of it.
__device__ __forceinline__ unsigned loose_word(const uint8_t* base, int at) {
  const int shift = at & 3;
  const unsigned low = word_at(base + (at - shift));
  return shift == 0 ? low : __funnelshift_r(low, word_at(base + (at - shift) + 4), shift * 8);
}
// From byte `at` on, which is even and known when it is compiled.
__device__ __forceinline__ unsigned even_word(const uint8_t* base, int at) {
  if (at % 4 == 0) return word_at(base + at);
  return __byte_perm(word_at(base + at - 2), word_at(base + at + 2), 0x5432);
}
__device__ __forceinline__ float float_of_half(unsigned bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}
__device__ __forceinline__ int byte_of(int word, int i) {
  return static_cast<int>(
      __byte_perm(static_cast<unsigned>(word), 0, 0x4440u | static_cast<unsigned>(i)));
}
// By its place in the mantissa of 2^23.
__device__ __forceinline__ float float_of_byte(int word, int i) {
  const auto first =
      static_cast<unsigned>(anew(0x4b000000));  // in a register, not in each instruction
  const unsigned bits =
      __byte_perm(static_cast<unsigned>(word), first, 0x7440u | static_cast<unsigned>(i));
  return __uint_as_float(bits) - 8388608.0f;
}
__device__ __forceinline__ float signed_byte_of(unsigned word, int i) {
  return static_cast<float>(static_cast<int8_t>(word >> i * 8));
}
constexpr unsigned kNibbles = 0x0f0f0f0fu;

// Quants of 32 elements of two rows, as mma_s8 takes them.
using BlockQuants = unsigned[2][kLaneRows];

// A group's words of x, and what of its sums belongs to columns 2 t and 2 t + 1.
struct LaneInputs {
  unsigned high[2];
  unsigned low[2];
  float scale[2];
  int sum[2];

  __device__ __forceinline__ LaneInputs(const BlockInputs& inputs, int group) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp, t = lane % 4;
    const uint4 words = inputs.words[group][BlockInputs::row_place(group, lane / 4)][t];
    high[0] = words.x;
    high[1] = words.y;
    low[0] = words.z;
    low[1] = words.w;
    const uint4 both = *reinterpret_cast<const uint4*>(&inputs.groups[group][2 * t]);
    scale[0] = __uint_as_float(both.x);
    sum[0] = static_cast<int>(both.y);
    scale[1] = __uint_as_float(both.z);
    sum[1] = static_cast<int>(both.w);
  }
};

// Sums of 16 * STEPS products, to which `more` of each column comes, times a factor of each row.
template <int STEPS>
__device__ __forceinline__ void multiply_group(const unsigned (&quants)[STEPS][kLaneRows],
                                               const unsigned (&high)[STEPS],
                                               const unsigned (&low)[STEPS], const int (&more)[2],
                                               const int (&factors)[kLaneRows], float (&sums)[4]) {
  constexpr int kNone[4] = {0, 0, 0, 0};
  int whole[4], before[4];
  mma_s8<STEPS>(before, quants, high, kNone);
#pragma unroll
  for (int i = 0; i < 4; ++i) before[i] = before[i] * 256 + more[i % 2];
  mma_s8<STEPS>(whole, quants, low, before);
#pragma unroll
  for (int i = 0; i < 4; ++i) sums[i] = static_cast<float>(whole[i] * factors[i / 2]);
}

// ---- blocks of 32 -------------------------------------------------------------------------------

// Adds the products of a stage. A lane's rows lie kLaneRows times 8 pitches apart, from `row` on.
template <Blocks FORMAT>
__device__ __forceinline__ void add_small_blocks(const uint8_t* row, const BlockInputs& inputs,
                                                 BlockResults& results) {
  constexpr int kBytes = block_bytes(FORMAT), kStep = 8 * block_stage(FORMAT).pitch;
  constexpr bool kFive = FORMAT == Blocks::kQ5_0 || FORMAT == Blocks::kQ5_1;
  constexpr int kHead = is_shifted(FORMAT) ? 4 : 2, kLow = kHead + (kFive ? 4 : 0);
  const int t4 = static_cast<int>(threadIdx.x) % 4 * 4;
  const uint8_t* const mine = row + t4;
#pragma unroll
  for (int group = 0; group < kBlockGroups; ++group) {
    BlockQuants quants;
    float scales[kLaneRows], shifts[kLaneRows];
#pragma unroll
    for (int o = 0; o < kLaneRows; ++o) {
      const int at = group * kBytes + o * kStep;
      if constexpr (is_shifted(FORMAT)) {
        const unsigned head = word_at(row + at);
        scales[o] = float_of_half(head & 0xffffu);
        shifts[o] = float_of_half(head >> 16);
      } else {
        scales[o] = half_float(row + at);
      }
      const unsigned word = even_word(mine, at + kLow);
      if constexpr (FORMAT == Blocks::kQ8_0) {
        quants[0][o] = word;
        quants[1][o] = even_word(mine, at + kLow + 16);
      } else {
        quants[0][o] = word & kNibbles;
        quants[1][o] = word >> 4 & kNibbles;
      }
      if constexpr (kFive) {
        const unsigned fifth = even_word(row, at + kHead) >> t4;
        quants[0][o] |= (fifth & 15u) * 0x02040810u & 0x10101010u;
        quants[1][o] |= (fifth >> 16 & 15u) * 0x02040810u & 0x10101010u;
      }
    }
    const LaneInputs x(inputs, group);
    constexpr int kNone[2] = {0, 0}, kOnce[kLaneRows] = {1, 1};
    constexpr bool kHasMiddle = !is_shifted(FORMAT) && FORMAT != Blocks::kQ8_0;
    float sums[4];
    if constexpr (kHasMiddle) {
      multiply_group<2>(quants, x.high, x.low, x.sum, kOnce, sums);
    } else {
      multiply_group<2>(quants, x.high, x.low, kNone, kOnce, sums);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      results[i] = fmaf(scales[i / 2] * x.scale[i % 2], sums[i], results[i]);
      if constexpr (is_shifted(FORMAT))
        results[i] = fmaf(shifts[i / 2], __int_as_float(x.sum[i % 2]), results[i]);
    }
  }
}

// ---- blocks of 256 ------------------------------------------------------------------------------

// The six bits of s and t of groups 0 to 3, and of 4 to 7, a byte each: see six_bits().
struct SixBits {
  int s[2];
  int t[2];

  __device__ __forceinline__ explicit SixBits(const uint4& head) {
    // Anew, or the compiler masks and shifts each byte for itself.
    s[0] = anew(static_cast<int>(head.y & 0x3f3f3f3fu));
    t[0] = anew(static_cast<int>(head.z & 0x3f3f3f3fu));
    s[1] = anew(static_cast<int>((head.w & kNibbles) | (head.y >> 2 & 0x30303030u)));
    t[1] = anew(static_cast<int>((head.w >> 4 & kNibbles) | (head.z >> 2 & 0x30303030u)));
  }
};

// Quants of a group from the bytes that two groups share, and from the fifth bits of all.
template <bool FIVE>
__device__ __forceinline__ void spread_quants(const BlockQuants& words, const BlockQuants& fifth,
                                              int group, BlockQuants& quants) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int o = 0; o < kLaneRows; ++o) {
      quants[half][o] = words[half][o] >> group % 2 * 4 & kNibbles;
      if constexpr (FIVE) {
        const unsigned bits = fifth[half][o];
        quants[half][o] |= (group < 4 ? bits << (4 - group) : bits >> (group - 4)) & 0x10101010u;
      }
    }
  }
}

template <Blocks FORMAT>
__device__ __forceinline__ void add_shifted_block(const uint8_t* row, const BlockInputs& inputs,
                                                  BlockResults& results) {
  constexpr int kStep = 8 * block_stage(FORMAT).pitch;
  constexpr bool kFive = FORMAT == Blocks::kQ5_K;
  const uint8_t* const mine = row + static_cast<int>(threadIdx.x) % 4 * 4;
  unsigned heads[kLaneRows];
  BlockQuants fifth;
  SixBits six[kLaneRows] = {SixBits(*reinterpret_cast<const uint4*>(row)),
                            SixBits(*reinterpret_cast<const uint4*>(row + kStep))};
#pragma unroll
  for (int o = 0; o < kLaneRows; ++o) {
    heads[o] = word_at(row + o * kStep);
#pragma unroll
    for (int half = 0; half < 2; ++half)
      fifth[half][o] = kFive ? word_at(mine + o * kStep + 16 + half * 16) : 0;
  }
  float products[4] = {}, shifts[4] = {};
#pragma unroll
  for (int pair = 0; pair < kBlockGroups / 2; ++pair) {
    BlockQuants words;
#pragma unroll
    for (int o = 0; o < kLaneRows; ++o) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        words[half][o] = word_at(mine + o * kStep + (kFive ? 48 : 16) + pair * 32 + half * 16);
    }
#pragma unroll
    for (int second = 0; second < 2; ++second) {
      const int group = pair * 2 + second;
      BlockQuants quants;
      spread_quants<kFive>(words, fifth, group, quants);
      const LaneInputs x(inputs, group);
      constexpr int kNone[2] = {0, 0};
      // Times s a sum is still below 32 * 31 * 32639 * 63 < 2^31.
      const int s[kLaneRows] = {byte_of(six[0].s[group / 4], group % 4),
                                byte_of(six[1].s[group / 4], group % 4)};
      const float t[kLaneRows] = {float_of_byte(six[0].t[group / 4], group % 4),
                                  float_of_byte(six[1].t[group / 4], group % 4)};
      float sums[4];
      multiply_group<2>(quants, x.high, x.low, kNone, s, sums);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        products[i] = fmaf(x.scale[i % 2], sums[i], products[i]);
        shifts[i] = fmaf(t[i / 2], __int_as_float(x.sum[i % 2]), shifts[i]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    results[i] = fmaf(kBlockUnit * float_of_half(heads[i / 2] & 0xffffu), products[i], results[i]);
    results[i] = fmaf(-kBlockUnit * float_of_half(heads[i / 2] >> 16), shifts[i], results[i]);
  }
}

// Of Q6_K, a half of a lane's rows, which begin at[o] bytes later: a stage is no multiple of 16 bytes.
struct SixBitHalf {
  unsigned low[2][2][kLaneRows];  // of groups 0 and 2, and of 1 and 3, of their two 16s
  unsigned high[2][kLaneRows];
  unsigned scales[2][kLaneRows];

  __device__ __forceinline__ SixBitHalf(const uint8_t* row, const int (&at)[kLaneRows], int half) {
    const int t4 = static_cast<int>(threadIdx.x) % 4 * 4;
#pragma unroll
    for (int o = 0; o < kLaneRows; ++o) {
      const uint8_t* const mine = row + o * 8 * block_stage(Blocks::kQ6_K).pitch + (at[o] & ~3);
      // What follows a word is of the same block, too.
      const auto word = [&](int offset) {
        return __funnelshift_r(word_at(mine + offset), word_at(mine + offset + 4),
                               static_cast<unsigned>(at[o] & 3) * 8);
      };
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        low[0][part][o] = word(half * 64 + part * 16 + t4);
        low[1][part][o] = word(half * 64 + 32 + part * 16 + t4);
        high[part][o] = word(128 + half * 32 + part * 16 + t4);
        scales[part][o] = word(192 + half * 8 + part * 4);
      }
    }
  }

  __device__ __forceinline__ unsigned quants(int quarter, int part, int o) const {
    const unsigned two = high[part][o];
    return (low[quarter % 2][part][o] >> quarter / 2 * 4 & kNibbles) |
           ((quarter < 2 ? two << (4 - quarter * 2) : two >> (quarter * 2 - 4)) & 0x30303030u);
  }
};

__device__ __forceinline__ void add_six_bits(const uint8_t* row, const int (&at)[kLaneRows],
                                             const BlockInputs& inputs, BlockResults& results) {
  const int t = static_cast<int>(threadIdx.x) % 4;
  float products[4] = {};
#pragma unroll 1  // registers are scarce
  for (int half = 0; half < 2; ++half) {
    const SixBitHalf mine(row, at, half);
#pragma unroll
    for (int quarter = 0; quarter < 4; ++quarter) {
      const int group = half * 4 + quarter;
      const LaneInputs x(inputs, group);
      const uint2 lasts = *reinterpret_cast<const uint2*>(&inputs.lasts[group][2 * t]);
      const int last_sums[2] = {static_cast<int>(lasts.x), static_cast<int>(lasts.y)};
      float scaled[4] = {};
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        const unsigned quants[1][kLaneRows] = {
            {mine.quants(quarter, part, 0), mine.quants(quarter, part, 1)}};
        const unsigned high[1] = {x.high[part]}, low[1] = {x.low[part]};
        constexpr int kOnce[kLaneRows] = {1, 1};
        float sums[4];
        multiply_group<1>(quants, high, low, part == 0 ? x.sum : last_sums, kOnce, sums);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float s = signed_byte_of(mine.scales[quarter / 2][i / 2], quarter % 2 * 2 + part);
          scaled[i] = part == 0 ? s * sums[i] : fmaf(s, sums[i], scaled[i]);
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) products[i] = fmaf(x.scale[i % 2], scaled[i], products[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint8_t* const d = row + i / 2 * 8 * block_stage(Blocks::kQ6_K).pitch + at[i / 2] + 208;
    results[i] = fmaf(kBlockUnit * float_of_half(d[0] | static_cast<unsigned>(d[1]) << 8),
                      products[i], results[i]);
  }
}

// Adds the products of a stage, `row` being where the first of a lane's rows begins in shared memory.
template <Blocks FORMAT>
__device__ __forceinline__ void add_stage(const uint8_t* row, const int (&at)[kLaneRows],
                                          const BlockInputs& inputs, BlockResults& results) {
  if constexpr (FORMAT == Blocks::kQ6_K) {
    add_six_bits(row, at, inputs, results);
  } else if constexpr (block_elements(FORMAT) == 256) {
    add_shifted_block<FORMAT>(row, inputs, results);
  } else {
    add_small_blocks<FORMAT>(row, inputs, results);
  }
}

}  // namespace exn::cuda
