// SPDX-License-Identifier: Apache-2.0
//
// norm: RMSNorm or LayerNorm of rows, by themselves or as the input of a product.
#pragma once

#include "elements.cuh"
#include "reduce.cuh"

namespace exn::cuda {

enum class Norm : int { kNone, kRms, kLayer };

struct RowNorm {
  Norm norm;
  float eps;
  const float* weight;  // [columns], optional
  const float* bias;    // [columns], optional
};

// y = (x - mean) * scale
struct Moments {
  float mean;
  float scale;
};

constexpr int kMomentScratch = 2 * kTileThreads / kWarp;

// Of one row, by one block; `scratch` holds kMomentScratch values. Unless there is nothing to
// normalise, `x` holds the row's last tile afterwards.
template <class T>
__device__ __forceinline__ Moments row_moments(const T* row, int64_t columns, const RowNorm& norm,
                                               float* scratch, float (&x)[kTileItems<T>]) {
  constexpr int kWarps = kTileThreads / kWarp;
  const float count = static_cast<float>(columns);
  Moments moments{0.0f, 1.0f};
  if (norm.norm == Norm::kNone) return moments;
  if (norm.norm == Norm::kLayer) {
    for (int64_t begin = 0; begin < columns; begin += kTile<T>) {
      load_tile(row + begin, tile_count(begin, columns, kTile<T>), 0.0f, x);
#pragma unroll
      for (int i = 0; i < kTileItems<T>; ++i) moments.mean += x[i];
    }
    moments.mean = block_reduce<Sum, kWarps>(moments.mean, scratch) / count;
  }
  const bool is_in_x = norm.norm == Norm::kLayer && columns <= kTile<T>;
  float squares = 0.0f;
  for (int64_t begin = 0; begin < columns; begin += kTile<T>) {
    const int count = tile_count(begin, columns, kTile<T>);
    if (!is_in_x) {
      load_tile(row + begin, count, moments.mean, x);
    } else {
#pragma unroll
      for (int i = 0; i < kTileItems<T>; ++i) {
        if (tile_place<T>(i) >= count) x[i] = moments.mean;
      }
    }
#pragma unroll
    for (int i = 0; i < kTileItems<T>; ++i) {
      squares = fmaf(x[i] - moments.mean, x[i] - moments.mean, squares);
    }
  }
  squares = block_reduce<Sum, kWarps>(squares, scratch + kWarps);
  moments.scale = 1.0f / sqrtf(squares / count + norm.eps);
  return moments;
}

// The sum over a row that a block of kTileThreads forms above, bit by bit, by one warp: it takes
// the parts of each of that block's warps side by side. term(x, sum) is the sum with x in it.
template <class T, class Term>
__device__ __forceinline__ float warp_sum(const T* row, int64_t columns, const Term& term) {
  constexpr int kVectors = kTileThreads / kWarp;
  constexpr int kV = kVector<T>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float sums[kVectors] = {};
#pragma unroll 1
  for (int64_t begin = 0; begin < columns; begin += kTileThreads * kV) {
    const T* const step = row + begin;
    const int count = tile_count(begin, columns, kTileThreads * kV);
    float x[kVectors][kV];
    if (is_vector_aligned(step) && count % kV == 0) {
      uint4 raw[kVectors];
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        const int place = (v * kWarp + lane) * kV;
        raw[v] = make_uint4(0, 0, 0, 0);
        if (place < count) raw[v] = *reinterpret_cast<const uint4*>(step + place);
      }
#pragma unroll
      for (int v = 0; v < kVectors; ++v) unpack<T>(raw[v], x[v]);
    } else {
#pragma unroll
      for (int i = 0; i < kVectors * kV; ++i) {
        const int place = (i / kV * kWarp + lane) * kV + i % kV;
        x[i / kV][i % kV] = place < count ? widen(step[place]) : 0.0f;
      }
    }
#pragma unroll
    for (int i = 0; i < kVectors * kV; ++i) {
      const int place = (i / kV * kWarp + lane) * kV + i % kV;
      if (place < count) sums[i / kV] = term(x[i / kV][i % kV], sums[i / kV]);
    }
  }
  float sum = warp_reduce<Sum>(sums[0]);
#pragma unroll
  for (int v = 1; v < kVectors; ++v) sum += warp_reduce<Sum>(sums[v]);
  return sum;
}

