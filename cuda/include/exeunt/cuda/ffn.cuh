// SPDX-License-Identifier: Apache-2.0
//
// ffn: a feed-forward block that rows may skip. Kernels in order: ffn_rows_kernel, linear_kernel
// for gate and up together [and, for many rows, merge_linear_kernel], linear_kernel for down, which
// leaves partial products, ffn_finish_kernel. Quantised weights meet linear_blocks_kernel instead,
// gate and up in one launch if they have one format.
//
// The rows that run are compacted: row r of the batch is row `rank` of what lies between the first
// and the last kernel, and blocks of linear_kernel beyond the count leave before they read a
// weight.
#pragma once

#include "linear.cuh"
#include "norm.cuh"
#include "scale.cuh"

namespace exn::cuda {

template <class T>
struct FfnRowsTask {
  PrepareTask<T> prepare;  // of hidden
  const uint8_t* skip;     // [R], optional
  T* out;                  // [R,D], which may be hidden
  int64_t out_stride;
  int32_t* list;         // [R]: the rows that run, ascending
  int32_t* count;        // of them
  float* cosine;         // [R], optional
  float* branch_cosine;  // [R], optional
};

// Of `counted(i)` over i < end; every thread gets the result.
template <class Counted>
__device__ __forceinline__ int count_below(int64_t end, int* scratch, Counted&& counted) {
  int count = 0;
  for (int64_t i = threadIdx.x; i < end; i += kTileThreads) count += counted(i) ? 1 : 0;
  return block_reduce<Sum, kTileThreads / kWarp>(count, scratch);
}

// One block per row: normalises it if it runs, passes it on if it skips.
//
// Bytes: the row once, and once out: 4 per element if it runs; the mask of the rows before it from
// the L2 cache.
template <class T>
__global__ __launch_bounds__(kTileThreads, 6) void ffn_rows_kernel(FfnRowsTask<T> task) {
  __shared__ float scratch[kMomentScratch];
  __shared__ int counts[kTileThreads / kWarp];
  const int64_t row = blockIdx.x;
  const bool runs = task.skip == nullptr || task.skip[row] == 0;
  int64_t rank = row;
  if (task.skip != nullptr) {
    rank = count_below(row, counts, [&](int64_t i) { return task.skip[i] == 0; });
  }
  if (threadIdx.x == 0) {
    if (row == task.prepare.rows - 1) *task.count = static_cast<int32_t>(rank + (runs ? 1 : 0));
    if (runs) task.list[rank] = static_cast<int32_t>(row);
  }
  if (runs) {
    prepare_row(task.prepare, row, rank, scratch);
    return;
  }
  if (threadIdx.x == 0) {
    if (task.cosine != nullptr) task.cosine[row] = NAN;
    if (task.branch_cosine != nullptr) task.branch_cosine[row] = NAN;
  }
  const T* const from = task.prepare.in + row * task.prepare.in_stride;
  T* const to = task.out + row * task.out_stride;
  if (from == to) return;
  for (int64_t begin = 0; begin < task.prepare.columns; begin += kTile<T>) {
    float x[kTileItems<T>];
    const int count = tile_count(begin, task.prepare.columns, kTile<T>);
    load_tile(from + begin, count, 0.0f, x);
    store_tile(to + begin, count, x);
  }
}

constexpr int kFinishThreads = 512;
constexpr int kFinishItems = 16;  // a block keeps 8192 values of hidden and as many of the branch

template <class T>
struct FfnFinishTask {
  const float* partials;  // [splits, R, partial_stride], products of down
  int64_t partial_stride;
  int splits;
  const float* bias;  // [D], optional
  const T* hidden;    // [R,D]
  int64_t hidden_stride;
  T* out;  // [R,D], which may be hidden
  int64_t out_stride;
  int64_t rows;
  int64_t columns;
  const int32_t* list;
  const int32_t* count;
  float* cosine;         // [R], optional
  float* branch_cosine;  // [R], optional
};

// What a thread knows of its row: four elements next to each other, kFinishItems / 4 times.
struct FfnValues {
  float hidden[kFinishItems];
  float branch[kFinishItems];
};

__device__ __forceinline__ int64_t finish_column(int64_t begin, int item) {
  return begin + (item / 4 * kFinishThreads + static_cast<int>(threadIdx.x)) * 4 + item % 4;
}

// Zeros past the end of the row.
template <class T>
__device__ __forceinline__ void load_ffn_values(const FfnFinishTask<T>& task, int64_t rank,
                                                const T* hidden, int64_t begin, FfnValues& values) {
#pragma unroll
  for (int item = 0; item < kFinishItems; item += 4) {
    const int64_t column = finish_column(begin, item);
    float4 branch = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (column < task.columns) {
      branch = sum_of_splits<4>(task.partials + rank * task.partial_stride + column,
                                task.rows * task.partial_stride, task.splits);
    }
    values.branch[item] = branch.x;
    values.branch[item + 1] = branch.y;
    values.branch[item + 2] = branch.z;
    values.branch[item + 3] = branch.w;
#pragma unroll
    for (int i = item; i < item + 4; ++i) {
      values.hidden[i] = 0.0f;
      if (column + (i - item) >= task.columns) {
        values.branch[i] = 0.0f;
        continue;
      }
      values.hidden[i] = widen(hidden[column + (i - item)]);
      if (task.bias != nullptr) values.branch[i] += task.bias[column + (i - item)];
    }
  }
}

// <a, b> / (|a| |b|) of sums of scaled elements; 0 for a row of zeros, unless the other one is not
// finite.
__device__ __forceinline__ float cosine_of(float aa, float bb, float ab) {
  float cosine = ab / (sqrtf(aa) * sqrtf(bb));
  if (aa == 0.0f || bb == 0.0f) cosine = ab;
  return cosine > 1.0f ? 1.0f : cosine < -1.0f ? -1.0f : cosine;  // written so that a NaN passes
}

// Largest magnitudes of what a thread has seen of a row.
struct FfnLargest {
  float hidden = 0.0f, branch = 0.0f, out = 0.0f;

