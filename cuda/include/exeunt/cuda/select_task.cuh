// SPDX-License-Identifier: Apache-2.0
//
// What a selection is told and what its blocks share; keys of scores; sums of heads.
#pragma once

#include <cstdint>

#include "elements.cuh"
#include "reduce.cuh"

namespace exn::cuda {

constexpr int kKeyGroup = 8;  // keys that are treated together: whole vectors of every type
// Columns that a thread of select_kernel may have, a bit of a word for each, and how many it has
// where a row is longer than that.
template <int THREADS>
constexpr int kSelectItems = THREADS == 512 ? 32 : 8;
constexpr int kSelectRoundItems = 16;
constexpr int kDigitBits = 11;
constexpr int kDigits = 1 << kDigitBits;
constexpr int kKeyBits = 32;

// Ranges [begin, end) of columns, two numbers each; a row's own are `stride` numbers further on.
struct ColumnRanges {
  const int32_t* list;
  int64_t count;
  int64_t stride;
};

// How many columns of each row are kept, and where the list goes. As exn_selection; numbers in
// device memory that make no sense are clamped to what does.
struct SelectionTask {
  int32_t* indices;  // [rows, capacity]
  int64_t capacity;
  int32_t* count;           // [rows], optional
  uint8_t* valid;           // [rows], optional
  const int32_t* budget;    // [rows, segment_count], optional
  const int32_t* segments;  // [segment_count + 1], optional
  int64_t segment_count;
  ColumnRanges keep;
  ColumnRanges drop;
  int64_t k;
};

template <class T>
struct SelectTask {
  const T* scores;  // [rows * heads, columns]
  int64_t rows;
  int64_t heads;  // rows of scores that are summed up for one
  int64_t columns;
  int64_t stride;        // elements between rows of scores
  const int32_t* limit;  // [rows], optional
  int items;             // columns of a thread
  SelectionTask selection;
};

// What is kept of a segment: the keys above `key`, and the first `ties` of those equal to it.
struct Cut {
  unsigned key;
  int ties;
};
constexpr Cut kKeepNone = {0xffffffffu, 0};
constexpr Cut kKeepAll = {0u, 0};  // every key is larger

template <int THREADS>
struct SelectShared {
  __align__(16) int digits[kDigits];  // how many keys have which digit
  int sums[THREADS / kWarp];
  // The digit of the last key that is kept, how many keys with it are kept, and how many there are.
  int digit;
  int wanted;
  int present;
  int total;  // keys of all digits; this and what follows only where blocks share a row
  int found_nan;
  bool is_last;
};

// What the blocks that share a row hand to one another, in device memory; all 0 at first.
struct SelectMeeting {
  unsigned arrived;   // blocks, at all meetings so far
  unsigned released;  // meetings that are over
  int found_nan;
  int digit;  // as in SelectShared
  int wanted;
  int present;
  int total;
  int digits[kDigits];  // of all blocks; 0 again when a digit is found
};

// How rows are shared.
struct SelectTeams {
  SelectMeeting* meetings;  // [rows]
  int2* counts;             // [rows, 2, blocks]: columns that are certain, and ties, of a block
  int64_t blocks;           // of a row; 0: rows are not shared
  int64_t tiles;            // of a block
};

// A block of those that share a row.
struct SelectTeam {
  SelectMeeting* meeting;
  int2* counts;
  unsigned blocks;
  unsigned rank;
  unsigned tiles;
};

// Larger scores have larger keys, equal ones the same; -0 equals +0. NaNs lie beyond infinities.
__device__ __forceinline__ unsigned order_key(float score) {
  const unsigned bits = __float_as_uint(score == 0.0f ? 0.0f : score);
  return bits ^ (bits >> 31 != 0 ? 0xffffffffu : 0x80000000u);
}
__device__ __forceinline__ bool is_nan_key(unsigned key) {
  constexpr unsigned kLowest = 0x007fffffu;   // -inf
  constexpr unsigned kHighest = 0xff800000u;  // +inf
  return key - kLowest > kHighest - kLowest;
}

__device__ __forceinline__ unsigned low_bits(unsigned count) {
  return count >= 32 ? ~0u : (1u << count) - 1u;
}

__device__ __forceinline__ unsigned not_negative(int32_t value) {
  return value < 0 ? 0u : static_cast<unsigned>(value);
}

__device__ __forceinline__ int64_t clamped(int64_t value, int64_t least, int64_t most) {
  return value < least ? least : value > most ? most : value;
}

// What all lanes of a warp need to know.
__device__ __forceinline__ int32_t read_for_warp(const int32_t* from) {
  const int32_t read = threadIdx.x % kWarp == 0 ? *from : 0;
  return __shfl_sync(kFullWarp, read, 0);
}

// ---- sums of heads ------------------------------------------------------------------------------

// Reads kKeyGroup neighbouring scores; those from `left` on become 0.
template <class T, bool ALIGNED>
__device__ __forceinline__ void read_scores(const T* from, unsigned left, float* x) {
  if (ALIGNED) {
#pragma unroll
    for (int i = 0; i < kKeyGroup; i += kVector<T>) {
      const uint4 raw = *reinterpret_cast<const uint4*>(from + i);
      unpack<T>(raw, x + i);
    }
  } else {
#pragma unroll
    for (unsigned i = 0; i < kKeyGroup; ++i) x[i] = i < left ? widen(from[i]) : 0.0f;
  }
}

// The same of `heads` rows, one added to another in their order. Four are on their way at once.
template <class T, bool ALIGNED>
__device__ __forceinline__ void add_scores(const T* from, int64_t heads, int64_t stride,
                                           unsigned left, float* x) {
  read_scores<T, ALIGNED>(from, left, x);
#pragma unroll 4
  for (int64_t head = 1; head < heads; ++head) {
    float more[kKeyGroup];
    read_scores<T, ALIGNED>(from + head * stride, left, more);
#pragma unroll
    for (int i = 0; i < kKeyGroup; ++i) x[i] += more[i];
  }
}

template <class T>
__device__ __forceinline__ void sum_scores(const T* from, int64_t heads, int64_t stride,
                                           unsigned left, float* x) {
  const bool aligned = is_vector_aligned(from) && (heads == 1 || stride % kVector<T> == 0);
  if (aligned && left >= kKeyGroup) {
    add_scores<T, true>(from, heads, stride, left, x);
  } else {
    add_scores<T, false>(from, left > 0 ? heads : 1, stride, left, x);
  }
}

constexpr int kSumThreads = 128;
constexpr int kSumTile = kSumThreads * kKeyGroup;  // columns

// Sums of heads of long rows, for select_kernel to read, `sums_stride` elements apart, a multiple
// of kKeyGroup. Bytes: every score once, 4 for each sum.
template <class T>
__global__ __launch_bounds__(kSumThreads) void sum_heads_kernel(SelectTask<T> task, float* sums,
                                                                int64_t sums_stride) {
  const int64_t tiles = (task.columns + kSumTile - 1) / kSumTile;
  for (int64_t tile = blockIdx.x; tile < task.rows * tiles; tile += gridDim.x) {
    const int64_t row = tile / tiles;
    const int64_t column = tile % tiles * kSumTile + threadIdx.x * kKeyGroup;
    if (column >= task.columns) continue;
    const int64_t left = task.columns - column;
    float x[kKeyGroup];
    sum_scores(task.scores + row * task.heads * task.stride + column, task.heads, task.stride,
               static_cast<unsigned>(left), x);
    float* const to = sums + row * sums_stride + column;
#pragma unroll
    for (int i = 0; i < kKeyGroup; i += 4) *reinterpret_cast<uint4*>(to + i) = pack<float>(x + i);
  }
}

}  // namespace exn::cuda
