// SPDX-License-Identifier: Apache-2.0
//
// y = W x for a few rows x at a time, the shape of decoding: W [N,D] is read once for up to 64 rows
// of x.
//
// A block computes 128 outputs for ROWS rows. W and x pass through shared memory in stages of 128
// bytes of each row of W, copied asynchronously while the stage before is computed. Every product
// is a sum over a stage from left to right, and the stages' sums are added from left to right,
// whatever ROWS is: a row's result has the same bits in every batch.
//
// Fused multiply-adds only, no tensor cores: for up to 8 rows (bf16 on an H100: about 16) the
// kernel is bound by the bytes of W, beyond that by the FMA pipe: 64 rows of bf16 take about four
// times as long as reading W does.
#pragma once

#include "elements.cuh"
#include "reduce.cuh"

namespace exn::cuda {

constexpr int kLinearOutputs = 128;     // of a block
constexpr int kStageRowBytes = 128;     // of W, in one stage
// A multiple of 16 whose odd factor keeps 128-bit reads of 8 rows off one another's banks.
constexpr int kStagePitch = 128 + 16;

constexpr int kResultPitch = kLinearOutputs + 1;  // of results in shared memory, in floats

// How a block's 128 x ROWS results are spread over threads, each of which keeps kOutputs x kRows of
// them in registers. The more results a thread has, the fewer reads of shared memory there are for
// each multiplication; few rows leave it with one output.
template <class W, int ROWS>
struct LinearShape {
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
  static constexpr int kResultBytes = ROWS * kResultPitch * static_cast<int>(sizeof(float));
  static constexpr int kStagesBytes = kStages * kStageBytes;
  static constexpr int kSharedBytes = kStagesBytes > kResultBytes ? kStagesBytes : kResultBytes;
};

#define EXN_LINEAR_BOUNDS(W, ROWS) \
  __launch_bounds__((LinearShape<W, ROWS>::kThreads), (LinearShape<W, ROWS>::kBlocksPerSm))

// x rows are f32 with a stride that is a multiple of kInputMultiple and zeros from D on, so that
// stages of x are whole.
constexpr int kInputMultiple = 64;

template <class W>
struct LinearInput {
  const W* weight;        // [N,D]
  int64_t weight_stride;  // elements between rows
  const float* x;         // [R,D], zero padded
  int64_t x_stride;
  int64_t outputs;        // N: rows of W, or entries of the list
  int64_t depth;          // D
  int64_t rows;           // R
  const int32_t* list;    // optional: rows of W to take
  int64_t vocabulary;     // rows of W; a list entry outside is not read
};

// Row of W behind output `output`, or -1 if there is none.
template <class W>
__device__ __forceinline__ int64_t weight_row(const LinearInput<W>& input, int64_t output) {
  if (output >= input.outputs) return -1;
  if (input.list == nullptr) return output;
  const int64_t row = input.list[output];
  return row >= 0 && row < input.vocabulary ? row : -1;
}

// Begins to copy 16 bytes of a row of W to shared memory; zeros from `count` elements on.
template <class W>
__device__ __forceinline__ void stage_weights(W* shared, const W* global, int count, bool aligned) {
  if (aligned && count >= kVector<W>) {
    __pipeline_memcpy_async(shared, global, 16);
    return;
  }
#pragma unroll 1
  for (int i = 0; i < kVector<W>; ++i) shared[i] = i < count ? global[i] : narrow<W>(0.0f);
}

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

// results[o][r] = <row of W for output first_output + thread_column + o * kColumns,
//                  row of x first_row + 8 * thread_row + r>
// `rows_of_w` points to the block's 128 rows of W, null where there is none, and is complete (a
// barrier has passed).
template <class W, int ROWS>
__device__ __forceinline__ void linear_tile(
    const LinearInput<W>& input, const W* const* rows_of_w, int64_t first_row,
    unsigned char* shared,
    float (&results)[LinearShape<W, ROWS>::kOutputs][LinearShape<W, ROWS>::kRows]) {
  using Shape = LinearShape<W, ROWS>;
  constexpr int kChunks = kStageRowBytes / 16;
  const int thread = static_cast<int>(threadIdx.x);
  const int thread_column = thread % Shape::kColumns;
  const int thread_row = thread / Shape::kColumns;
  const bool aligned = is_vector_aligned(input.weight) && input.weight_stride % kVector<W> == 0;
  const int stages = static_cast<int>((input.depth + Shape::kDepth - 1) / Shape::kDepth);

  const auto begin_stage = [&](int stage) {
    unsigned char* const base = shared + stage % Shape::kStages * Shape::kStageBytes;
    const int64_t depth = static_cast<int64_t>(stage) * Shape::kDepth;
    // A thread copies the same chunk of several rows.
    const int chunk = thread % kChunks;
    const int64_t column = depth + chunk * kVector<W>;
    const int64_t left = input.depth - column;
    const int count = left < kVector<W> ? static_cast<int>(left) : kVector<W>;
#pragma unroll 4
    for (int output = thread / kChunks; output < kLinearOutputs;
         output += Shape::kThreads / kChunks) {
      const W* const row = rows_of_w[output];
      stage_weights(reinterpret_cast<W*>(base + output * kStagePitch + chunk * 16), row + column,
                    row == nullptr ? 0 : count, aligned);
    }
    constexpr int kInputChunks = Shape::kDepth / 4;
    for (int i = thread; i < ROWS * kInputChunks; i += Shape::kThreads) {
      // Rows past the end are copies of the last one: nobody looks at their results.
      const int64_t row =
          first_row + i / kInputChunks < input.rows ? first_row + i / kInputChunks : input.rows - 1;
      __pipeline_memcpy_async(base + Shape::kWeightBytes + i * 16,
                              input.x + row * input.x_stride + depth + i % kInputChunks * 4, 16);
    }
  };

#pragma unroll
  for (int o = 0; o < Shape::kOutputs; ++o) {
#pragma unroll
    for (int r = 0; r < Shape::kRows; ++r) results[o][r] = 0.0f;
  }
#pragma unroll 1
  for (int stage = 0; stage < Shape::kStages - 1; ++stage) {
    if (stage < stages) begin_stage(stage);
    __pipeline_commit();
  }
#pragma unroll 1
  for (int stage = 0; stage < stages; ++stage) {
    __pipeline_wait_prior(Shape::kStages - 2);
    // This stage is there for all, and all have left the one that is overwritten next.
    __syncthreads();
    if (stage + Shape::kStages - 1 < stages) begin_stage(stage + Shape::kStages - 1);
    __pipeline_commit();  // also when empty: the wait counts groups

    const unsigned char* const base = shared + stage % Shape::kStages * Shape::kStageBytes;
    const auto* x = reinterpret_cast<const float4*>(base + Shape::kWeightBytes) +
                    thread_row * Shape::kRows * (Shape::kDepth / 4);
    float sums[Shape::kOutputs][Shape::kRows];
#pragma unroll
    for (int o = 0; o < Shape::kOutputs; ++o) {
#pragma unroll
      for (int r = 0; r < Shape::kRows; ++r) sums[o][r] = 0.0f;
    }
#pragma unroll(ROWS <= 4 ? 2 : 1)
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      uint4 raw[Shape::kOutputs];
#pragma unroll
      for (int o = 0; o < Shape::kOutputs; ++o) {
        const int output = thread_column + o * Shape::kColumns;
        raw[o] = *reinterpret_cast<const uint4*>(base + output * kStagePitch + chunk * 16);
      }
#pragma unroll
      for (int quad = 0; quad < kVector<W> / 4; ++quad) {
        float w[Shape::kOutputs][4];
#pragma unroll
        for (int o = 0; o < Shape::kOutputs; ++o) unpack_quad<W>(raw[o], quad, w[o]);
#pragma unroll
        for (int r = 0; r < Shape::kRows; ++r) {
          const float4 v = x[r * (Shape::kDepth / 4) + chunk * (kVector<W> / 4) + quad];
#pragma unroll
          for (int o = 0; o < Shape::kOutputs; ++o) {
            sums[o][r] = fmaf(w[o][0], v.x, sums[o][r]);
            sums[o][r] = fmaf(w[o][1], v.y, sums[o][r]);
            sums[o][r] = fmaf(w[o][2], v.z, sums[o][r]);
            sums[o][r] = fmaf(w[o][3], v.w, sums[o][r]);
          }
        }
      }
    }
#pragma unroll
    for (int o = 0; o < Shape::kOutputs; ++o) {
#pragma unroll
      for (int r = 0; r < Shape::kRows; ++r) results[o][r] += sums[o][r];
    }
  }
  __pipeline_wait_prior(0);
  __syncthreads();  // `shared` is free for the caller
}

