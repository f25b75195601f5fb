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
#include "storage.cuh"

namespace exn::cuda {

constexpr int kLinearOutputs = 128;  // of a block
constexpr int kStageRowBytes = 128;  // of W, in one stage
// A multiple of 16 whose odd factor keeps 128-bit reads of 8 rows off one another's banks.
constexpr int kStagePitch = 128 + 16;

// The same where W is quantised (linear_blocks.cuh): outputs of a block, elements of a row in a
// stage.
constexpr int kBlockTile = 64;
constexpr int kBlockDepth = 256;

constexpr int kResultPitch = kLinearOutputs + 1;  // of results in shared memory, in floats

// How a block's 128 x ROWS results are spread over threads, each of which keeps kOutputs x kRows of
// them in registers. The more results a thread has, the fewer reads of shared memory there are for
// each multiplication; few rows leave it with one output.
template <class W, int ROWS>
struct LinearShape {
  using Element = W;  // what x may be rounded to
  static constexpr bool kKeepsInfinities = true;
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

  // Of four elements of x in a stage, in units of as many.
  static __device__ __forceinline__ int place(int row, int quad) {
    return row * (kDepth / 4) + quad;
  }
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
  int64_t outputs;      // N: rows of W, or entries of the list
  int64_t depth;        // D
  int64_t rows;         // R
  const int32_t* list;  // optional: rows of W to take
  int64_t vocabulary;   // rows of W; a list entry outside is not read
  // Optional: a second matrix of N rows. A tile then holds 64 outputs, those of W and those of
  // `second` beside them; where W is quantised, tiles of the two take turns.
  const W* second = nullptr;
  int64_t second_stride = 0;
  const int32_t* row_count = nullptr;  // optional, on the device: rows that there are, at most R
  int splits = 1;  // parts into which D is cut, each of which is left to blocks of its own
  // Where W is quantised: the tiles that a launch takes, every tile_step-th from first_tile on.
  int tile_step = 1;
  int first_tile = 0;
};

constexpr int kPairOutputs = kLinearOutputs / 2;  // of a tile of two matrices

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

// What of the input a block multiplies.
struct TileRange {
  const float* x;  // its first row
  int rows;        // from there on; those beyond need not exist
  int first_stage;
  int stages;
};

template <class W, int ROWS>
__device__ __forceinline__ TileRange whole_depth(const LinearInput<W>& input, int64_t first_row,
                                                 int64_t row_end) {
  constexpr int kDepth = LinearShape<W, ROWS>::kDepth;
  return {input.x + first_row * input.x_stride, tile_count(first_row, row_end, ROWS), 0,
          static_cast<int>((input.depth + kDepth - 1) / kDepth)};
}

// One part of the depth; no part is empty if there are at least as many stages as parts.
template <class W, int ROWS>
__device__ __forceinline__ TileRange part_of_depth(const LinearInput<W>& input, int64_t first_row,
                                                   int64_t row_end, int part) {
  TileRange range = whole_depth<W, ROWS>(input, first_row, row_end);
  const int64_t stages = range.stages;
  range.first_stage = static_cast<int>(stages * part / input.splits);
  range.stages = static_cast<int>(stages * (part + 1) / input.splits) - range.first_stage;
  return range;
}

// How a block's rows of x come to shared memory, [ROWS][kDepth] in each stage: those that lie in
// memory as they are multiplied.
template <class W, int ROWS>
struct StoredRows {
  const float* x;  // what the first stage multiplies of the first row
  int64_t stride;
  int rows;

  // Begins to copy a stage.
  __device__ __forceinline__ void begin(float4* to, int stage) const {
    using Shape = LinearShape<W, ROWS>;
    constexpr int kInputChunks = Shape::kDepth / 4;
    const float* const from = x + static_cast<int64_t>(stage) * Shape::kDepth;
    for (int i = threadIdx.x; i < ROWS * kInputChunks; i += Shape::kThreads) {
      // Rows past the end are copies of the last one: nobody looks at their results.
      const int row = Min::apply(i / kInputChunks, rows - 1);
      __pipeline_memcpy_async(to + i, from + row * stride + i % kInputChunks * 4, 16);
    }
  }

