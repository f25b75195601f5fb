// SPDX-License-Identifier: Apache-2.0
//
// Quantised blocks (blocks.h of the C ABI), unpacked a few consecutive elements at a time. An
// element is scale * q + shift, where q is a signed byte; that product is exact in f32, so the
// element is its exact value rounded once, fused or not.
//
// Blocks are read in halves of words, and are to be aligned to two bytes, as they are in shared
// memory wherever they came from: each format has an even number of bytes.
#pragma once

#include <cstdint>

#include "portable.cuh"

namespace exn::cuda {

// The numbers of EXN_BLOCKS_*.
enum class Blocks : int {
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14
};

constexpr __host__ __device__ int block_elements(Blocks format) {
  return format < Blocks::kQ4_K ? 32 : 256;
}

constexpr __host__ __device__ int block_bytes(Blocks format) {
  switch (format) {
    case Blocks::kQ4_0:
      return 18;
    case Blocks::kQ4_1:
      return 20;
    case Blocks::kQ5_0:
      return 22;
    case Blocks::kQ5_1:
      return 24;
    case Blocks::kQ8_0:
      return 34;
    case Blocks::kQ4_K:
      return 144;
    case Blocks::kQ5_K:
      return 176;
    default:
      return 210;
  }
}

// The most bytes that so many elements, a multiple of 256, may have.
constexpr __host__ __device__ int most_block_bytes(int elements) { return elements / 32 * 34; }

// Whether elements of a format have a shift.
constexpr __host__ __device__ bool is_shifted(Blocks format) {
  return format == Blocks::kQ4_1 || format == Blocks::kQ5_1 || format == Blocks::kQ4_K ||
         format == Blocks::kQ5_K;
}

// What the elements of a group have in common.
struct BlockScale {
  float scale;
  float shift;  // 0 where the format has none
};

__device__ __forceinline__ unsigned half_word(const uint8_t* p) {
  return *reinterpret_cast<const uint16_t*>(p);
}
__device__ __forceinline__ unsigned word_of_halves(const uint8_t* p) {
  return half_word(p) | half_word(p + 2) << 16;
}
__device__ __forceinline__ float half_float(const uint8_t* p) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(half_word(p))));
}

// Each of four bytes below 128, less `by` of at most 128: nothing is borrowed across bytes.
__device__ __forceinline__ unsigned less_each(unsigned bytes, unsigned by) {
  return ((bytes | 0x80808080u) - by * 0x01010101u) ^ 0x80808080u;
}
// 16 in byte i where bit i of four is set.
__device__ __forceinline__ unsigned fifth_bits(unsigned four) {
  return ((four & 15u) * 0x00204081u & 0x01010101u) << 4;
}

// Six bits of s, or of t, of a group, from the twelve bytes of Q4_K and Q5_K.
__device__ __forceinline__ int six_bits(const uint8_t* p, int group, bool second) {
  if (group < 4) return p[group + (second ? 4 : 0)] & 63;
  const int low = second ? p[group + 4] >> 4 : p[group + 4] & 15;
  return low | p[second ? group : group - 4] >> 6 << 4;
}

// Of elements first ... first + 15 of a block, `first` a multiple of 16, and of any among them.
template <Blocks FORMAT>
__device__ __forceinline__ BlockScale block_scale(const uint8_t* block, int first) {
  if constexpr (FORMAT == Blocks::kQ6_K) {
    const int s = static_cast<int8_t>(block[192 + first / 16]);
    return {half_float(block + 208) * static_cast<float>(s), 0.0f};
  } else if constexpr (block_elements(FORMAT) == 256) {
    const int group = first / 32;
    const float s = static_cast<float>(six_bits(block + 4, group, false));
    const float t = static_cast<float>(six_bits(block + 4, group, true));
    return {half_float(block) * s, -(half_float(block + 2) * t)};
  } else {
    return {half_float(block), is_shifted(FORMAT) ? half_float(block + 2) : 0.0f};
  }
}

