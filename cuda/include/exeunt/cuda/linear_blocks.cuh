// SPDX-License-Identifier: Apache-2.0
//
// y = W x where W is made of quantised blocks, for up to eight rows x at a time.
//
// A block of threads computes 64 outputs in stages of 256 elements, each of its four warps 16 of
// them. A warp copies its rows' bytes of a stage to shared memory, as they are, and unpacks them to
// signed bytes; x is rounded to integers of 16 bits there (block_inputs.cuh), as it is on the CPU.
// Tensor cores multiply both exactly, whose eight columns are the rows of x: a row's result has the
// same bits in every batch. What scales belong to is added up in f32, group by group.
#pragma once

#include "block_products.cuh"
#include "linear.cuh"

namespace exn::cuda {

// How rows of x come to a tile of blocks, as LinearShape has it.
struct BlockInputShape {
  using Element = float;
  static constexpr bool kOnTensorCores = true;
  static constexpr int kThreads = kBlockTileThreads;
  static constexpr int kDepth = kBlockDepth;
  static constexpr int kStages = 2;  // of an AnyBlockTile

  static __device__ __forceinline__ int place(int row, int quad) { return input_place(row, quad); }
  static __device__ __forceinline__ void put(float4* x, int row, int quad, const float4& v,
                                             bool /*is_rounded*/, bool /*again*/) {
    x[place(row, quad)] = v;
  }
};

// Dynamic shared memory of a tile: x as it is multiplied, of this stage and of the next, then stages.
constexpr int kBlockInputsBytes = 2 * static_cast<int>(sizeof(BlockInputs));

// A tile whose format is known when it is compiled.
template <Blocks FORMAT>
struct BlockTileShape {
  static constexpr BlockStage kStage = block_stage(FORMAT);
  static constexpr int kStages = 3 * kStage.all_bytes() <= 64 * 1024 ? 3 : 2;
  static constexpr int kSharedBytes = kBlockInputsBytes + kStages * kStage.all_bytes();
  static_assert(kBlockRows * kResultPitch<kLinearOutputs> * 4 <= kSharedBytes,
                "results of a pair fit there");

  __device__ __forceinline__ BlockStage stage() const { return block_stage(FORMAT); }
  template <class F>
  __device__ __forceinline__ void with_format(F&& f) const {
    f(BlockFormat<FORMAT>{});
  }
};

// One of any format.
struct AnyBlockTile {
  static constexpr int kStages = BlockInputShape::kStages;

  Blocks format;
  const BlockStage* form;  // of the format, in shared memory: registers are scarce

  static constexpr int shared_bytes(Blocks format) {
    return kBlockInputsBytes + kStages * block_stage(format).all_bytes();
  }
  __device__ __forceinline__ const BlockStage& stage() const { return *form; }
  template <class F>
  __device__ __forceinline__ void with_format(F&& f) const {
    with_blocks(format, f);
  }
};

// ---- weights on their way -----------------------------------------------------------------------

// Begins to copy 16 aligned bytes; what is not of those between `begin` and `end` becomes zeros.
__device__ __forceinline__ void stage_piece(uint8_t* shared, const uint8_t* from,
                                            const uint8_t* begin, const uint8_t* end) {
  if (from >= begin && end - from >= 16) {
    __pipeline_memcpy_async(shared, from, 16);
    return;
  }
#pragma unroll 1
  for (int i = 0; i < 16; ++i)
    shared[i] = from + i >= begin && from + i < end ? from[i] : uint8_t{0};
}

// A lane copies so many pieces of a row at most.
constexpr int kMostTurns = 5;
static_assert((most_block_bytes(kBlockDepth) + 15 + 15) / 16 <= 4 * kMostTurns, "of Q8_0");

// Begins to copy a lane's share of `bytes` of its rows: of the pieces that enclose them t, t + 4 and so
// on. What there is not becomes zeros.
__device__ __forceinline__ void begin_some_rows(const BlockStage& form,
                                                const uint8_t* const (&rows)[kLaneRows],
                                                int64_t place, int bytes, uint8_t* to) {
#pragma unroll 1
  for (int o = 0; o < kLaneRows; ++o) {
    const uint8_t* const row = o == 0 ? rows[0] : rows[1];
    const uint8_t* const from = row == nullptr ? nullptr : row + place;
    const uint8_t* const end = row == nullptr ? nullptr : from + bytes;
    const uint8_t* piece = from - low_bits(from);
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x) % 4; i < form.pieces; i += 4)
      stage_piece(to + o * 8 * form.pitch + i * 16, piece + i * 16, from, end);
  }
}

