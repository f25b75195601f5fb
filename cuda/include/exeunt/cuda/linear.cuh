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
// Where few outputs would leave multiprocessors idle, the depth is cut into splits, each of which
// is left to a block. The last block of a tile to end adds the splits, from left to right.
//
// Fused multiply-adds only, no tensor cores: for up to 8 rows (bf16 on an H100: 6 to 8) the kernel
// is bound by the bytes of W. There an H100 issues 283 warp instructions while a KiB of W comes
// from memory; with 1, 8 and 16 rows of bf16 the kernel has 122, 288 and 465 for it. 64 rows take
// about four times as long as reading W does.
#pragma once

#include "elements.cuh"
#include "reduce.cuh"
#include "storage.cuh"
#include "tickets.cuh"

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

// Up to so many rows may be f16 or bf16, if D is a multiple of a stage: blocks widen them.
constexpr int kMostRawRows = 8;

template <class W>
struct LinearInput {
  const W* weight;        // [N,D]
  int64_t weight_stride;  // elements between rows
  const float* x;         // [R,D], zero padded
  int64_t x_stride;
  int64_t outputs;                  // N: rows of W, or entries of the list
  int64_t depth;                    // D
  int64_t rows;                     // R
  const int32_t* list;              // optional: rows of W to take
  int64_t vocabulary;               // rows of W; a list entry outside is not read
  Storage storage = Storage::kF32;  // of x
  // Optional: a second matrix of N rows. A tile then holds 64 outputs, those of W and those of
  // `second` beside them; where W is quantised, tiles of the two take turns.
  const W* second = nullptr;
  int64_t second_stride = 0;
  const int32_t* row_count = nullptr;  // optional, on the device: rows that there are, at most R
  int splits = 1;  // tile_splits into which D is cut, each of which is left to blocks of its own
  // Where W is quantised: the tiles that a launch takes, every tile_step-th from first_tile on.
  int tile_step = 1;
  int first_tile = 0;
};

constexpr int kPairOutputs = kLinearOutputs / 2;  // of a tile of two matrices

// Row of W that makes output `output`, or -1 if there is none.
template <class W>
__device__ __forceinline__ int64_t weight_row(const LinearInput<W>& input, int64_t output) {
  if (output >= input.outputs) return -1;
  if (input.list == nullptr) return output;
  const int64_t row = input.list[output];
  return row >= 0 && row < input.vocabulary ? row : -1;
}

// Begins to copy BYTES of a row of W to shared memory; zeros from `count` elements on.
template <int BYTES, class W>
__device__ __forceinline__ void stage_weights(W* shared, const W* global, int count, bool aligned) {
  constexpr int kElements = BYTES / static_cast<int>(sizeof(W));
  if (aligned && count >= kElements) {
    __pipeline_memcpy_async(shared, global, BYTES);
    return;
  }
#pragma unroll 1
  for (int i = 0; i < kElements; ++i) shared[i] = i < count ? global[i] : narrow<W>(0.0f);
}

// Rows of W whose addresses a thread has at once: 64 rows of x leave registers for few, by what
// ptxas makes of them.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
template <int ROWS>
constexpr int kAddressesAtOnce = ROWS == 64 ? 2 : 4;
#else
template <int ROWS>
constexpr int kAddressesAtOnce = 4;
#endif

// The same of the rows of a tile, from element `depth` on: threads side by side copy a row, so that
// a warp asks for whole sectors, and each thread the same piece of several rows.
template <class W, int ROWS, int BYTES>
__device__ __forceinline__ void stage_rows(unsigned char* shared, const W* const* rows_of_w,
                                           int64_t depth, int64_t end, bool aligned) {
  constexpr int kPieces = kStageRowBytes / BYTES;
  constexpr int kElements = BYTES / static_cast<int>(sizeof(W));
  constexpr int kStep = LinearShape<W, ROWS>::kThreads / kPieces;
  const int thread = static_cast<int>(threadIdx.x);
  const int piece = thread % kPieces;
  const int64_t column = depth + piece * kElements;
  const int64_t left = end - column;
  const int count = left < kElements ? static_cast<int>(left) : kElements;
#pragma unroll(kAddressesAtOnce<ROWS>)
  for (int i = 0; i < kLinearOutputs / kStep; ++i) {
    const int output = thread / kPieces + i * kStep;
    const W* const row = rows_of_w[output];
    stage_weights<BYTES>(reinterpret_cast<W*>(shared + output * kStagePitch + piece * BYTES),
                         row + column, row == nullptr ? 0 : count, aligned);
  }
}