  // Called by all at once, while the first stages are on their way.
  __device__ __forceinline__ void prepare() const {}

  // Called when what this thread copied of a stage has arrived, which it may see and change before
  // the others do.
  __device__ __forceinline__ void finish(float4*, int /*stage*/) const {}
};

// results[o][r] = <row of W for output first_output + thread_column + o * kColumns,
//                  row of x first_row + 8 * thread_row + r>
// `rows_of_w` points to the block's 128 rows of W, null where there is none, and is complete (a
// barrier has passed). `rows_of_x` is a StoredRows, or has the same members.
template <class W, int ROWS, class RowsOfX>
__device__ __forceinline__ void linear_tile(
    const LinearInput<W>& input, const W* const* rows_of_w, const TileRange& range,
    const RowsOfX& rows_of_x, unsigned char* shared,
    float (&results)[LinearShape<W, ROWS>::kOutputs][LinearShape<W, ROWS>::kRows]) {
  using Shape = LinearShape<W, ROWS>;
  constexpr int kChunks = kStageRowBytes / 16;
  const int thread = static_cast<int>(threadIdx.x);
  const int thread_column = thread % Shape::kColumns;
  const int thread_row = thread / Shape::kColumns;
  const bool aligned = is_vector_aligned(input.weight) && input.weight_stride % kVector<W> == 0 &&
                       is_vector_aligned(input.second) && input.second_stride % kVector<W> == 0;
  const int stages = range.stages;

  const auto begin_stage = [&](int stage) {
    unsigned char* const base = shared + stage % Shape::kStages * Shape::kStageBytes;
    const int64_t depth = static_cast<int64_t>(range.first_stage + stage) * Shape::kDepth;
    // A thread copies the same chunk of several rows.
    const int chunk = thread % kChunks;
    const int64_t column = depth + chunk * kVector<W>;
    const int64_t left = input.depth - column;
    const int count = left < kVector<W> ? static_cast<int>(left) : kVector<W>;
    constexpr int kStep = Shape::kThreads / kChunks;
#pragma unroll 4
    for (int i = 0; i < kLinearOutputs / kStep; ++i) {
      const int output = thread / kChunks + i * kStep;
      const W* const row = rows_of_w[output];
      stage_weights(reinterpret_cast<W*>(base + output * kStagePitch + chunk * 16), row + column,
                    row == nullptr ? 0 : count, aligned);
    }
    rows_of_x.begin(reinterpret_cast<float4*>(base + Shape::kWeightBytes), stage);
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
  rows_of_x.prepare();
#pragma unroll 1
  for (int stage = 0; stage < stages; ++stage) {
    __pipeline_wait_prior(Shape::kStages - 2);
    rows_of_x.finish(
        reinterpret_cast<float4*>(shared + stage % Shape::kStages * Shape::kStageBytes +
                                  Shape::kWeightBytes),
        stage);
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

template <class W, int ROWS>
__device__ __forceinline__ void linear_tile(
    const LinearInput<W>& input, const W* const* rows_of_w, const TileRange& range,
    unsigned char* shared,
    float (&results)[LinearShape<W, ROWS>::kOutputs][LinearShape<W, ROWS>::kRows]) {
  const int64_t first_column =
      static_cast<int64_t>(range.first_stage) * LinearShape<W, ROWS>::kDepth;
  const StoredRows<W, ROWS> rows_of_x{range.x + first_column, input.x_stride, range.rows};
  linear_tile<W, ROWS>(input, rows_of_w, range, rows_of_x, shared, results);
}

// Fills `rows_of_w` for a block that begins at output `first`; complete for all when it returns.
template <class W, int ROWS>
__device__ __forceinline__ void find_weight_rows(const LinearInput<W>& input, int64_t first,
                                                 const W** rows_of_w) {
  for (int i = threadIdx.x; i < kLinearOutputs; i += LinearShape<W, ROWS>::kThreads) {
    if (input.second != nullptr) {
      const int64_t row = first / 2 + i % kPairOutputs;
      rows_of_w[i] = row >= input.outputs ? nullptr
                     : i < kPairOutputs   ? input.weight + row * input.weight_stride
                                          : input.second + row * input.second_stride;
      continue;
    }
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
  kTanh,          // tanh(W x + b)
  kSilu,
  kGelu,      // with erf
  kGeluTanh,  // its approximation with tanh
};

struct LinearOutput {
  const float* bias;  // [N], optional
  void* y;            // [R,N]
  int64_t y_stride;
  Activation activation;
  Storage storage = Storage::kF32;     // of y and of the residual
  int64_t y_columns = 0;               // zeros from N up to here, so that y can be the next x
  const float* second_bias = nullptr;  // of the second matrix
  const void* residual = nullptr;      // [R,N], optional, added last
  int64_t residual_stride = 0;
  // Optional: where the plain products go instead, [splits, R, partial_stride]. All 128 of each
  // tile are written.
  float* partials = nullptr;
  int64_t partial_stride = 0;
};

__device__ __forceinline__ float activate(Activation activation, float z) {
  switch (activation) {
    case Activation::kResidualSilu:
    case Activation::kSilu:
      return z / (1.0f + expf(-z));
    case Activation::kTanh:
      return tanhf(z);
    case Activation::kGelu:
      return 0.5f * z * (1.0f + erff(z * 0.70710678f));
    case Activation::kGeluTanh:
      return 0.5f * z * (1.0f + tanhf(0.79788456f * fmaf(0.044715f * z * z, z, z)));
    default:
      return z;
  }
}

// Finishes and stores one output of a row. `product` is that of W, `second` that of the second
// matrix; `x` is the row of the input.
template <class W>
__device__ __forceinline__ void store_output(const LinearInput<W>& input,
                                             const LinearOutput& output, int64_t row, int64_t n,
                                             float product, float second) {
  if (n >= output.y_columns) return;
  float y = 0.0f;
  if (n < input.outputs) {
    y = activate(output.activation, product + (output.bias != nullptr ? output.bias[n] : 0.0f));
    if (output.activation == Activation::kResidualSilu) y += input.x[row * input.x_stride + n];
    if (input.second != nullptr) {
      y *= second + (output.second_bias != nullptr ? output.second_bias[n] : 0.0f);
    }
    if (output.residual != nullptr) {
      y += load_as(output.storage, output.residual, row * output.residual_stride + n);
    }
  }
  store_as(output.storage, output.y, row * output.y_stride + n, y);
}

template <class W>
__device__ __forceinline__ int64_t rows_present(const LinearInput<W>& input) {
  return input.row_count != nullptr && *input.row_count < input.rows ? *input.row_count
                                                                     : input.rows;
}

// Where a block's results belong.
struct TilePlace {
  int64_t first_row;
  int64_t first_output;
  int part;
};

// Stores what a block's products, [rows][OUTPUTS + 1] in shared memory, belong to.
template <int THREADS, int OUTPUTS, class W>
__device__ __forceinline__ void finish_tile(const LinearInput<W>& input, const LinearOutput& output,
                                            const TilePlace& place, int rows,
                                            const float* products) {
  constexpr int kPair = OUTPUTS / 2;
  const int per_row = input.second != nullptr && output.partials == nullptr ? kPair : OUTPUTS;
#pragma unroll 1
  for (int i = threadIdx.x; i < rows * per_row; i += THREADS) {
    const int64_t row = place.first_row + i / per_row;
    const int n = i % per_row;
    const float* const product = products + i / per_row * (OUTPUTS + 1) + n;
    if (output.partials != nullptr) {
      output.partials[(place.part * input.rows + row) * output.partial_stride + place.first_output +
                      n] = *product;
    } else if (input.second != nullptr) {
      store_output(input, output, row, place.first_output / 2 + n, product[0], product[kPair]);
    } else {
      store_output(input, output, row, place.first_output + n, *product, 0.0f);
    }
  }
}

// Bytes: W once for each block of ROWS rows that are there, x from the L2 cache for each block of
// outputs, y once; or 4 per product for each part of the depth. Grid: above; where the depth is cut
// into parts, z counts them.
template <class W, int ROWS>
__global__ void EXN_LINEAR_BOUNDS(W, ROWS)
    linear_kernel(LinearInput<W> input, LinearOutput output) {
  using Shape = LinearShape<W, ROWS>;
  EXN_DYN_SMEM(shared);
  __shared__ const W* rows_of_w[kLinearOutputs];
  __shared__ TilePlace place;  // registers are scarce while the tile is multiplied
  const bool paired = input.second != nullptr;
  const int part = input.splits > 1 ? static_cast<int>(blockIdx.z) : 0;
  const int64_t first_output =
      (input.splits > 1 ? static_cast<int64_t>(blockIdx.y) : linear_tile_index()) * kLinearOutputs;
  const int64_t first_row = linear_first_row(ROWS);
  const int64_t row_end = rows_present(input);
  if (first_row >= row_end || first_output >= (paired ? 2 : 1) * input.outputs) return;
  if (threadIdx.x == 0) place = {first_row, first_output, part};
  find_weight_rows<W, ROWS>(input, first_output, rows_of_w);

  float results[Shape::kOutputs][Shape::kRows];
  const TileRange range = part_of_depth<W, ROWS>(input, first_row, row_end, part);
  linear_tile<W, ROWS>(input, rows_of_w, range, shared, results);
  const float* const products = share_results<W, ROWS>(results, shared);

  finish_tile<Shape::kThreads, kLinearOutputs>(input, output, place, range.rows, products);
}

// The products of a row's outputs `place` .. `place` + 3 of the partial ones, parts added from left
// to right.
__device__ __forceinline__ float4 merged_products(const float* partials, int64_t row, int64_t place,
                                                  int64_t stride, int64_t rows, int splits) {
  const float* from = partials + row * stride + place;
  float4 sum = *reinterpret_cast<const float4*>(from);
#pragma unroll 4
  for (int part = 1; part < splits; ++part) {
    from += rows * stride;
    const float4 more = *reinterpret_cast<const float4*>(from);
    sum = make_float4(sum.x + more.x, sum.y + more.y, sum.z + more.z, sum.w + more.w);
  }
  return sum;
}

constexpr int kMergeLinearThreads = 128;

// Adds the parts that linear_kernel left, and finishes their outputs: four per thread.
//
// Bytes: 4 per product and part, y once. Grid: x counts blocks of 512 outputs, y rows.
template <class W>
__global__ __launch_bounds__(kMergeLinearThreads) void merge_linear_kernel(LinearInput<W> input,
                                                                           LinearOutput output) {
  const int64_t n = 4 * (static_cast<int64_t>(blockIdx.x) * kMergeLinearThreads + threadIdx.x);
  const int64_t row = blockIdx.y;
  if (n >= output.y_columns || row >= rows_present(input)) return;
  const bool paired = input.second != nullptr;
  const int64_t place = paired ? n / kPairOutputs * kLinearOutputs + n % kPairOutputs : n;
  const auto merged = [&](int64_t at) {
    return merged_products(output.partials, row, at, output.partial_stride, input.rows,
                           input.splits);
  };
  const float4 first = merged(place);
  const float4 second = paired ? merged(place + kPairOutputs) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  store_output(input, output, row, n, first.x, second.x);
  store_output(input, output, row, n + 1, first.y, second.y);
  store_output(input, output, row, n + 2, first.z, second.z);
  store_output(input, output, row, n + 3, first.w, second.w);
}

}  // namespace exn::cuda