// The same where all lanes have rows, and what is copied besides is theirs, too.
__device__ __forceinline__ void begin_whole_rows(const BlockStage& form,
                                                 const uint8_t* const (&rows)[kLaneRows],
                                                 int64_t place, uint8_t* to) {
  const int t16 = static_cast<int>(threadIdx.x) % 4 * 16;
#pragma unroll
  for (int o = 0; o < kLaneRows; ++o) {
    const uint8_t* const from = rows[o] + place;
    const int before = form.row_bytes % 16 == 0 ? 0 : low_bits(from);
    const uint8_t* const piece = from - before + t16;
    uint8_t* const row = to + o * 8 * form.pitch + t16;
#pragma unroll
    for (int i = 0; i < kMostTurns; ++i) {
      const int end = form.row_bytes - i * 64;
      if (end < 64 && t16 >= before + end) break;
      __pipeline_memcpy_async(row + i * 64, piece + i * 64, 16);
    }
  }
}

// Moves a warp's rows, of which a lane's begin at[o] bytes late, to where aligned ones begin.
__device__ __forceinline__ void align_block_rows(const BlockStage& form, const int (&at)[kLaneRows],
                                                 uint8_t* rows) {
  constexpr int kMost = (most_block_bytes(kBlockDepth) / 4 + kWarp - 1) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll 1
  for (int i = 0; i < 16; ++i) {
    const int late = __shfl_sync(kFullWarp, i < 8 ? at[0] : at[1], i % 8 * 4);
    if (late == 0) continue;
    uint8_t* const row = rows + i * form.pitch;
    unsigned words[kMost];
#pragma unroll
    for (int k = 0; k < kMost; ++k) {
      const int byte = (lane + k * kWarp) * 4;
      words[k] = byte < form.row_bytes ? loose_word(row, late + byte) : 0;
    }
    __syncwarp();
#pragma unroll
    for (int k = 0; k < kMost; ++k) {
      const int byte = (lane + k * kWarp) * 4;
      if (byte < form.row_bytes) *reinterpret_cast<unsigned*>(row + byte) = words[k];
    }
  }
  __syncwarp();
}

// ---- a tile -------------------------------------------------------------------------------------

// As StoredRows, for a tile of blocks. Each thread rounds what it has copied.
struct StoredBlockRows {
  static constexpr bool kShares = false;

  const float* x;  // what the first stage multiplies of the first row
  int64_t stride;
  int rows;

  __device__ __forceinline__ int count() const { return rows; }

  // Of a stage there are `columns`.
  __device__ __forceinline__ void begin(float4* to, int stage, int columns) const {
    const int quad = static_cast<int>(threadIdx.x) % kWarp / 4 * 8 + threadIdx.x % 4;
    if (quad * 4 >= columns) return;
#pragma unroll 1
    for (int row = static_cast<int>(threadIdx.x) / kWarp; row < rows;
         row += kBlockTileThreads / kWarp) {
      const float* const from = x + row * stride + stage * kBlockDepth + quad * 4;
      __pipeline_memcpy_async(to + input_place(row, quad), from, 16);
      __pipeline_memcpy_async(to + input_place(row, quad + 4), from + 16, 16);
    }
  }

  __device__ __forceinline__ void prepare() const {}
  __device__ __forceinline__ void finish(float4* /*copied*/, int /*stage*/) const {}
};

// A lane's rows of W, null where there is none, of which a tile multiplies a part.
struct LaneRows {
  const uint8_t* rows[kLaneRows];
  int first_stage;
  int columns;  // from there on; the last stage may have fewer than 256
  bool is_late;
  // Stages of which all of 256 columns, and nothing but bytes of rows, are copied.
  int whole_begin;
  int whole_end;