// As row_moments, with the same bits, but by one warp.
template <class T>
__device__ __forceinline__ Moments warp_moments(const T* row, int64_t columns,
                                                const RowNorm& norm) {
  const float count = static_cast<float>(columns);
  Moments moments{0.0f, 1.0f};
  if (norm.norm == Norm::kNone) return moments;
  if (norm.norm == Norm::kLayer) {
    moments.mean = warp_sum(row, columns, [](float x, float sum) { return sum + x; }) / count;
  }
  const float mean = moments.mean;
  const float squares =
      warp_sum(row, columns, [mean](float x, float sum) { return fmaf(x - mean, x - mean, sum); });
  moments.scale = 1.0f / sqrtf(squares / count + norm.eps);
  return moments;
}

// N values of coefficients from `column` on; `neutral` where there are none.
template <int N>
__device__ __forceinline__ void load_coefficients(const float* from, int64_t column, int count,
                                                  float neutral, float (&values)[N]) {
  if (from != nullptr && is_vector_aligned(from) && count >= N) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      unpack<float>(*reinterpret_cast<const uint4*>(from + column + i), &values[i]);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    values[i] = from != nullptr && i < count ? from[column + i] : neutral;
  }
}

// Calls put(column, count, y) for every kVector<T> columns of a row below `width`, of which the
// first `count` (which may be none or more than all) are before the end of the row. A thread has
// read the columns that it puts before it puts any, and all have before the first one is put unless
// there is nothing to normalise: the row may be overwritten.
template <class T, class Put>
__device__ __forceinline__ void normalise_row(const T* row, int64_t columns, int64_t width,
                                              const RowNorm& norm, float* scratch, Put&& put) {
  constexpr int kV = kVector<T>;
  float x[kTileItems<T>];
  const Moments moments = row_moments(row, columns, norm, scratch, x);
  const bool is_in_x = norm.norm != Norm::kNone && columns <= kTile<T>;
  for (int64_t begin = 0; begin < width; begin += kTile<T>) {
    if (!is_in_x) load_tile(row + begin, tile_count(begin, columns, kTile<T>), 0.0f, x);
#pragma unroll
    for (int chunk = 0; chunk < kTileItems<T> / kV; ++chunk) {
      const int64_t column = begin + tile_place<T>(chunk * kV);
      if (column >= width) continue;
      const int count = tile_count(column, columns, kV);
      float factors[kV], y[kV];
      load_coefficients(norm.weight, column, count, 1.0f, factors);
#pragma unroll
      for (int i = 0; i < kV; ++i) {
        y[i] = (x[chunk * kV + i] - moments.mean) * moments.scale * factors[i];
      }
      if (norm.bias != nullptr) {
        load_coefficients(norm.bias, column, count, 0.0f, factors);
#pragma unroll
        for (int i = 0; i < kV; ++i) y[i] += factors[i];
      }
      put(column, count, y);
    }
  }
}

// ---- rows for the products that follow ----------------------------------------------------------

enum class Rounding : int { kNone, kF16, kBF16 };

__device__ __forceinline__ float round_as(Rounding rounding, float x) {
  switch (rounding) {
    case Rounding::kF16:
      return __half2float(__float2half_rn(x));
    case Rounding::kBF16:
      return __bfloat162float(__float2bfloat16_rn(x));
    default:
      return x;
  }
}