// The largest pieces of 16 or 8 bytes that all rows of W consist of; less: 0. (Arrays of the JVM
// often begin 8 bytes after a multiple of 16.)
template <class W>
__device__ __forceinline__ int piece_bytes(const LinearInput<W>& input) {
  const auto low = static_cast<unsigned>(
      reinterpret_cast<uintptr_t>(input.weight) | reinterpret_cast<uintptr_t>(input.second) |
      static_cast<uintptr_t>((input.weight_stride | input.second_stride) * sizeof(W)));
  return (low & 15u) == 0 ? 16 : (low & 7u) == 0 ? 8 : 0;
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
  const void* x;  // its first row
  int rows;       // from there on; those beyond need not exist
  int first_stage;
  int stages;
};

template <class W, int ROWS>
__device__ __forceinline__ TileRange whole_depth(const LinearInput<W>& input, int64_t first_row,
                                                 int64_t row_end) {
  constexpr int kDepth = LinearShape<W, ROWS>::kDepth;
  const int bytes = ROWS <= kMostRawRows && input.storage != Storage::kF32 ? 2 : 4;
  return {reinterpret_cast<const char*>(input.x) + first_row * input.x_stride * bytes,
          tile_count(first_row, row_end, ROWS), 0,
          static_cast<int>((input.depth + kDepth - 1) / kDepth)};
}

// One split of the depth; no split is empty if there are at least as many stages as splits.
template <class W, int ROWS>
__device__ __forceinline__ TileRange split_of_depth(const LinearInput<W>& input, int64_t first_row,
                                                    int64_t row_end, int split) {
  TileRange range = whole_depth<W, ROWS>(input, first_row, row_end);
  const int64_t stages = range.stages;
  range.first_stage = static_cast<int>(stages * split / input.splits);
  range.stages = static_cast<int>(stages * (split + 1) / input.splits) - range.first_stage;
  return range;
}

// How a block's rows of x come to shared memory, [ROWS][kDepth] in each stage: those that lie in
// memory as they are multiplied.
template <class W, int ROWS>
struct StoredRows {
  using Shape = LinearShape<W, ROWS>;
  static constexpr int kQuads = Shape::kDepth / 4;  // of a row in a stage

  const void* x;  // the first row
  int64_t stride;
  int rows;
  int first_stage;
  Storage storage;

  __device__ __forceinline__ bool is_raw() const {
    return ROWS <= kMostRawRows && storage != Storage::kF32;
  }

  template <class E>
  __device__ __forceinline__ void copy(float4* to, int stage) const {
    const E* const from =
        static_cast<const E*>(x) + static_cast<int64_t>(first_stage + stage) * Shape::kDepth;
    for (int i = threadIdx.x; i < ROWS * kQuads; i += Shape::kThreads) {
      // Rows past the end are copies of the last one: their results are not used.
      const int row = Min::apply(i / kQuads, rows - 1);
      __pipeline_memcpy_async(to + i, from + row * stride + i % kQuads * 4, 4 * sizeof(E));
    }
  }

  // Begins to copy a stage.
  __device__ __forceinline__ void begin(float4* to, int stage) const {
    if (is_raw()) {
      copy<uint16_t>(to, stage);
    } else {
      copy<float>(to, stage);
    }
  }

  // Called by all at once, while the first stages are on their way.
  __device__ __forceinline__ void prepare() const {}

  // Called when what this thread copied of a stage has arrived, which it may see and change before
  // the others do.
  __device__ __forceinline__ void finish(float4* copied, int /*stage*/) const {
    if (!is_raw()) return;
    for (int i = threadIdx.x; i < ROWS * kQuads; i += Shape::kThreads) {
      copied[i] = widen_quad_as(storage, copied[i]);
    }
  }
};

template <int OUTPUTS, int ROWS>
__device__ __forceinline__ void clear(float (&sums)[OUTPUTS][ROWS]) {
#pragma unroll
  for (int o = 0; o < OUTPUTS; ++o) {
#pragma unroll
    for (int r = 0; r < ROWS; ++r) sums[o][r] = 0.0f;
  }
}