  __device__ __forceinline__ LaneRows(const BlockStage& form, const uint8_t* const* rows_of_w,
                                      const TileRange& range, int64_t depth)
      : rows{rows_of_w[block_output(0)], rows_of_w[block_output(1)]},
        first_stage(range.first_stage) {
    const int64_t first_column = static_cast<int64_t>(first_stage) * kBlockDepth;
    columns = tile_count(first_column, depth, INT_MAX);
    is_late = __any_sync(kFullWarp, (low_bits(rows[0]) | low_bits(rows[1])) != 0) != 0;
    const bool lacks_some = __any_sync(kFullWarp, rows[0] == nullptr || rows[1] == nullptr) != 0;
    const bool encloses = is_late || moves(form);
    whole_begin = lacks_some ? INT_MAX : encloses && first_stage == 0 ? 1 : 0;
    whole_end = columns / kBlockDepth - (encloses ? 1 : 0);
  }

  // Whether stages begin at other places of 16 bytes than rows do.
  static __device__ __forceinline__ bool moves(const BlockStage& form) {
    return form.row_bytes % 16 != 0;
  }
  __device__ __forceinline__ int count(int stage) const {
    const int left = columns - stage * kBlockDepth;
    return left < kBlockDepth ? left : kBlockDepth;
  }
  // Bytes of the first piece of a stage before row o.
  __device__ __forceinline__ int late(const BlockStage& form, int o, int stage) const {
    const int place = (first_stage + stage) % 16 * (form.row_bytes % 16);
    return rows[o] == nullptr ? 0 : (low_bits(rows[o]) + place) & 15;
  }
  __device__ __forceinline__ void begin(const BlockStage& form, int stage, uint8_t* to) const {
    const int64_t place = static_cast<int64_t>(first_stage + stage) * form.row_bytes;
    if (stage >= whole_begin && stage < whole_end) {
      begin_whole_rows(form, rows, place, to);
    } else {
      begin_some_rows(form, rows, place, count(stage) / form.elements * form.bytes, to);
    }
  }
};

// results[2 o + i] = <row of W for output block_output(o), row 2 t + i of x>, for lane 4 g + t of a
// warp. `rows_of_w` points to the tile's rows of W, null where there is none, and is complete (a
// barrier has passed). `tile` is a BlockTileShape or an AnyBlockTile, `rows_of_x` a StoredBlockRows,
// or has the same members.
template <class Tile, class RowsOfX>
__device__ __forceinline__ void linear_blocks_tile(const Tile& tile, int64_t depth,
                                                   const uint8_t* const* rows_of_w,
                                                   const TileRange& range, const RowsOfX& rows_of_x,
                                                   unsigned char* shared, BlockResults& results) {
  constexpr int kStages = Tile::kStages;
  const BlockStage& form = tile.stage();
  const LaneRows rows(form, rows_of_w, range, depth);
  auto* const inputs = reinterpret_cast<BlockInputs*>(shared);
  unsigned char* const buffers = shared + kBlockInputsBytes;
  const auto after = [&](int buffer) {
    return buffer == (kStages - 1) * form.all_bytes() ? 0 : buffer + form.all_bytes();
  };
  const auto x_of = [&](int buffer) {
    return reinterpret_cast<float4*>(buffers + buffer + form.weight_bytes());
  };
#pragma unroll
  for (float& result : results) result = 0.0f;
  clear_absent_inputs(inputs[0], rows_of_x.count());
  clear_absent_inputs(inputs[1], rows_of_x.count());
  int next = 0, now = 0;  // buffers
#pragma unroll 1
  for (int stage = 1 - kStages; stage < range.stages; ++stage) {
    BlockInputs& of_x = inputs[stage & 1];
    if (stage >= 0) {
      __pipeline_wait_prior(kStages - 2);
      rows_of_x.finish(x_of(now), stage);
      if constexpr (RowsOfX::kShares) __syncthreads();
      round_inputs(x_of(now), rows_of_x.count(), rows.count(stage), form.sums, of_x);
    }
    // This stage is there for all, and all have left the one that is overwritten next.
    __syncthreads();
    if (const int last = stage + kStages - 1; last < range.stages) {
      rows.begin(form, last, buffers + next + block_output(0) * form.pitch);
      rows_of_x.begin(x_of(next), last, rows.count(last));
    }
    __pipeline_commit();  // also when empty: the wait counts groups
    next = after(next);
    if (stage == -1) rows_of_x.prepare();
    if (stage < 0) continue;

    unsigned char* const base = buffers + now;
    now = after(now);
    const int at[kLaneRows] = {rows.late(form, 0, stage), rows.late(form, 1, stage)};
    if (rows.is_late && !LaneRows::moves(form))
      align_block_rows(form, at, base + static_cast<int>(threadIdx.x) / kWarp * 16 * form.pitch);
    tile.with_format([&](auto format) {
      add_stage<decltype(format)::value>(base + block_output(0) * form.pitch, at, of_x, results);
    });
  }
  __pipeline_wait_prior(0);
  __syncthreads();  // `shared` is free for the caller
}