// The same, but unknown to the compiler: what follows from it is not found in advance and kept.
__device__ __forceinline__ int anew(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

// Else there would be a copy of all the loops around for each rounding: seven times the code.
__device__ __forceinline__ Rounding anew(Rounding rounding) {
  return static_cast<Rounding>(anew(static_cast<int>(rounding)));
}

template <class T>
struct PrepareTask {
  const T* in;
  int64_t in_stride;
  float* out;  // zeros from `columns` on; 16-byte aligned, with a stride that is a multiple of 64
  int64_t out_stride;
  int64_t rows;
  int64_t columns;
  Norm norm;
  float eps;
  const float* weight;  // [columns], optional
  const float* bias;    // [columns], optional
  Rounding rounding;
};

// Row `from` of the input becomes row `to` of the output; by one block.
template <class T>
__device__ __forceinline__ void prepare_row(const PrepareTask<T>& task, int64_t from, int64_t to,
                                            float* scratch) {
  constexpr int kV = kVector<T>;
  float* const out = task.out + to * task.out_stride;
  normalise_row(task.in + from * task.in_stride, task.columns, task.out_stride,
                RowNorm{task.norm, task.eps, task.weight, task.bias}, scratch,
                [&](int64_t column, int count, float (&y)[kV]) {
                  const Rounding rounding = anew(task.rounding);
#pragma unroll
                  for (int i = 0; i < kV; ++i) {
                    y[i] = i < count ? round_as(rounding, y[i]) : 0.0f;
                  }
#pragma unroll
                  for (int i = 0; i < kV; i += 4) {
                    store_vector(out + column + i, pack<float>(&y[i]));
                  }
                });
}

// Bytes: each row once (rows longer than a tile of 4096: again from the L1 cache), 4 per element
// written. One block per row.
template <class T>
__global__ __launch_bounds__(kTileThreads, 6) void prepare_rows_kernel(PrepareTask<T> task) {
  __shared__ float scratch[kMomentScratch];
  prepare_row(task, blockIdx.x, blockIdx.x, scratch);
}

// ---- the op -------------------------------------------------------------------------------------

template <class T, class O>
struct NormTask {
  const T* in;
  int64_t in_stride;
  O* out;
  int64_t out_stride;
  int64_t rows;
  int64_t columns;
  RowNorm norm;
};

// Writes N values that are read as one vector of another type.
template <class O, int N>
__device__ __forceinline__ void store_values(O* out, const float (&values)[N]) {
  if constexpr (N < kVector<O>) {
    static_assert(N * sizeof(O) == 8, "half a vector");
    *reinterpret_cast<uint2*>(out) = make_uint2(pack_pair(values, O()), pack_pair(values + 2, O()));
  } else {
#pragma unroll
    for (int i = 0; i < N; i += kVector<O>) {
      store_vector(out + i, pack<O>(values + i));
    }
  }
}

// Writes kVector<T> columns of a row from `column` on, of which `count` are before its end.
template <class T, class O>
__device__ __forceinline__ void put_columns(O* out, bool aligned, int64_t column, int count,
                                            const float (&y)[kVector<T>]) {
  constexpr int kV = kVector<T>;
  if (aligned && count >= kV) {
    store_values<O, kV>(out + column, y);
    return;
  }
#pragma unroll
  for (int i = 0; i < kV; ++i) {
    if (i < count) out[column + i] = narrow<O>(y[i]);
  }
}

// One block per row.
//
// Bytes: each row once in and once out; rows longer than a tile of 4096 elements are read again
// from the L1 cache. The coefficients for each row, from the L1 or L2 cache.
template <class T, class O>
__global__ __launch_bounds__(kTileThreads, 6) void norm_kernel(NormTask<T, O> task) {
  constexpr int kV = kVector<T>;
  __shared__ float scratch[kMomentScratch];
  const int64_t row = blockIdx.x;
  O* const out = task.out + row * task.out_stride;
  const bool aligned = is_vector_aligned(out);
  normalise_row(task.in + row * task.in_stride, task.columns, task.columns, task.norm, scratch,
                [&](int64_t column, int count, float (&y)[kV]) {
                  put_columns<T>(out, aligned, column, count, y);
                });
}

// Mean and scale of ROWS rows that the block holds, in two passes over x, which gets its mean where
// a row has ended.
template <class T, int ITEMS, int ROWS>
__device__ __forceinline__ void rows_moments(const RowNorm& norm, int columns,
                                             float (&x)[ROWS][ITEMS],
                                             float (&scratch)[2][ROWS * (kTileThreads / kWarp)],
                                             float (&mean)[ROWS], float (&scale)[ROWS]) {
  constexpr int kWarps = kTileThreads / kWarp;
  const float divisor = static_cast<float>(columns);
#pragma unroll
  for (int row = 0; row < ROWS; ++row) {
    mean[row] = 0.0f;
    scale[row] = norm.norm == Norm::kNone ? 1.0f : 0.0f;
  }
  if (norm.norm == Norm::kLayer) {
#pragma unroll
    for (int row = 0; row < ROWS; ++row) {
#pragma unroll
      for (int i = 0; i < ITEMS; ++i) mean[row] += x[row][i];
    }
    block_reduce<Sum, kWarps>(mean, scratch[0]);
#pragma unroll
    for (int row = 0; row < ROWS; ++row) {
      mean[row] /= divisor;
#pragma unroll
      for (int i = 0; i < ITEMS; ++i) {
        if (tile_place<T>(i) >= columns) x[row][i] = mean[row];
      }
    }
  }
  if (norm.norm != Norm::kNone) {
#pragma unroll
    for (int row = 0; row < ROWS; ++row) {
#pragma unroll
      for (int i = 0; i < ITEMS; ++i) {
        scale[row] = fmaf(x[row][i] - mean[row], x[row][i] - mean[row], scale[row]);
      }
    }
    block_reduce<Sum, kWarps>(scale, scratch[1]);
#pragma unroll
    for (int row = 0; row < ROWS; ++row) {
      scale[row] = 1.0f / sqrtf(scale[row] / divisor + norm.eps);
    }
  }
}

// ROWS rows of at most kTileThreads * ITEMS columns per block, with the same bits.
//
// Bytes: each row once in and once out; the coefficients once for ROWS rows. The launcher takes
// this one where rows are many enough to leave no SM without a block.
template <class T, class O, int ITEMS, int ROWS>
__global__ __launch_bounds__(kTileThreads, 4) void norm_rows_kernel(NormTask<T, O> task) {
  constexpr int kWarps = kTileThreads / kWarp;
  constexpr int kV = kVector<T>;
  __shared__ float scratch[2][ROWS * kWarps];
  const RowNorm& norm = task.norm;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * ROWS;
  const int rows = tile_count(first, task.rows, ROWS);
  const int columns = static_cast<int>(task.columns);
  float x[ROWS][ITEMS], mean[ROWS], scale[ROWS];
  load_tiles(task.in + first * task.in_stride, task.in_stride, rows, columns, 0.0f, x);
  rows_moments<T>(norm, columns, x, scratch, mean, scale);
  O* const out = task.out + first * task.out_stride;
  const bool aligned =
      is_vector_aligned(out) && task.out_stride * static_cast<int64_t>(sizeof(O)) % 16 == 0;
#pragma unroll
  for (int chunk = 0; chunk < ITEMS / kV; ++chunk) {
    const int column = tile_place<T>(chunk * kV);
    if (column >= columns) continue;
    const int count = tile_count(column, columns, kV);
    float factors[kV], shifts[kV];
    load_coefficients(norm.weight, column, count, 1.0f, factors);
    load_coefficients(norm.bias, column, count, 0.0f, shifts);
#pragma unroll
    for (int row = 0; row < ROWS; ++row) {
      if (row >= rows) continue;
      float y[kV];
#pragma unroll
      for (int i = 0; i < kV; ++i) {
        y[i] = (x[row][chunk * kV + i] - mean[row]) * scale[row] * factors[i];
      }
      if (norm.bias != nullptr) {
#pragma unroll
        for (int i = 0; i < kV; ++i) y[i] += shifts[i];
      }
      put_columns<T>(out + row * task.out_stride, aligned, column, count, y);
    }
  }
}

}  // namespace exn::cuda