// Adds the products of a stage that lies at `base`: of each thread, its outputs by its rows.
template <class W, int ROWS>
__device__ __forceinline__ void multiply_stage(
    const unsigned char* base, int thread_column, int thread_row,
    float (&sums)[LinearShape<W, ROWS>::kOutputs][LinearShape<W, ROWS>::kRows]) {
  using Shape = LinearShape<W, ROWS>;
  const auto* x = reinterpret_cast<const float4*>(base + Shape::kWeightBytes) +
                  thread_row * Shape::kRows * (Shape::kDepth / 4);
#pragma unroll(ROWS <= 4 ? 2 : 1)
  for (int chunk = 0; chunk < kStageRowBytes / 16; ++chunk) {
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
}

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
  const int thread_column = static_cast<int>(threadIdx.x) % Shape::kColumns;
  const int thread_row = static_cast<int>(threadIdx.x) / Shape::kColumns;
  const int bytes = piece_bytes(input);
  const int stages = range.stages;

  const auto begin_stage = [&](int stage) {
    unsigned char* const base = shared + stage % Shape::kStages * Shape::kStageBytes;
    const int64_t depth = static_cast<int64_t>(range.first_stage + stage) * Shape::kDepth;
    if (bytes == 8) {
      stage_rows<W, ROWS, 8>(base, rows_of_w, depth, input.depth, true);
    } else {
      stage_rows<W, ROWS, 16>(base, rows_of_w, depth, input.depth, bytes == 16);
    }
    rows_of_x.begin(reinterpret_cast<float4*>(base + Shape::kWeightBytes), stage);
  };

  clear(results);
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

    float sums[Shape::kOutputs][Shape::kRows];
    clear(sums);
    multiply_stage<W, ROWS>(shared + stage % Shape::kStages * Shape::kStageBytes, thread_column,
                            thread_row, sums);
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
  const StoredRows<W, ROWS> rows_of_x{range.x, input.x_stride, range.rows, range.first_stage,
                                      input.storage};
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
// 0 is for more than 4 million outputs, or, where the depth is cut into splits, counts these.
constexpr int kLinearGridY = 32768;

__device__ __forceinline__ int64_t linear_first_row(int rows) {
  return static_cast<int64_t>(blockIdx.x) * rows;
}
__device__ __forceinline__ int64_t linear_tile_index(int splits = 1) {
  return splits > 1 ? blockIdx.y : static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y;
}
__device__ __forceinline__ int linear_split(int splits) {
  return splits > 1 ? static_cast<int>(blockIdx.z) : 0;
}

// ---- splits of the depth ------------------------------------------------------------------------

// Where the products of splits meet: [splits, R, stride], the places of all tiles being side by
// side.
struct PartialProducts {
  float* data = nullptr;
  int64_t stride = 0;  // a multiple of 64
  // A word for each block of rows and each 64 of the stride.
  unsigned long long* tickets = nullptr;
};

// Those of a tile: product n of row r of split p is data[p * split_stride + r * stride + n].
struct TileSplits {
  float* data;
  int64_t split_stride;
  int64_t stride;
};

__device__ __forceinline__ TileSplits splits_of_tile(const PartialProducts& partials, int64_t rows,
                                                     int64_t first_row, int64_t first_output) {
  return {partials.data + first_row * partials.stride + first_output, rows * partials.stride,
          partials.stride};
}

// Writes one split's products of a tile, [rows][OUTPUTS + 1] in shared memory.
template <int THREADS, int OUTPUTS>
__device__ __forceinline__ void store_split(const TileSplits& tile_splits, int split, int rows,
                                            const float* products) {
  constexpr int kQuads = OUTPUTS / 4;
  float* const to = tile_splits.data + split * tile_splits.split_stride;
#pragma unroll 1
  for (int i = threadIdx.x; i < rows * kQuads; i += THREADS) {
    const int row = i / kQuads, n = i % kQuads * 4;
    store_vector(to + row * tile_splits.stride + n,
                 pack<float>(products + row * (OUTPUTS + 1) + n));
  }
}

// The sum of a row's four products from `from` on over all splits, from left to right; UNROLL of
// them are on their way together.
template <int UNROLL>
__device__ __forceinline__ float4 sum_of_splits(const float* from, int64_t split_stride,
                                                int splits) {
  float4 sum = *reinterpret_cast<const float4*>(from);
#pragma unroll UNROLL
  for (int split = 1; split < splits; ++split) {
    from += split_stride;
    const float4 more = *reinterpret_cast<const float4*>(from);
    sum = make_float4(sum.x + more.x, sum.y + more.y, sum.z + more.z, sum.w + more.w);
  }
  return sum;
}

// The products of a tile, as one block that had multiplied all splits would have them. Complete for
// all when it returns.
template <int THREADS, int OUTPUTS>
__device__ __forceinline__ void merge_splits(const TileSplits& tile_splits, int splits, int rows,
                                             float* products) {
  constexpr int kQuads = OUTPUTS / 4;
#pragma unroll 1
  for (int i = threadIdx.x; i < rows * kQuads; i += THREADS) {
    const int row = i / kQuads, n = i % kQuads * 4;
    const float4 sum = sum_of_splits<16>(tile_splits.data + row * tile_splits.stride + n,
                                         tile_splits.split_stride, splits);
    float* const to = products + row * (OUTPUTS + 1) + n;
    to[0] = sum.x;
    to[1] = sum.y;
    to[2] = sum.z;
    to[3] = sum.w;
  }
  __syncthreads();
}

__device__ __forceinline__ unsigned long long* ticket_of_tile(const PartialProducts& partials,
                                                              int64_t first_output) {
  return partials.tickets + blockIdx.x * (partials.stride / kBlockTile) + first_output / kBlockTile;
}

// Hands in one split's products, [rows][OUTPUTS + 1] in shared memory. True for the last block of a
// tile, which has those of the whole depth there afterwards.
template <int THREADS, int OUTPUTS>
__device__ __forceinline__ bool meet_splits(const PartialProducts& partials, int splits,
                                            int64_t all_rows, int64_t first_row,
                                            int64_t first_output, int rows, float* products) {
  const TileSplits tile_splits = splits_of_tile(partials, all_rows, first_row, first_output);
  store_split<THREADS, OUTPUTS>(tile_splits, linear_split(splits), rows, products);
  if (!is_last_block(ticket_of_tile(partials, first_output), splits)) return false;
  merge_splits<THREADS, OUTPUTS>(tile_splits, splits, rows, products);
  return true;
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

// What is added to a product: sum over k < rank of t[r,k] * up[k,n].
struct Adapter {
  const float* t = nullptr;  // [R, rank]
  const void* up = nullptr;  // [rank, N]
  int64_t up_stride = 0;
  int64_t rank = 0;
  Storage storage = Storage::kF32;  // of up

  __device__ __forceinline__ float add(float product, int64_t row, int64_t n) const {
#pragma unroll 1
    for (int64_t k = 0; k < rank; ++k) {
      const float factor = t[row * rank + k];
      if (factor != 0) product = fmaf(factor, load_as(storage, up, k * up_stride + n), product);
    }
    return product;
  }
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
  Adapter adapter;
  // Optional: where the plain products go first. All 128 of each tile are written. Without tickets
  // they are left there.
  PartialProducts partials;
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

// One output of a row, 0 from N on. `product` is that of W, `second` that of the second matrix.
template <class W>
__device__ __forceinline__ float finished(const LinearInput<W>& input, const LinearOutput& output,
                                          int64_t row, int64_t n, float product, float second) {
  if (n >= input.outputs) return 0.0f;
  product = output.adapter.add(product, row, n);
  float y = activate(output.activation, product + (output.bias != nullptr ? output.bias[n] : 0.0f));
  if (output.activation == Activation::kResidualSilu) y += input.x[row * input.x_stride + n];
  if (input.second != nullptr) {
    y *= second + (output.second_bias != nullptr ? output.second_bias[n] : 0.0f);
  }
  if (output.residual != nullptr) {
    y += load_as(output.storage, output.residual, row * output.residual_stride + n);
  }
  return y;
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
  int split;
};

// Stores what a block's products, [rows][OUTPUTS + 1] in shared memory, belong to. Of a pair of
// quantised matrices there are splits always: those of the two tiles that belong together.
template <int THREADS, int OUTPUTS, class W>
__device__ __forceinline__ void finish_tile(const LinearInput<W>& input, const LinearOutput& output,
                                            const TilePlace& place, int rows, float* products) {
  constexpr bool kHasHalf = OUTPUTS == kPairOutputs;  // a tile, of a pair
  const bool paired = input.second != nullptr;
  const int64_t first =
      paired ? place.first_output / kLinearOutputs * kLinearOutputs : place.first_output;
  if (output.partials.data != nullptr) {
    const auto splits_from = [&](int64_t begin) {
      return splits_of_tile(output.partials, input.rows, place.first_row, begin);
    };
    store_split<THREADS, OUTPUTS>(splits_from(place.first_output), place.split, rows, products);
    if (output.partials.tickets == nullptr) return;
    const int blocks = kHasHalf && paired ? 2 * input.splits : input.splits;
    if (!is_last_block(ticket_of_tile(output.partials, first), blocks)) return;
    if (paired) {
      merge_splits<THREADS, kLinearOutputs>(splits_from(first), input.splits, rows, products);
    } else {
      merge_splits<THREADS, OUTPUTS>(splits_from(first), input.splits, rows, products);
    }
  }
  const int per_row = paired ? kPairOutputs : OUTPUTS;
  const int pitch = (paired ? kLinearOutputs : OUTPUTS) + 1;
#pragma unroll 1
  for (int i = threadIdx.x; i < rows * per_row; i += THREADS) {
    const float* const product = products + i / per_row * pitch + i % per_row;
    const int64_t row = place.first_row + i / per_row;
    const int64_t n = (paired ? first / 2 : first) + i % per_row;
    if (n >= output.y_columns) continue;
    const float second = paired ? product[kPairOutputs] : 0.0f;
    store_as(output.storage, output.y, row * output.y_stride + n,
             finished(input, output, row, n, *product, second));
  }
}

// Bytes: W once for each block of ROWS rows that are there, x from the L2 cache for each block of
// outputs, y once; besides, 4 per product for each split of the depth, and as many read again.
// Grid: above.
template <class W, int ROWS>
__global__ void EXN_LINEAR_BOUNDS(W, ROWS)
    linear_kernel(LinearInput<W> input, LinearOutput output) {
  using Shape = LinearShape<W, ROWS>;
  EXN_DYN_SMEM(shared);
  __shared__ const W* rows_of_w[kLinearOutputs];
  __shared__ TilePlace place;  // registers are scarce while the tile is multiplied
  const bool paired = input.second != nullptr;
  const int split = linear_split(input.splits);
  const int64_t first_output = linear_tile_index(input.splits) * kLinearOutputs;
  const int64_t first_row = linear_first_row(ROWS);
  const int64_t row_end = rows_present(input);
  if (first_row >= row_end || first_output >= (paired ? 2 : 1) * input.outputs) return;
  if (threadIdx.x == 0) place = {first_row, first_output, split};
  find_weight_rows<W, ROWS>(input, first_output, rows_of_w);

  float results[Shape::kOutputs][Shape::kRows];
  const TileRange range = split_of_depth<W, ROWS>(input, first_row, row_end, split);
  linear_tile<W, ROWS>(input, rows_of_w, range, shared, results);
  float* const products = share_results<W, ROWS>(results, shared);

  finish_tile<Shape::kThreads, kLinearOutputs>(input, output, place, range.rows, products);
}

constexpr int kMergeLinearThreads = 128;

// Adds the splits that linear_kernel left, and finishes their outputs: four per thread. For more
// rows than the last blocks of a few tiles could add in time.
//
// Bytes: 4 per product and split, y once. Grid: x counts blocks of 512 outputs, y rows.
template <class W>
__global__ __launch_bounds__(kMergeLinearThreads) void merge_linear_kernel(LinearInput<W> input,
                                                                           LinearOutput output) {
  const int64_t n = 4 * (static_cast<int64_t>(blockIdx.x) * kMergeLinearThreads + threadIdx.x);
  const int64_t row = blockIdx.y;
  if (n >= output.y_columns || row >= rows_present(input)) return;
  const bool paired = input.second != nullptr;
  const int64_t place = paired ? n / kPairOutputs * kLinearOutputs + n % kPairOutputs : n;
  const auto merged = [&](int64_t at) {
    return sum_of_splits<4>(output.partials.data + row * output.partials.stride + at,
                            input.rows * output.partials.stride, input.splits);
  };
  const float4 first = merged(place);
  const float4 second = paired ? merged(place + kPairOutputs) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  const float y[4] = {finished(input, output, row, n, first.x, second.x),
                      finished(input, output, row, n + 1, first.y, second.y),
                      finished(input, output, row, n + 2, first.z, second.z),
                      finished(input, output, row, n + 3, first.w, second.w)};
  const int64_t at = row * output.y_stride + n;
  if (n + 4 <= output.y_columns) return store_quad_as(output.storage, output.y, at, y);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (n + i < output.y_columns) store_as(output.storage, output.y, at + i, y[i]);
  }
}

}  // namespace exn::cuda