// The same of stored rows.
template <Blocks FORMAT>
__device__ __forceinline__ void linear_blocks_tile(const LinearInput<uint8_t>& input,
                                                   const uint8_t* const* rows_of_w,
                                                   const TileRange& range, unsigned char* shared,
                                                   BlockResults& results) {
  const int64_t first_column = static_cast<int64_t>(range.first_stage) * kBlockDepth;
  const StoredBlockRows rows_of_x = {static_cast<const float*>(range.x) + first_column,
                                     input.x_stride, range.rows};
  linear_blocks_tile(BlockTileShape<FORMAT>(), input.depth, rows_of_w, range, rows_of_x, shared,
                     results);
}

// As split_of_depth(), in stages of blocks.
__device__ __forceinline__ TileRange split_of_block_depth(const LinearInput<uint8_t>& input,
                                                          int64_t first_row, int64_t row_end,
                                                          int split) {
  const int64_t stages = (input.depth + kBlockDepth - 1) / kBlockDepth;
  const auto first_stage = static_cast<int>(stages * split / input.splits);
  return {input.x + first_row * input.x_stride, tile_count(first_row, row_end, kBlockRows),
          first_stage, static_cast<int>(stages * (split + 1) / input.splits) - first_stage};
}

// Fills `rows_of_w` for a tile that begins at output `first`; complete for all when it returns.
__device__ __forceinline__ void find_block_rows(const LinearInput<uint8_t>& input, int64_t first,
                                                const uint8_t** rows_of_w) {
  if (threadIdx.x < kBlockTile) {
    const int64_t row = weight_row(input, first + threadIdx.x);
    rows_of_w[threadIdx.x] = row < 0 ? nullptr : input.weight + row * input.weight_stride;
  }
  __syncthreads();
}

// As share_results(): [kBlockRows][kResultPitch<kBlockTile>].
__device__ __forceinline__ float* share_block_results(const BlockResults& results,
                                                      unsigned char* shared) {
  auto* const table = reinterpret_cast<float*>(shared);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = static_cast<int>(threadIdx.x) % 4 * 2 + i % 2;
    table[row * kResultPitch<kBlockTile> + block_output(i / 2)] = results[i];
  }
  __syncthreads();
  return table;
}

#define EXN_BLOCK_BOUNDS __launch_bounds__(kBlockTileThreads, 3)

// ---- a layer ------------------------------------------------------------------------------------

// Bytes: W once for each block of 8 rows (where rows are not aligned, a piece of 16 bytes more of
// each row and stage comes from the L2 cache), x from the L2 cache for each block of outputs, y
// once; besides, 4 per product for each split of the depth, as there always are of a second matrix,
// and as many read again. Grid: that of linear_kernel, with tiles of 64 outputs.
template <Blocks FORMAT>
__global__ void EXN_BLOCK_BOUNDS linear_blocks_kernel(LinearInput<uint8_t> input,
                                                      LinearOutput output) {
  EXN_DYN_SMEM(shared);
  __shared__ const uint8_t* rows_of_w[kBlockTile];
  __shared__ TilePlace place;
  const int split = linear_split(input.splits);
  const int64_t tile = linear_tile_index(input.splits) * input.tile_step + input.first_tile;
  int64_t first_output = tile * kBlockTile;
  const int64_t first_row = linear_first_row(kBlockRows);
  if (threadIdx.x == 0) place = {first_row, first_output, split};
  if (input.second != nullptr) {
    first_output = tile / 2 * kBlockTile;
    if (tile % 2 == 1) {
      input.weight = input.second;
      input.weight_stride = input.second_stride;
    }
  }
  const int64_t row_end = rows_present(input);
  if (first_row >= row_end || first_output >= input.outputs) return;
  find_block_rows(input, first_output, rows_of_w);

  const TileRange range = split_of_block_depth(input, first_row, row_end, split);
  BlockResults results;
  linear_blocks_tile<FORMAT>(input, rows_of_w, range, shared, results);
  float* const products = share_block_results(results, shared);
  finish_tile<kBlockTileThreads, kBlockTile>(input, output, place, range.rows, products);
}

}  // namespace exn::cuda