// The q of elements first ... first + 3 as signed bytes, the first one lowest; `first` is a multiple
// of 4.
template <Blocks FORMAT>
__device__ __forceinline__ unsigned block_quants(const uint8_t* block, int first) {
  constexpr unsigned kNibbles = 0x0f0f0f0fu;
  if constexpr (FORMAT == Blocks::kQ8_0) {
    return word_of_halves(block + 2 + first);
  } else if constexpr (FORMAT == Blocks::kQ6_K) {
    const int half = first / 128, l = first % 128;
    const uint8_t* const low = block + half * 64 + l % 64;
    const uint8_t* const two = block + 128 + half * 32 + l % 32;
    const int nibble = l / 64 * 4, pair = l / 32 * 2;
    const unsigned high = word_of_halves(two) >> pair & 0x03030303u;
    return less_each((word_of_halves(low) >> nibble & kNibbles) | high << 4, 32);
  } else if constexpr (block_elements(FORMAT) == 256) {
    constexpr bool kFive = FORMAT == Blocks::kQ5_K;
    const int group = first / 32, l = first % 32, nibble = group % 2 * 4;
    const uint8_t* const low = block + (kFive ? 48 : 16) + group / 2 * 32 + l;
    unsigned q = word_of_halves(low) >> nibble & kNibbles;
    if constexpr (kFive) q |= (word_of_halves(block + 16 + l) >> group & 0x01010101u) << 4;
    return q;
  } else {
    constexpr bool kFive = FORMAT == Blocks::kQ5_0 || FORMAT == Blocks::kQ5_1;
    constexpr int kHigh = is_shifted(FORMAT) ? 4 : 2;
    constexpr unsigned kMiddle = is_shifted(FORMAT) ? 0 : kFive ? 16 : 8;
    const uint8_t* const low = block + kHigh + (kFive ? 4 : 0) + first % 16;
    const int nibble = first / 16 * 4;
    unsigned q = word_of_halves(low) >> nibble & kNibbles;
    if constexpr (kFive) q |= fifth_bits(word_of_halves(block + kHigh) >> first);
    return less_each(q, kMiddle);
  }
}

// Elements first ... first + N - 1 of a block: 4, 8 or 16, `first` a multiple of N.
template <Blocks FORMAT, int N>
__device__ __forceinline__ void unpack_elements(const uint8_t* block, int first, float (&out)[N]) {
  static_assert(N == 4 || N == 8 || N == 16, "within a group");
  const BlockScale common = block_scale<FORMAT>(block, first);
#pragma unroll
  for (int at = 0; at < N; at += 4) {
    const unsigned quants = block_quants<FORMAT>(block, first + at);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float q = static_cast<float>(static_cast<int8_t>(quants >> i * 8));
      out[at + i] = is_shifted(FORMAT) ? fmaf(common.scale, q, common.shift) : common.scale * q;
    }
  }
}

template <Blocks FORMAT>
struct BlockFormat {
  static constexpr Blocks value = FORMAT;
};

// Calls f(BlockFormat<...>{}), here or there.
#pragma nv_exec_check_disable
template <class F>
__host__ __device__ __forceinline__ void with_blocks(Blocks format, F&& f) {
  switch (format) {
    case Blocks::kQ4_0:
      return f(BlockFormat<Blocks::kQ4_0>{});
    case Blocks::kQ4_1:
      return f(BlockFormat<Blocks::kQ4_1>{});
    case Blocks::kQ5_0:
      return f(BlockFormat<Blocks::kQ5_0>{});
    case Blocks::kQ5_1:
      return f(BlockFormat<Blocks::kQ5_1>{});
    case Blocks::kQ8_0:
      return f(BlockFormat<Blocks::kQ8_0>{});
    case Blocks::kQ4_K:
      return f(BlockFormat<Blocks::kQ4_K>{});
    case Blocks::kQ5_K:
      return f(BlockFormat<Blocks::kQ5_K>{});
    case Blocks::kQ6_K:
      return f(BlockFormat<Blocks::kQ6_K>{});
  }
}

}  // namespace exn::cuda
