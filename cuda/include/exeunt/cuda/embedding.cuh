// SPDX-License-Identifier: Apache-2.0
//
// embedding: rows of a table by their ids, moved, converted or unpacked. Grid: ids by pieces of a
// row. A row of an id that does not exist becomes NaN.
#pragma once

#include <cstdint>

#include "blocks.cuh"
#include "norm.cuh"
#include "words.cuh"

namespace exn::cuda {

struct EmbeddingIds {
  const int32_t* ids;  // a block of threads, or some, for each
  int64_t known;       // rows of the table
};

// ---- as they are --------------------------------------------------------------------------------

template <class Word>
struct EmbeddingCopyTask {
  EmbeddingIds list;
  const Word* table;
  int64_t table_stride;  // in words, as all here
  Word* out;
  int64_t out_stride;
  int64_t words;  // of a row
};

// Words of NaN, whatever their elements are.
__device__ __forceinline__ void put_nan(uint16_t& word) { word = 0xffff; }
__device__ __forceinline__ void put_nan(uint32_t& word) { word = ~0u; }
__device__ __forceinline__ void put_nan(uint2& word) { word = make_uint2(~0u, ~0u); }
__device__ __forceinline__ void put_nan(uint4& word) { word = make_uint4(~0u, ~0u, ~0u, ~0u); }

// Bytes: a row of the table read and one of out written per id, 4 for the id from each thread.
template <class Word>
__global__ __launch_bounds__(kMoveThreads) void embedding_copy_kernel(
    EmbeddingCopyTask<Word> task) {
  const int64_t row = blockIdx.x;
  const int32_t id = task.list.ids[row];
  Word* const out = task.out + row * task.out_stride;
  if (id >= 0 && id < task.list.known) {
    move_row(out, task.table + id * task.table_stride, task.words);
    return;
  }
  const int64_t step = static_cast<int64_t>(gridDim.y) * kMoveThreads;
  for (int64_t at = static_cast<int64_t>(blockIdx.y) * kMoveThreads + threadIdx.x; at < task.words;
       at += step) {
    put_nan(out[at]);
  }
}

// ---- converted ----------------------------------------------------------------------------------

template <class T, class O>
struct EmbeddingTask {
  EmbeddingIds list;
  const T* table;
  int64_t table_stride;
  O* out;
  int64_t out_stride;
  int64_t columns;
  float scale;
};

constexpr int kEmbeddingItems = 8;
constexpr int kEmbeddingTile = kTileThreads * kEmbeddingItems;

// Bytes: a row of the table read and one of out written per id, 4 for the id from each thread.
template <class T, class O>
__global__ __launch_bounds__(kTileThreads) void embedding_kernel(EmbeddingTask<T, O> task) {
  constexpr int kV = kVector<T>;
  constexpr int kItems = kEmbeddingItems;
  const int64_t row = blockIdx.x;
  const int32_t id = task.list.ids[row];
  const bool known = id >= 0 && id < task.list.known;
  O* const out = task.out + row * task.out_stride;
  const bool aligned = is_vector_aligned(out);
  const int64_t step = static_cast<int64_t>(gridDim.y) * kEmbeddingTile;
  for (int64_t begin = static_cast<int64_t>(blockIdx.y) * kEmbeddingTile; begin < task.columns;
       begin += step) {
    float x[kItems];
    if (known) {
      load_tile(task.table + id * task.table_stride + begin,
                tile_count(begin, task.columns, kEmbeddingTile), 0.0f, x);
    }
#pragma unroll
    for (int i = 0; i < kItems; ++i) x[i] = known ? x[i] * task.scale : NAN;
#pragma unroll
    for (int chunk = 0; chunk < kItems / kV; ++chunk) {
      const int64_t column = begin + tile_place<T>(chunk * kV);
      float y[kV];
#pragma unroll
      for (int i = 0; i < kV; ++i) y[i] = x[chunk * kV + i];
      put_columns<T>(out, aligned, column, tile_count(column, task.columns, kV), y);
    }
  }
}

// ---- unpacked -----------------------------------------------------------------------------------

template <class O>
struct EmbeddingBlocksTask {
  EmbeddingIds list;
  const uint8_t* table;
  int64_t table_stride;  // bytes
  Blocks format;
  int32_t word;  // bytes: 16, 4, 2 or 1, the widest that pieces of the table's rows may be read in
  O* out;
  int64_t out_stride;
  int64_t columns;
  float scale;
};

// Elements that a block of threads unpacks together: whole blocks of every format.
template <class O>
constexpr int kUnpackTile = kTileThreads * kVector<O>;

// At most MOST bytes.
template <class Word, int MOST>
__device__ __forceinline__ void stage_words(const uint8_t* from, int bytes, uint8_t* to) {
  constexpr int kStep = kTileThreads * static_cast<int>(sizeof(Word));
  const int place = static_cast<int>(threadIdx.x) * static_cast<int>(sizeof(Word));
#pragma unroll
  for (int at = 0; at < MOST; at += kStep) {
    if (at + place >= bytes) continue;
    *reinterpret_cast<Word*>(to + at + place) = *reinterpret_cast<const Word*>(from + at + place);
  }
}

// Bytes: a row of the table read and one of out written per id, 4 for the id from each thread.
template <class O>
__global__ __launch_bounds__(kTileThreads) void embedding_blocks_kernel(
    EmbeddingBlocksTask<O> task) {
  constexpr int kTile = kUnpackTile<O>;
  constexpr int kV = kVector<O>;
  constexpr int kMost = most_block_bytes(kTile);
  __shared__ __align__(16) uint8_t staged[kMost];
  const int elements = block_elements(task.format), size = block_bytes(task.format);
  const int place = static_cast<int>(threadIdx.x) * kV;
  const int64_t row = blockIdx.x;
  const int32_t id = task.list.ids[row];
  const bool known = id >= 0 && id < task.list.known;
  O* const out = task.out + row * task.out_stride;
  const bool aligned = is_vector_aligned(out);
  const int64_t step = static_cast<int64_t>(gridDim.y) * kTile;
  for (int64_t begin = static_cast<int64_t>(blockIdx.y) * kTile; begin < task.columns;
       begin += step) {
    const int count = tile_count(begin, task.columns, kTile);
    if (known) {
      const uint8_t* const from = task.table + id * task.table_stride + begin / elements * size;
      const int bytes = count / elements * size;
      if (task.word == 16) {
        stage_words<uint4, kMost>(from, bytes, staged);
      } else if (task.word == 4) {
        stage_words<uint32_t, kMost>(from, bytes, staged);
      } else if (task.word == 2) {
        stage_words<uint16_t, kMost>(from, bytes, staged);
      } else {
        stage_words<uint8_t, kMost>(from, bytes, staged);
      }
    }
    __syncthreads();
    if (place < count) {
      float y[kV];
#pragma unroll
      for (int i = 0; i < kV; ++i) y[i] = NAN;
      if (known) {
        with_blocks(task.format, [&](auto format) {
          constexpr Blocks kFormat = decltype(format)::value;
          const uint8_t* const block =
              staged + place / block_elements(kFormat) * block_bytes(kFormat);
          unpack_elements<kFormat>(block, place % block_elements(kFormat), y);
        });
#pragma unroll
        for (int i = 0; i < kV; ++i) y[i] *= task.scale;
      }
      put_columns<O>(out, aligned, begin + place, kV, y);
    }
    __syncthreads();  // the next piece is staged in the same place
  }
}

}  // namespace exn::cuda
