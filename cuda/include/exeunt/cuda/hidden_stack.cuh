// SPDX-License-Identifier: Apache-2.0
//
// hidden_stack: hidden states of rows that left, pushed by a mask and gathered together later.
#pragma once

#include "reduce.cuh"
#include "words.cuh"

namespace exn::cuda {

// What travels with a row, M integers of it.
struct StackTags {
  int32_t* stacked;  // [count, capacity]; null: none
  int32_t* outside;  // [count, rows]
  int64_t capacity;
  int64_t rows;
  int64_t count;
};

// ---- push: where each row goes, then the rows-----------------------------------------------------

// What `overflow` becomes where `over` rows do not fit. With a count that no push leaves
// nothing fits, however many rows there are: it is not 0 then either.
__device__ __forceinline__ int32_t overflow_of(int64_t over) {
  if (over > INT32_MAX) return INT32_MAX;
  return over > 0 ? static_cast<int32_t>(over) : 1;
}

struct StackPlaces {
  int64_t rows;
  const uint8_t* mask;  // [rows], optional
  int32_t capacity;
  int32_t* count;     // in-out
  int32_t* overflow;  // optional
  int32_t* first;     // workspace: entry of the first row pushed, or -1 if they do not all fit
  int32_t* rank;      // workspace, [rows]: place among the rows pushed, or -1
};

constexpr int kStackThreads = 256;

// Numbers the masked rows in ascending order and lets the stack grow by all of them or by none. One
// block.
//
// Bytes: 5 per row.
static __global__ __launch_bounds__(kStackThreads) void stack_places_kernel(StackPlaces task) {
  constexpr int kWarps = kStackThreads / kWarp;
  __shared__ int pushed[kWarps];
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarp;
  const unsigned below = (1u << (thread % kWarp)) - 1u;
  int32_t ranked = 0;
  for (int64_t base = 0; base < task.rows; base += kStackThreads) {
    const int64_t row = base + thread;
    const bool pushes = row < task.rows && (task.mask == nullptr || task.mask[row] != 0);
    const unsigned votes = __ballot_sync(kFullWarp, pushes);
    if (thread % kWarp == 0) pushed[warp] = __popc(votes);
    __syncthreads();
    int32_t before = ranked;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) {
      if (i < warp) before += pushed[i];
      ranked += pushed[i];
    }
    if (row < task.rows) task.rank[row] = pushes ? before + __popc(votes & below) : -1;
    __syncthreads();  // the next round writes `pushed` again
  }
  if (thread != 0) return;
  const int32_t count = *task.count;
  const int64_t over = static_cast<int64_t>(count) + ranked - task.capacity;
  const bool fits = count >= 0 && over <= 0;
  *task.first = fits ? count : -1;
  if (fits) *task.count = count + ranked;
  if (task.overflow != nullptr) *task.overflow = fits ? 0 : overflow_of(over > 0 ? over : ranked);
}

template <class Word>
struct StackPush {
  Word* stack;
  int64_t stack_stride;  // in words, as all here
  const Word* rows;
  int64_t row_stride;
  int64_t row_count;
  int64_t words;  // of a row
  StackTags tags;
  const int32_t* first;
  const int32_t* rank;
};

// `to` and `from` are the first tags of a row and an entry, whose others follow at these strides.
__device__ __forceinline__ void move_tags(int32_t* to, int64_t to_stride, const int32_t* from,
                                          int64_t from_stride, int64_t count) {
  for (int64_t i = threadIdx.x; i < count; i += kMoveThreads)
    to[i * to_stride] = from[i * from_stride];
}

// Bytes: a pushed row and its tags read once and written once, 4 for each row's rank. Grid: rows by
// pieces of a row.
template <class Word>
__global__ __launch_bounds__(kMoveThreads) void stack_push_kernel(StackPush<Word> task) {
  const int32_t first = *task.first;
  if (first < 0) return;
  for (int64_t row = blockIdx.x; row < task.row_count; row += gridDim.x) {
    const int32_t rank = task.rank[row];
    if (rank < 0) continue;
    const int64_t entry = static_cast<int64_t>(first) + rank;
    move_row(task.stack + entry * task.stack_stride, task.rows + row * task.row_stride, task.words);
    if (task.tags.stacked != nullptr && blockIdx.y == 0) {
      move_tags(task.tags.stacked + entry, task.tags.capacity, task.tags.outside + row,
                task.tags.rows, task.tags.count);
    }
  }
}

// ---- gather and clear ---------------------------------------------------------------------------

template <class Word>
struct StackGather {
  const Word* stack;
  int64_t stack_stride;
  int32_t capacity;
  Word* rows;
  int64_t row_stride;
  int64_t row_count;
  int64_t words;
  StackTags tags;
  const int32_t* count;
  int32_t* overflow;  // optional
};

// More entries than rows: none comes out, and the tags say so.
//
// Bytes: a gathered row and its tags read once and written once. Grid: rows by pieces of a row, one
// row of blocks at least.
template <class Word>
__global__ __launch_bounds__(kMoveThreads) void stack_gather_kernel(StackGather<Word> task) {
  const int32_t count = *task.count;
  const bool fits = count >= 0 && count <= task.capacity && count <= task.row_count;
  const int64_t entries = fits ? count : 0;
  for (int64_t row = blockIdx.x; row < task.row_count; row += gridDim.x) {
    const bool present = row < entries;
    if (present)
      move_row(task.rows + row * task.row_stride, task.stack + row * task.stack_stride, task.words);
    if (task.tags.stacked == nullptr || blockIdx.y != 0) continue;
    int32_t* const tags = task.tags.outside + row;
    if (present) {
      move_tags(tags, task.tags.rows, task.tags.stacked + row, task.tags.capacity, task.tags.count);
    } else {
      for (int64_t i = threadIdx.x; i < task.tags.count; i += kMoveThreads)
        tags[i * task.tags.rows] = -1;
    }
  }
  if (task.overflow != nullptr && blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) {
    *task.overflow = fits ? 0 : overflow_of(count - task.row_count);
  }
}

// Bytes: 8.
static __global__ void stack_clear_kernel(int32_t* count, int32_t* overflow) {
  *count = 0;
  if (overflow != nullptr) *overflow = 0;
}

}  // namespace exn::cuda
