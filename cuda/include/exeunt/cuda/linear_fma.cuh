// SPDX-License-Identifier: Apache-2.0
//
// A tile of linear_tile.cuh by fused multiply-adds, for weights of f32 and f16.
#pragma once

#include "reduce.cuh"
#include "storage.cuh"

namespace exn::cuda {

constexpr int kLinearOutputs = 128;  // of a block
constexpr int kStageRowBytes = 128;  // of W, in one stage

// Between rows of a tile's products in shared memory, in floats: rows are aligned to 16 bytes, and
// neighbouring ones lie in different banks.
template <int OUTPUTS>
constexpr int kResultPitch = OUTPUTS + 4;

// A multiple of 16 whose odd factor keeps 128-bit reads of 8 rows off one another's banks.
constexpr int kStagePitch = 128 + 16;

// Up to so many rows may be f16 or bf16, if D is a multiple of a stage: blocks widen them.
constexpr int kMostRawRows = 8;

// Four consecutive elements of a vector of 16 bytes: all of it (f32), or its first or second half.
template <class W>
__device__ __forceinline__ void unpack_quad(const uint4& raw, int quad, float (&w)[4]) {
  if constexpr (sizeof(W) == 4) {
    unpack<W>(raw, w);
  } else {
    unpack_pair(W(), quad == 0 ? raw.x : raw.z, w);
    unpack_pair(W(), quad == 0 ? raw.y : raw.w, w + 2);
  }
}

// Rows of x as they lie in memory.
struct RowsOfX {
  const void* x;  // the first row
  int64_t stride;
  int rows;
  int first_stage;
  Storage storage;
  bool is_rounded;  // to the type of W, though it is f32
};

template <int OUTPUTS, int ROWS>
__device__ __forceinline__ void clear(float (&sums)[OUTPUTS][ROWS]) {
#pragma unroll
  for (int o = 0; o < OUTPUTS; ++o) {
#pragma unroll
    for (int r = 0; r < ROWS; ++r) sums[o][r] = 0.0f;
  }
}

// How a block's 128 x ROWS results are spread over threads, each of which keeps kOutputs x kRows of
// them in registers. The more results a thread has, the fewer reads of shared memory there are for
// each multiplication; few rows leave it with one output.
template <class W, int ROWS>
struct FmaShape {
  using Element = W;  // what x may be rounded to
  static constexpr bool kOnTensorCores = false;
  static constexpr int kRows = ROWS < 8 ? ROWS : 8;
  static constexpr int kOutputs = ROWS <= 8 ? 1 : ROWS == 16 ? 2 : 4;
  static constexpr int kColumns = kLinearOutputs / kOutputs;  // threads along the outputs
  static constexpr int kThreads = kColumns * (ROWS / kRows);
  static constexpr int kDepth =
      kStageRowBytes / static_cast<int>(sizeof(W));  // of a row in a stage
  static constexpr int kStages = ROWS <= 8 ? 3 : 2;
  static constexpr int kBlocksPerSm = ROWS == 64 ? 2 : 3;  // registers and shared memory allow it
  static constexpr int kWeightBytes = kLinearOutputs * kStagePitch;
  static constexpr int kStageBytes = kWeightBytes + ROWS * kDepth * static_cast<int>(sizeof(float));

  // Of a thread: its outputs by its rows.
  using Results = float[kOutputs][kRows];

  // Whether x comes as it is stored.
  static __device__ __forceinline__ bool is_raw(Storage storage) {
    return ROWS <= kMostRawRows && storage != Storage::kF32;
  }

  // Of a byte of a row of W in a stage.
  static __device__ __forceinline__ int weight_place(int output, int byte) {
    return output * kStagePitch + byte;
  }

  // Of four elements of x in a stage, in units of as many.
  static __device__ __forceinline__ int place(int row, int quad) {
    return row * (kDepth / 4) + quad;
  }

  // Puts four elements of x where they are multiplied.
  static __device__ __forceinline__ void put(float4* x, int row, int quad, const float4& v,
                                             bool /*is_rounded*/, bool /*again*/) {
    x[place(row, quad)] = v;
  }