// Fills `rows_of_w` for a block that begins at output `first`; complete for all when it returns.
template <class W, int ROWS>
__device__ __forceinline__ void find_weight_rows(const LinearInput<W>& input, int64_t first,
                                                 const W** rows_of_w) {
  for (int i = threadIdx.x; i < kLinearOutputs; i += LinearShape<W, ROWS>::kThreads) {
    const int64_t row = weight_row(input, first + i);
    rows_of_w[i] = row < 0 ? nullptr : input.weight + row * input.weight_stride;
  }
  __syncthreads();
}

// Hands the results on through shared memory, [ROWS][kResultPitch], so that what is done with each
// need not be spelled out for every register. Complete for all when it returns.
template <class W, int ROWS>
__device__ __forceinline__ float* share_results(
    const float (&results)[LinearShape<W, ROWS>::kOutputs][LinearShape<W, ROWS>::kRows],
    unsigned char* shared) {
  using Shape = LinearShape<W, ROWS>;
  float* const table = reinterpret_cast<float*>(shared);
#pragma unroll
  for (int o = 0; o < Shape::kOutputs; ++o) {
    const int column = static_cast<int>(threadIdx.x) % Shape::kColumns + o * Shape::kColumns;
#pragma unroll
    for (int r = 0; r < Shape::kRows; ++r) {
      const int row = static_cast<int>(threadIdx.x) / Shape::kColumns * Shape::kRows + r;
      table[row * kResultPitch + column] = results[o][r];
    }
  }
  __syncthreads();
  return table;
}

