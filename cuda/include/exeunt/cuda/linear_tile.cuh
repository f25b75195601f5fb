// SPDX-License-Identifier: Apache-2.0
//
// A tile of y = W x: 128 outputs of up to 64 rows x, by one block. W and x pass through shared
// memory in stages of 128 bytes of each row of W, copied asynchronously while the stage before is
// computed. How a stage is multiplied is a shape's: FmaShape or MmaShape.
#pragma once

#include <type_traits>

#include "elements.cuh"
#include "linear_fma.cuh"
#include "linear_mma.cuh"
#include "reduce.cuh"
#include "storage.cuh"

namespace exn::cuda {

template <class W>
constexpr bool kOnTensorCores = std::is_same<W, __nv_bfloat16>::value;

// The fewest rows that a tile is made for: tensor cores take eight at once, and as long for one.
template <class W>
constexpr int kFewestRows = kOnTensorCores<W> ? 8 : 1;

template <class W, int ROWS>
using BaseShape = std::conditional_t<kOnTensorCores<W>, MmaShape<ROWS>, FmaShape<W, ROWS>>;

template <class W, int ROWS>
struct LinearShape : BaseShape<W, ROWS> {
  using Base = BaseShape<W, ROWS>;
  static constexpr int kResultBytes =
      ROWS * kResultPitch<kLinearOutputs> * static_cast<int>(sizeof(float));
  static constexpr int kStagesBytes = Base::kStages * Base::kStageBytes;
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
  int64_t outputs;      // N: rows of W, or entries of the list
  int64_t depth;        // D
  int64_t rows;         // R
  const int32_t* list;  // optional: rows of W to take
  int64_t vocabulary;   // rows of W; a list entry outside is not read
  // Of x: f32, or what the shape takes raw, if D is a multiple of a stage.
  Storage storage = Storage::kF32;
  bool is_rounded = false;  // to the type of W is x, though it is f32
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
    const int place = LinearShape<W, ROWS>::weight_place(output, piece * BYTES);
    stage_weights<BYTES>(reinterpret_cast<W*>(shared + place), row + column,
                         row == nullptr ? 0 : count, aligned);
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
  const int bytes = LinearShape<W, ROWS>::is_raw(input.storage) ? 2 : 4;
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

// The same where there is nothing to ask: all rows are there, aligned to 16 bytes, and so is the
// stage. Several addresses are read before the first is used: ptxas has a copy wait for reads of
// shared memory before it.
template <class W, int ROWS>
__device__ __forceinline__ void stage_whole_rows(unsigned char* shared, const W* const* rows_of_w,
                                                 int64_t depth) {
  constexpr int kPieces = kStageRowBytes / 16;
  constexpr int kStep = LinearShape<W, ROWS>::kThreads / kPieces;
  const int first = static_cast<int>(threadIdx.x) / kPieces;
  const int byte = static_cast<int>(threadIdx.x) % kPieces * 16;
  unsigned char* const to = shared + LinearShape<W, ROWS>::weight_place(first, byte);
#pragma unroll
  for (int i = 0; i < kLinearOutputs / kStep; i += kAddressesAtOnce<ROWS>) {
    const W* from[kAddressesAtOnce<ROWS>];
#pragma unroll
    for (int j = 0; j < kAddressesAtOnce<ROWS>; ++j)
      from[j] = rows_of_w[first + (i + j) * kStep] + depth + byte / static_cast<int>(sizeof(W));
#pragma unroll
    for (int j = 0; j < kAddressesAtOnce<ROWS>; ++j)
      __pipeline_memcpy_async(to + (i + j) * kStep * kStageRowBytes, from[j], 16);
  }
}

// The one or the other, of rows that consist of pieces of `bytes`.
template <class W, int ROWS>
__device__ __forceinline__ void stage_rows_of(unsigned char* shared, const W* const* rows_of_w,
                                              int64_t depth, int64_t end, int bytes,
                                              bool is_whole) {
  if (LinearShape<W, ROWS>::kOnTensorCores && is_whole) {
    stage_whole_rows<W, ROWS>(shared, rows_of_w, depth);
  } else if (bytes == 8) {
    stage_rows<W, ROWS, 8>(shared, rows_of_w, depth, end, true);
  } else {
    stage_rows<W, ROWS, 16>(shared, rows_of_w, depth, end, bytes == 16);
  }
}

// The products of the block's rows of W and of x. `rows_of_w` points to the 128 rows of W, null
// where there is none, and is complete (a barrier has passed). `rows_of_x` is the shape's
// StoredRows, or has the same members.
template <class W, int ROWS, class RowsOfX>
__device__ __forceinline__ void linear_tile(const LinearInput<W>& input, const W* const* rows_of_w,
                                            const TileRange& range, const RowsOfX& rows_of_x,
                                            unsigned char* shared,
                                            typename LinearShape<W, ROWS>::Results& results) {
  using Shape = LinearShape<W, ROWS>;
  const int bytes = piece_bytes(input);
  const int stages = range.stages;
  int whole_stages = 0;  // in which every row of W is there
  if constexpr (Shape::kOnTensorCores) {
    static_assert(Shape::kThreads == kLinearOutputs, "a thread for each row of W");
    if (__syncthreads_or(rows_of_w[threadIdx.x] == nullptr || bytes != 16 ? 1 : 0) == 0)
      whole_stages = static_cast<int>(input.depth / Shape::kDepth) - range.first_stage;
  }

  const auto base_of = [&](int stage) {
    return shared + stage % Shape::kStages * Shape::kStageBytes;
  };
  const auto inputs_of = [&](int stage) {
    return reinterpret_cast<float4*>(base_of(stage) + Shape::kWeightBytes);
  };
  const auto begin_stage = [&](int stage) {
    const int64_t depth = static_cast<int64_t>(range.first_stage + stage) * Shape::kDepth;
    stage_rows_of<W, ROWS>(base_of(stage), rows_of_w, depth, input.depth, bytes,
                           stage < whole_stages);
    rows_of_x.begin(inputs_of(stage), stage);
  };

  if constexpr (Shape::kOnTensorCores) Shape::clear_absent(shared, range.rows);
#pragma unroll 1
  for (bool again = false;; again = true) {
#pragma unroll 1
    for (int stage = 0; stage < Shape::kStages - 1; ++stage) {
      if (stage < stages) begin_stage(stage);
      __pipeline_commit();
    }
    if (!again) rows_of_x.prepare();
    Shape::clear_results(results);
#pragma unroll 1
    for (int stage = 0; stage < stages; ++stage) {
      __pipeline_wait_prior(Shape::kStages - 2);
      rows_of_x.finish(inputs_of(stage), stage, again);
      // This stage is there for all, and all have left the one that is overwritten next.
      __syncthreads();
      if (stage + Shape::kStages - 1 < stages) begin_stage(stage + Shape::kStages - 1);
      __pipeline_commit();  // also when empty: the wait counts groups
      Shape::add_stage(base_of(stage), rows_of_x.is_rounded(), again, results);
    }
    __pipeline_wait_prior(0);
    // `shared` is free for the caller, or for another turn.
    if constexpr (Shape::kOnTensorCores) {
      bool is_odd = false;
      Shape::for_each(results, [&](int, int, float result) { is_odd |= result != result; });
      if (__syncthreads_or(is_odd && !again && !rows_of_x.is_rounded() ? 1 : 0) == 0) break;
    } else {
      __syncthreads();
      break;
    }
  }
}

template <class W, int ROWS>
__device__ __forceinline__ void linear_tile(const LinearInput<W>& input, const W* const* rows_of_w,
                                            const TileRange& range, unsigned char* shared,
                                            typename LinearShape<W, ROWS>::Results& results) {
  using Rows = typename LinearShape<W, ROWS>::StoredRows;
  const Rows rows_of_x(
      {range.x, input.x_stride, range.rows, range.first_stage, input.storage, input.is_rounded});
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

// Hands the results on through shared memory, [ROWS][kResultPitch<kLinearOutputs>], so that what is done with each
// need not be spelled out for every register. Complete for all when it returns.
template <class W, int ROWS>
__device__ __forceinline__ float* share_results(
    const typename LinearShape<W, ROWS>::Results& results, unsigned char* shared) {
  float* const table = reinterpret_cast<float*>(shared);
  LinearShape<W, ROWS>::for_each(results, [&](int row, int output, float result) {
    table[row * kResultPitch<kLinearOutputs> + output] = result;
  });
  __syncthreads();
  return table;
}

}  // namespace exn::cuda