  __device__ __forceinline__ void add(const FfnValues& values) {
#pragma unroll
    for (int i = 0; i < kFinishItems; ++i) {
      hidden = fmaxf(hidden, fabsf(values.hidden[i]));
      branch = fmaxf(branch, fabsf(values.branch[i]));
      out = fmaxf(out, fabsf(values.hidden[i] + values.branch[i]));
    }
  }
};

// Four elements of a row from `column` on, as far as it goes.
template <class T>
__device__ __forceinline__ void store_four(const FfnFinishTask<T>& task, T* out, int64_t column,
                                           const float (&sums)[4]) {
  if (column + 4 <= task.columns) {
    store_quad(out + column, sums);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (column + i < task.columns) out[column + i] = narrow<T>(sums[i]);
  }
}

// out = hidden + branch for one row that ran, and its cosines, in which each vector is scaled by a
// power of two so that no sum overflows. One block per row.
//
// Bytes: 4 per product and split, hidden and out once; rows of more than 8192 elements are read
// twice unless no cosine is asked for.
template <class T>
__global__ __launch_bounds__(kFinishThreads, 1) void ffn_finish_kernel(FfnFinishTask<T> task) {
  constexpr int kWarps = kFinishThreads / kWarp;
  constexpr int kFinishTile = kFinishThreads * kFinishItems;
  __shared__ float scratch[8][kWarps];
  const int64_t rank = blockIdx.x;
  if (rank >= *task.count) return;
  const int64_t row = task.list[rank];
  const T* const hidden = task.hidden + row * task.hidden_stride;
  T* const out = task.out + row * task.out_stride;
  const bool wants_cosine = task.cosine != nullptr || task.branch_cosine != nullptr;
  const bool one_tile = task.columns <= kFinishTile;
  FfnValues values;

  FfnLargest largest;
  for (int64_t begin = 0; begin < task.columns && (wants_cosine || one_tile);
       begin += kFinishTile) {
    load_ffn_values(task, rank, hidden, begin, values);
    largest.add(values);
  }
  const float scale_hidden =
      power_of_two_scale(block_reduce<Max, kWarps>(largest.hidden, scratch[0]));
  const float scale_branch =
      power_of_two_scale(block_reduce<Max, kWarps>(largest.branch, scratch[1]));
  const float scale_out = power_of_two_scale(block_reduce<Max, kWarps>(largest.out, scratch[2]));

  float hh = 0.0f, ff = 0.0f, oo = 0.0f, ho = 0.0f, hf = 0.0f;
  for (int64_t begin = 0; begin < task.columns; begin += kFinishTile) {
    if (!one_tile) load_ffn_values(task, rank, hidden, begin, values);
#pragma unroll
    for (int item = 0; item < kFinishItems; item += 4) {
      float sums[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sums[i] = values.hidden[item + i] + values.branch[item + i];
        const float h = values.hidden[item + i] * scale_hidden;
        const float f = values.branch[item + i] * scale_branch;
        const float o = sums[i] * scale_out;
        hh = fmaf(h, h, hh);
        ff = fmaf(f, f, ff);
        oo = fmaf(o, o, oo);
        ho = fmaf(h, o, ho);
        hf = fmaf(h, f, hf);
      }
      store_four(task, out, finish_column(begin, item), sums);
    }
  }
  if (!wants_cosine) return;
  hh = block_reduce<Sum, kWarps>(hh, scratch[3]);
  ff = block_reduce<Sum, kWarps>(ff, scratch[4]);
  oo = block_reduce<Sum, kWarps>(oo, scratch[5]);
  ho = block_reduce<Sum, kWarps>(ho, scratch[6]);
  hf = block_reduce<Sum, kWarps>(hf, scratch[7]);
  if (threadIdx.x != 0) return;
  if (task.cosine != nullptr) task.cosine[row] = cosine_of(hh, oo, ho);
  if (task.branch_cosine != nullptr) task.branch_cosine[row] = cosine_of(hh, ff, hf);
}

}  // namespace exn::cuda