// Grid of the kernels below: x counts blocks of rows, y and z blocks of 128 outputs. x runs
// fastest, so that a block of W that several blocks of rows need comes from memory once. A z beyond
// 0 is for more than 4 million outputs.
constexpr int kLinearGridY = 32768;

__device__ __forceinline__ int64_t linear_first_row(int rows) {
  return static_cast<int64_t>(blockIdx.x) * rows;
}
__device__ __forceinline__ int64_t linear_tile_index() {
  return static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y;
}

// ---- a layer: y = f(W x + b) --------------------------------------------------------------------

enum class Activation : int {
  kNone,          // W x + b
  kResidualSilu,  // x + SiLU(W x + b)
  kTanh           // tanh(W x + b)
};

struct LinearOutput {
  const float* bias;  // [N], optional
  float* y;           // [R,N], f32; zeros from N up to the stride, so that it can be the next x
  int64_t y_stride;
  Activation activation;
};

__device__ __forceinline__ float activate(Activation activation, float z, const float* x) {
  switch (activation) {
    case Activation::kResidualSilu:
      return *x + z / (1.0f + expf(-z));
    case Activation::kTanh:
      return tanhf(z);
    default:
      return z;
  }
}

// Bytes: W once for each block of ROWS rows, x from the L2 cache for each block of outputs, y once.
// Grid: above.
template <class W, int ROWS>
__global__ void EXN_LINEAR_BOUNDS(W, ROWS)
    linear_kernel(LinearInput<W> input, LinearOutput output) {
  using Shape = LinearShape<W, ROWS>;
  EXN_DYN_SMEM(shared);
  __shared__ const W* rows_of_w[kLinearOutputs];
  const int64_t first_row = linear_first_row(ROWS);
  const int64_t first_output = linear_tile_index() * kLinearOutputs;
  if (first_output >= output.y_stride) return;
  find_weight_rows<W, ROWS>(input, first_output, rows_of_w);

  float results[Shape::kOutputs][Shape::kRows];
  linear_tile<W, ROWS>(input, rows_of_w, first_row, shared, results);
  const float* const products = share_results<W, ROWS>(results, shared);

#pragma unroll 1
  for (int i = threadIdx.x; i < ROWS * kLinearOutputs; i += Shape::kThreads) {
    const int64_t row = first_row + i / kLinearOutputs;
    const int64_t n = first_output + i % kLinearOutputs;
    if (row >= input.rows || n >= output.y_stride) continue;
    float y = 0.0f;
    if (n < input.outputs) {
      const float bias = output.bias != nullptr ? output.bias[n] : 0.0f;
      const float product = products[i / kLinearOutputs * kResultPitch + i % kLinearOutputs];
      y = activate(output.activation, product + bias, input.x + row * input.x_stride + n);
    }
    output.y[row * output.y_stride + n] = y;
  }
}

}  // namespace exn::cuda