  // How they come to shared memory, [ROWS][kDepth] in each stage, to be multiplied.
  struct StoredRows {
    static constexpr int kQuads = kDepth / 4;  // of a row in a stage

    RowsOfX all;

    __device__ __forceinline__ explicit StoredRows(const RowsOfX& rows) : all(rows) {}

    __device__ __forceinline__ bool is_rounded() const { return all.is_rounded; }

    template <class E>
    __device__ __forceinline__ void copy(float4* to, int stage) const {
      const E* const from =
          static_cast<const E*>(all.x) + static_cast<int64_t>(all.first_stage + stage) * kDepth;
      for (int i = threadIdx.x; i < ROWS * kQuads; i += kThreads) {
        // Rows past the end are copies of the last one: their results are not used.
        const int row = Min::apply(i / kQuads, all.rows - 1);
        __pipeline_memcpy_async(to + i, from + row * all.stride + i % kQuads * 4, 4 * sizeof(E));
      }
    }

    // Begins to copy a stage.
    __device__ __forceinline__ void begin(float4* to, int stage) const {
      if (is_raw(all.storage)) {
        copy<uint16_t>(to, stage);
      } else {
        copy<float>(to, stage);
      }
    }

    // Called by all at once, while the first stages are on their way.
    __device__ __forceinline__ void prepare() const {}

    // Called when what this thread copied of a stage has arrived, which it may see and change
    // before the others do.
    __device__ __forceinline__ void finish(float4* copied, int /*stage*/, bool /*again*/) const {
      if (!is_raw(all.storage)) return;
      for (int i = threadIdx.x; i < ROWS * kQuads; i += kThreads) {
        copied[i] = widen_quad_as(all.storage, copied[i]);
      }
    }
  };

  static __device__ __forceinline__ void clear_results(Results& results) { clear(results); }

  // Adds the products of a stage that lies at `base`.
  static __device__ __forceinline__ void add_stage(const unsigned char* base, bool /*is_rounded*/,
                                                   bool /*again*/, Results& results) {
    const int column = static_cast<int>(threadIdx.x) % kColumns;
    const auto* x = reinterpret_cast<const float4*>(base + kWeightBytes) +
                    static_cast<int>(threadIdx.x) / kColumns * kRows * (kDepth / 4);
    float sums[kOutputs][kRows];
    clear(sums);
#pragma unroll(ROWS <= 4 ? 2 : 1)
    for (int chunk = 0; chunk < kStageRowBytes / 16; ++chunk) {
      uint4 raw[kOutputs];
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
        raw[o] =
            *reinterpret_cast<const uint4*>(base + weight_place(column + o * kColumns, chunk * 16));
      }
#pragma unroll
      for (int quad = 0; quad < kVector<W> / 4; ++quad) {
        float w[kOutputs][4];
#pragma unroll
        for (int o = 0; o < kOutputs; ++o) unpack_quad<W>(raw[o], quad, w[o]);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const float4 v = x[place(r, chunk * (kVector<W> / 4) + quad)];
#pragma unroll
          for (int o = 0; o < kOutputs; ++o) {
            sums[o][r] = fmaf(w[o][0], v.x, sums[o][r]);
            sums[o][r] = fmaf(w[o][1], v.y, sums[o][r]);
            sums[o][r] = fmaf(w[o][2], v.z, sums[o][r]);
            sums[o][r] = fmaf(w[o][3], v.w, sums[o][r]);
          }
        }
      }
    }
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) results[o][r] += sums[o][r];
    }
  }

  // Calls f(row, output, result) for what a thread has.
  template <class F>
  static __device__ __forceinline__ void for_each(const Results& results, F&& f) {
    const int column = static_cast<int>(threadIdx.x) % kColumns;
    const int row = static_cast<int>(threadIdx.x) / kColumns * kRows;
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) f(row + r, column + o * kColumns, results[o][r]);
    }
  }
};

}  // namespace exn::cuda
