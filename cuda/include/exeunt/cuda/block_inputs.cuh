// SPDX-License-Identifier: Apache-2.0
//
// Rows of x as they meet quantised blocks: every 32 elements rounded to integers of 16 bits with a
// power of two as their scale (linear.h of the C ABI), and each integer parted into two signed bytes,
// 256 * high + low, which tensor cores multiply.
#pragma once

#include "blocks.cuh"
#include "linear.cuh"

namespace exn::cuda {

constexpr int kBlockTileThreads = 128;
constexpr int kBlockRows = 8;                   // of x, that a tile takes
constexpr int kBlockGroups = kBlockDepth / 32;  // of a stage, of 32 elements each
constexpr int kBlockQuads = kBlockDepth / 4;    // of a row in a stage
constexpr int kBlockFloats = kBlockRows * kBlockDepth;

// How 32 elements are rounded whose largest magnitude this is: x is about q * scale, and q the integer
// that is nearest to x * factor.
struct InputScale {
  float scale;
  float factor;
};

__device__ __forceinline__ InputScale input_scale(int largest) {
  constexpr int kFraction = 23;
  constexpr unsigned kLeast = (127u - 88) << kFraction, kExponent = 255u << kFraction;
  // Integers above 127 * 256 + 127 have no halves of eight bits: what would be rounded to one takes
  // twice the scale.
  constexpr unsigned kBeyond = 257u << (kFraction - 15);
  unsigned e = (static_cast<unsigned>(largest) + kBeyond) & kExponent;
  e = e < kLeast ? kLeast : e;
  const float scale = __uint_as_float(e - (14u << kFraction));
  return {static_cast<unsigned>(largest) < kExponent ? scale : NAN,
          __uint_as_float(((2 * 127u + 14) << kFraction) - e)};
}

// Of x * factor the nearest integer, or the even one of two, in the last bits of a float.
constexpr float kInputShift = 12582912.0f;
__device__ __forceinline__ unsigned shifted_input(float x, const InputScale& scale) {
  return __float_as_uint(fmaf(x, scale.factor, kInputShift));
}
__device__ __forceinline__ float rounded_input(float x, const InputScale& scale) {
  return (__uint_as_float(shifted_input(x, scale)) - kInputShift) * scale.scale;
}

// The bits of the largest magnitude; those of infinity or more, if an element is not finite.
__device__ __forceinline__ int larger_bits(int bits, float x) {
  return Max::apply(bits, __float_as_int(x) & 0x7fffffff);
}

// What blocks of a format ask of the sum n of the integers of a group.
struct BlockSums {
  bool shifted;  // scale * n, as a float
  bool halves;   // -middle * n of the first 16 and of the last 16 elements
  int middle;    // else -middle * n
  // Factor of the scale. Blocks of 256 are scaled by d at last, and nothing may overflow before: the
  // least scale times 2^-24 is still normal.
  float unit;
};

// Rows of x in shared memory, a stage of them. Lane 4 g + t of a warp multiplies elements 4 t and 16 +
// 4 t, and three each after them, of row g; columns 2 t and 2 t + 1 are those of its sums.
struct BlockInputs {
  struct Group {
    float scale;
    int sum;
  };
  uint4 words[kBlockGroups][kBlockRows][4];  // high bytes, then low ones; see row_place()
  Group groups[kBlockGroups][kBlockRows + 2];
  int lasts[kBlockGroups][kBlockRows + 2];  // sums of the last 16 elements

  // Rows of neighbouring groups lie in different banks.
  static constexpr __device__ int row_place(int group, int row) { return row ^ (group & 1); }
};

// Where a row's quad lies in a stage of f32: those of neighbouring groups in different banks.
__device__ __forceinline__ int input_place(int row, int quad) {
  return row * kBlockQuads + (quad ^ (quad >> 1 & 4));
}

// Byte 0 of four integers, and byte 1 of what 128 was added to.
__device__ __forceinline__ unsigned low_bytes(const unsigned (&n)[4]) {
  return __byte_perm(__byte_perm(n[0], n[1], 0x0040), __byte_perm(n[2], n[3], 0x0040), 0x5410);
}
__device__ __forceinline__ unsigned high_bytes(const unsigned (&n)[4]) {
  return __byte_perm(__byte_perm(n[0] + 128, n[1] + 128, 0x0051),
                     __byte_perm(n[2] + 128, n[3] + 128, 0x0051), 0x5410);
}

// Zeros for the rows that there are not.
__device__ __forceinline__ void clear_absent_inputs(BlockInputs& inputs, int rows) {
  constexpr int kAll = kBlockGroups * kBlockRows * 4;
#pragma unroll 1
  for (int i = threadIdx.x; i < kAll; i += kBlockTileThreads) {
    const int group = i / (kBlockRows * 4), row = i / 4 % kBlockRows;
    if (row < rows) continue;
    inputs.words[group][BlockInputs::row_place(group, row)][i % 4] = make_uint4(0, 0, 0, 0);
    if (i % 4 != 0) continue;
    inputs.groups[group][row] = {0.0f, 0};
    inputs.lasts[group][row] = 0;
  }
}

// Rounds a stage of f32, of which there are `count` elements in each row; zeros follow. A warp takes a
// row, four lanes a group, each the quads that it will have copied (StoredBlockRows).
__device__ __forceinline__ void round_inputs(const float4* x, int rows, int count,
                                             const BlockSums& wanted, BlockInputs& to) {
  const int group = static_cast<int>(threadIdx.x) / 4 % kBlockGroups;
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll 1
  for (int row = static_cast<int>(threadIdx.x) / kWarp; row < rows;
       row += kBlockTileThreads / kWarp) {
    float4 a = make_float4(0.0f, 0.0f, 0.0f, 0.0f), b = a;
    if (group * 32 < count) {
      a = x[input_place(row, group * 8 + t)];
      b = x[input_place(row, group * 8 + 4 + t)];
    }
    const float first[4] = {a.x, a.y, a.z, a.w}, last[4] = {b.x, b.y, b.z, b.w};
    int largest = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) largest = larger_bits(larger_bits(largest, first[i]), last[i]);
    largest = Max::apply(largest, __shfl_xor_sync(kFullWarp, largest, 1));
    largest = Max::apply(largest, __shfl_xor_sync(kFullWarp, largest, 2));
    const InputScale scale = input_scale(largest);
    unsigned n[2][4], sums[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < 4; ++i) n[half][i] = shifted_input(half == 0 ? first[i] : last[i], scale);
      sums[half] = n[half][0] + n[half][1] + n[half][2] + n[half][3] - 4u * 0x4b400000u;
      sums[half] += __shfl_xor_sync(kFullWarp, sums[half], 1);
      sums[half] += __shfl_xor_sync(kFullWarp, sums[half], 2);
    }
    to.words[group][BlockInputs::row_place(group, row)][t] =
        make_uint4(high_bytes(n[0]), high_bytes(n[1]), low_bytes(n[0]), low_bytes(n[1]));
    if (t != 0) continue;
    const unsigned both = sums[0] + sums[1], middle = static_cast<unsigned>(wanted.middle);
    const float unit = scale.scale * wanted.unit;
    const float sum = unit * static_cast<float>(static_cast<int>(both));
    to.groups[group][row] = {
        unit, wanted.shifted ? __float_as_int(sum)
                             : static_cast<int>(0u - middle * (wanted.halves ? sums[0] : both))};
    to.lasts[group][row] = static_cast<int>(0u - middle * sums[1]);
  }
}

}  // namespace exn::cuda
