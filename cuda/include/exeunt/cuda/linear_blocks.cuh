// SPDX-License-Identifier: Apache-2.0
//
// y = W x where W is made of quantised blocks, for a few rows x at a time; x stays f32.
//
// A block of threads computes 64 outputs for ROWS rows, in stages of 256 elements. The bytes of a
// stage come to shared memory as they are, in the pieces of 16 aligned bytes that enclose them:
// rows of blocks are aligned to nothing. Four lanes share a row of W, each with 64 elements of a
// stage, and two rows each. Every lane adds its products from left to right, the four sums are
// added in pairs, whatever ROWS is: a row's result has the same bits in every batch.
//
// Elements are exact or rounded once, as blocks.cuh has them. Unpacking one takes three or four
// instructions, its product one for each row: with one row, formats of four bits keep an H100's
// schedulers about as busy as its memory; other GPUs have more time for a byte. From about four
// rows on the FMA pipe is the limit.
#pragma once

#include "blocks.cuh"
#include "linear.cuh"

namespace exn::cuda {

constexpr int kBlockTileThreads = 128;
constexpr int kBlockLanes = 4;    // that share a row of W
constexpr int kBlockOutputs = 2;  // of a lane

// Of x in shared memory, in floats: four more for each 32 keep the lanes off one another's banks.
constexpr int kBlockInputPitch = kBlockDepth / 32 * 36;

// Infinities become NaN: against some q they would vanish, or remain what they are.
__device__ __forceinline__ float4 without_infinities(const float4& v) {
  return make_float4(fmaf(v.x, 0.0f, v.x), fmaf(v.y, 0.0f, v.y), fmaf(v.z, 0.0f, v.z),
                     fmaf(v.w, 0.0f, v.w));
}

// How rows of x come to a tile of blocks, whatever their format: as LinearShape has it.
template <int ROWS>
struct BlockInputShape {
  using Element = float;
  static constexpr bool kOnTensorCores = false;
  static constexpr int kThreads = kBlockTileThreads;
  static constexpr int kDepth = kBlockDepth;
  static constexpr int kStages = ROWS == 1 ? 3 : 2;  // of an AnyBlockTile

  static __device__ __forceinline__ int place(int row, int quad) {
    return row * (kBlockInputPitch / 4) + quad / 8 * 9 + quad % 8;
  }

  static __device__ __forceinline__ void put(float4* x, int row, int quad, const float4& v,
                                             bool /*is_rounded*/, bool /*again*/) {
    x[place(row, quad)] = without_infinities(v);
  }
};

// How a stage of W lies in shared memory.
struct BlockStage {
  int elements;  // of a block
  int bytes;     // of a block
  int row_bytes;
  int pieces;  // of 16 bytes that may enclose those of a row
  int pitch;   // between rows: an odd number of pieces, so that they lie in different banks

  // A piece's row; exact for the few there are.
  constexpr __host__ __device__ int row_of(int piece) const {
    return piece * ((65536 + pieces - 1) / pieces) >> 16;
  }
  constexpr __host__ __device__ int weight_bytes() const { return kBlockTile * pitch; }
  constexpr __host__ __device__ int all_bytes(int rows) const {
    return weight_bytes() + rows * kBlockInputPitch * static_cast<int>(sizeof(float));
  }
};

constexpr __host__ __device__ BlockStage block_stage(Blocks format) {
  const int elements = block_elements(format), bytes = block_bytes(format);
  const int row_bytes = kBlockDepth / elements * bytes;
  const int pieces = (row_bytes + 15 + 15) / 16;
  return {elements, bytes, row_bytes, pieces, (pieces | 1) * 16};
}
static_assert(kBlockTile * (8 * 34 + 30) / 16 * 19 < 65536, "row_of() is exact");

// A tile whose format is known when it is compiled.
template <Blocks FORMAT, int ROWS>
struct BlockTileShape {
  static constexpr BlockStage kStage = block_stage(FORMAT);
  static constexpr int kStages = 3 * kStage.all_bytes(ROWS) <= 64 * 1024 ? 3 : 2;
  static constexpr int kSharedBytes = kStages * kStage.all_bytes(ROWS);
  static_assert(ROWS * kResultPitch<kLinearOutputs> * 4 <= kSharedBytes,
                "results of a pair fit there");

  __device__ __forceinline__ BlockStage stage() const { return block_stage(FORMAT); }
  template <class F>
  __device__ __forceinline__ void with_format(F&& f) const {
    f(BlockFormat<FORMAT>{});
  }
};

// One of any format.
template <int ROWS>
struct AnyBlockTile {
  static constexpr int kStages = BlockInputShape<ROWS>::kStages;

  Blocks format;
  const BlockStage* form;  // of the format, in shared memory: registers are scarce

  static constexpr int shared_bytes(Blocks format) {
    return kStages * block_stage(format).all_bytes(ROWS);
  }
  __device__ __forceinline__ const BlockStage& stage() const { return *form; }
  template <class F>
  __device__ __forceinline__ void with_format(F&& f) const {
    with_blocks(format, f);
  }
};

// The memory that pieces of W may be read from.
struct BlockBounds {
  const uint8_t* begin;
  const uint8_t* end;
};

__device__ __forceinline__ BlockBounds bounds_of(const LinearInput<uint8_t>& input, Blocks format) {
  const int64_t row_bytes = input.depth / block_elements(format) * block_bytes(format);
  return {input.weight, input.weight + (input.vocabulary - 1) * input.weight_stride + row_bytes};
}

__device__ __forceinline__ int low_bits(const uint8_t* p) {
  return static_cast<int>(reinterpret_cast<uintptr_t>(p) & 15u);
}

// Begins to copy 16 aligned bytes; what lies outside becomes zeros.
__device__ __forceinline__ void stage_piece(uint8_t* shared, const uint8_t* from,
                                            const BlockBounds& bounds) {
  if (from >= bounds.begin && bounds.end - from >= 16) {
    __pipeline_memcpy_async(shared, from, 16);
    return;
  }
#pragma unroll 1
  for (int i = 0; i < 16; ++i) {
    shared[i] = from + i >= bounds.begin && from + i < bounds.end ? from[i] : uint8_t{0};
  }
}

// ---- a lane's elements --------------------------------------------------------------------------

// N words from a byte of shared memory on, `base` aligned. Not a word is touched that has no byte
// of them.
template <int N>
__device__ __forceinline__ void words_at(const uint8_t* base, int at, unsigned (&out)[N]) {
  const auto* const words = reinterpret_cast<const unsigned*>(base + (at & ~3));
  const unsigned shift = static_cast<unsigned>(at & 3) * 8;
  unsigned low = words[0];
#pragma unroll
  for (int i = 0; i < N; ++i) {
    unsigned high = 0;
    if (i + 1 < N || shift != 0) high = words[i + 1];
    out[i] = __funnelshift_r(low, high, shift);
    low = high;
  }
}

__device__ __forceinline__ float float_of_half(unsigned bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}
__device__ __forceinline__ float half_of_bytes(const uint8_t* p) {
  return float_of_half(p[0] | static_cast<unsigned>(p[1]) << 8);
}

// 32 elements of a row: two runs of 16.
struct BlockUnit {
  unsigned quants[8];  // bytes q + 128, in the order of elements, where q are those of the format
  BlockScale scales[2];
};

// The middle of the q that a format without a shift has.
constexpr __device__ int middle_of(Blocks format) {
  return is_shifted(format) ? 0 : format == Blocks::kQ4_0 ? 8 : format == Blocks::kQ5_0 ? 16 : 32;
}

// Where in a stage the two runs of a lane's unit 0 or 1 begin.
template <Blocks FORMAT>
__device__ __forceinline__ int first_element(int lane, int unit, int run) {
  if constexpr (FORMAT == Blocks::kQ6_K) {
    return lane / 2 * 128 + lane % 2 * 32 + run * 64 + unit * 16;
  } else if constexpr (block_elements(FORMAT) == 256) {
    return lane * 64 + run * 32 + unit * 16;
  } else {
    return lane * 64 + unit * 32 + run * 16;
  }
}

// As six_bits() has them, of both runs of a lane.
__device__ __forceinline__ void group_scales(const uint8_t* base, int at, int lane,
                                             BlockScale (&scales)[2]) {
  unsigned head[4];
  words_at(base, at, head);
  unsigned s = head[1] & 0x3f3f3f3fu, t = head[2] & 0x3f3f3f3fu;
  if (lane >= 2) {
    s = (head[3] & 0x0f0f0f0fu) | (head[1] >> 2 & 0x30303030u);
    t = (head[3] >> 4 & 0x0f0f0f0fu) | (head[2] >> 2 & 0x30303030u);
  }
  const float d = float_of_half(head[0] & 0xffffu), dmin = float_of_half(head[0] >> 16);
#pragma unroll
  for (int run = 0; run < 2; ++run) {
    const int place = lane % 2 * 16 + run * 8;
    scales[run] = {d * static_cast<float>(s >> place & 63u),
                   -(dmin * static_cast<float>(t >> place & 63u))};
  }
}

// Low and high halves of the bytes of a unit, and above each the bits that `more` has for it.
template <class F>
__device__ __forceinline__ void spread_halves(const unsigned (&raw)[4], BlockUnit& unit, F&& more) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    unit.quants[i] = (raw[i] & 0x0f0f0f0fu) | 0x80808080u | more(0, i);
    unit.quants[4 + i] = (raw[i] >> 4 & 0x0f0f0f0fu) | 0x80808080u | more(1, i);
  }
}

// Unit `index` of a lane, of a row whose stage begins at byte `at`. Of Q4_K and Q5_K the scales
// are there already.
template <Blocks FORMAT>
__device__ __forceinline__ void read_unit(const uint8_t* base, int at, int lane, int index,
                                          BlockUnit& unit) {
  unsigned raw[4];
  if constexpr (FORMAT == Blocks::kQ6_K) {
    const int half = lane / 2, pair = lane % 2;
    unsigned two[4];
    words_at(base, at + half * 64 + pair * 32 + index * 16, raw);
    words_at(base, at + 128 + half * 32 + index * 16, two);
    spread_halves(raw, unit, [&](int run, int i) {
      return (two[i] >> (pair * 2 + run * 4) & 0x03030303u) << 4;
    });
    const uint8_t* const s = base + at + 192 + half * 8 + pair * 2 + index;
    const float d = half_of_bytes(base + at + 208);
    unit.scales[0] = {d * static_cast<float>(static_cast<int8_t>(s[0])), 0.0f};
    unit.scales[1] = {d * static_cast<float>(static_cast<int8_t>(s[4])), 0.0f};
  } else if constexpr (FORMAT == Blocks::kQ5_K) {
    unsigned fifth[4];
    words_at(base, at + 48 + lane * 32 + index * 16, raw);
    words_at(base, at + 16 + index * 16, fifth);
    spread_halves(raw, unit, [&](int run, int i) {
      return (fifth[i] >> (lane * 2 + run) & 0x01010101u) << 4;
    });
  } else if constexpr (FORMAT == Blocks::kQ4_K) {
    words_at(base, at + 16 + lane * 32 + index * 16, raw);
    spread_halves(raw, unit, [](int, int) { return 0u; });
  } else {
    const int block = at + (lane * 2 + index) * block_bytes(FORMAT);
    if constexpr (FORMAT == Blocks::kQ8_0) {
      words_at(base, block + 2, unit.quants);
#pragma unroll
      for (int i = 0; i < 8; ++i) unit.quants[i] ^= 0x80808080u;
      unit.scales[0] = {half_of_bytes(base + block), 0.0f};
    } else {
      constexpr bool kFive = FORMAT == Blocks::kQ5_0 || FORMAT == Blocks::kQ5_1;
      constexpr int kHead = (is_shifted(FORMAT) ? 1 : 0) + (kFive ? 1 : 0);  // whole words of it
      unsigned words[kHead + 4];
      words_at(base, block + (is_shifted(FORMAT) ? 0 : 2), words);
#pragma unroll
      for (int i = 0; i < 4; ++i) raw[i] = words[kHead + i];
      const unsigned fifth = kFive ? words[kHead - (kFive ? 1 : 0)] : 0;
      spread_halves(raw, unit, [&](int run, int i) {
        return kFive ? fifth_bits(fifth >> (run * 16 + i * 4)) : 0u;
      });
      if constexpr (is_shifted(FORMAT)) {
        unit.scales[0] = {float_of_half(words[0] & 0xffffu), float_of_half(words[0] >> 16)};
      } else {
        unit.scales[0] = {half_of_bytes(base + block), 0.0f};
      }
    }
    unit.scales[1] = unit.scales[0];
  }
}

// Four elements of one word of a unit. A byte becomes a float by its place in the mantissa of 1,
// or, where it takes all eight bits, of 2^23. What a format without a shift subtracts is exact, so
// that the element is.
template <Blocks FORMAT>
__device__ __forceinline__ void unit_elements(unsigned quants, const BlockScale& common,
                                              float (&w)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (FORMAT == Blocks::kQ8_0) {
      const unsigned bits = __byte_perm(quants, 0x4b000000u, 0x7440u | static_cast<unsigned>(i));
      w[i] = common.scale * (__uint_as_float(bits) - 8388736.0f);
    } else {
      const unsigned bits =
          __byte_perm(quants, 0x3f000000u, 0x7044u | static_cast<unsigned>(i) << 8);
      const float one = __uint_as_float(bits);  // 1 + q / 128
      constexpr auto kMiddle = static_cast<float>(128 + middle_of(FORMAT));
      w[i] = is_shifted(FORMAT) ? fmaf(one - 1.0f, 128.0f * common.scale, common.shift)
                                : fmaf(one, 128.0f * common.scale, -kMiddle * common.scale);
    }
  }
}

// ---- a tile -------------------------------------------------------------------------------------

// As StoredRows, for a tile of blocks.
template <int ROWS>
struct StoredBlockRows {
  const float* x;  // what the first stage multiplies of the first row
  int64_t stride;
  int64_t depth;  // from there on
  int rows;

  template <class F>
  __device__ __forceinline__ void for_each_quad(int stage, F&& f) const {
    constexpr int kQuads = kBlockDepth / 4;
    const int count = tile_count(static_cast<int64_t>(stage) * kBlockDepth, depth, kBlockDepth);
#pragma unroll 2
    for (int i = threadIdx.x; i < ROWS * kQuads; i += kBlockTileThreads) {
      const int row = i / kQuads, quad = i % kQuads;
      if (quad * 4 < count) f(row, quad);
    }
  }

  __device__ __forceinline__ void begin(float4* to, int stage) const {
    const float* const from = x + static_cast<int64_t>(stage) * kBlockDepth;
    for_each_quad(stage, [&](int row, int quad) {
      // Rows past the end are copies of the last one: their results are not used.
      const int64_t source = Min::apply(row, rows - 1);
      __pipeline_memcpy_async(to + BlockInputShape<ROWS>::place(row, quad),
                              from + source * stride + quad * 4, 16);
    });
  }

  __device__ __forceinline__ void prepare() const {}

  __device__ __forceinline__ void finish(float4* copied, int stage) const {
    for_each_quad(stage, [&](int row, int quad) {
      float4& v = copied[BlockInputShape<ROWS>::place(row, quad)];
      const float zero = fmaf(v.x, 0.0f, v.y * 0.0f) + fmaf(v.z, 0.0f, v.w * 0.0f);
      if (zero != 0.0f) v = without_infinities(v);
    });
  }
};

// Output `o` of a thread, in its tile.
__device__ __forceinline__ int block_output(int o) {
  const int thread = static_cast<int>(threadIdx.x);
  return thread / kWarp * (kBlockTile / 4) + o * 8 + thread % kWarp / kBlockLanes;
}

// Adds the products of a lane's elements of a stage, of which there are `count` in each row. at[o]:
// where output o begins in its row of the stage, or -1: there is none.
template <Blocks FORMAT, int ROWS>
__device__ __forceinline__ void add_stage(const uint8_t* weights, const float4* inputs, int count,
                                          const int (&at)[kBlockOutputs],
                                          float (&results)[kBlockOutputs][ROWS]) {
  constexpr int kPitch = block_stage(FORMAT).pitch;
  const int lane = static_cast<int>(threadIdx.x) % kBlockLanes;
  const uint8_t* rows[kBlockOutputs];
  BlockUnit units[kBlockOutputs];
#pragma unroll
  for (int o = 0; o < kBlockOutputs; ++o) {
    rows[o] = weights + block_output(o) * kPitch;
    if constexpr (FORMAT == Blocks::kQ4_K || FORMAT == Blocks::kQ5_K) {
      if (at[o] >= 0) group_scales(rows[o], at[o], lane, units[o].scales);
    }
  }
#pragma unroll 1
  for (int index = 0; index < 2; ++index) {
    if (first_element<FORMAT>(lane, index, 0) >= count) break;
#pragma unroll
    for (int o = 0; o < kBlockOutputs; ++o) {
      if (at[o] >= 0) {
        read_unit<FORMAT>(rows[o], at[o], lane, index, units[o]);
        continue;
      }
      units[o].scales[0] = units[o].scales[1] = {0.0f, 0.0f};
#pragma unroll
      for (int i = 0; i < 8; ++i) units[o].quants[i] = 0x80808080u;
    }
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      const int element = first_element<FORMAT>(lane, index, run);
      const float4* const x = inputs + BlockInputShape<ROWS>::place(0, element / 4);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float w[kBlockOutputs][4];
#pragma unroll
        for (int o = 0; o < kBlockOutputs; ++o) {
          unit_elements<FORMAT>(units[o].quants[run * 4 + i], units[o].scales[run], w[o]);
        }
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
          const float4 v = x[BlockInputShape<ROWS>::place(r, i)];
#pragma unroll
          for (int o = 0; o < kBlockOutputs; ++o) {
            results[o][r] = fmaf(w[o][0], v.x, results[o][r]);
            results[o][r] = fmaf(w[o][1], v.y, results[o][r]);
            results[o][r] = fmaf(w[o][2], v.z, results[o][r]);
            results[o][r] = fmaf(w[o][3], v.w, results[o][r]);
          }
        }
      }
    }
  }
}

// Adds the sums of the lanes that share a row; all of them get the result.
template <int ROWS>
__device__ __forceinline__ void add_lanes(float (&results)[kBlockOutputs][ROWS]) {
#pragma unroll
  for (int o = 0; o < kBlockOutputs; ++o) {
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
#pragma unroll
      for (int offset = 1; offset < kBlockLanes; offset *= 2) {
        results[o][r] += __shfl_xor_sync(kFullWarp, results[o][r], offset);
      }
    }
  }
}

// Bytes of the first piece before each row, or -1: there is no row.
__device__ __forceinline__ void bytes_before(const uint8_t* const* rows_of_w,
                                             int (&before)[kBlockOutputs]) {
#pragma unroll
  for (int o = 0; o < kBlockOutputs; ++o) {
    const uint8_t* const row = rows_of_w[block_output(o)];
    before[o] = row == nullptr ? -1 : low_bits(row);
  }
}

// Begins to copy a stage's weights to `base`: `bytes` of each row, from `place` on.
template <int ROWS>
__device__ __forceinline__ void begin_block_rows(const BlockStage& form,
                                                 const uint8_t* const* rows_of_w, int64_t place,
                                                 int bytes, const BlockBounds& bounds,
                                                 unsigned char* base) {
  [[maybe_unused]] constexpr int kAtOnce = ROWS < 4 ? 4 : 2;  // pieces of W: registers are scarce
#pragma unroll kAtOnce
  for (int i = threadIdx.x; i < kBlockTile * form.pieces; i += kBlockTileThreads) {
    const int output = form.row_of(i), piece = i - output * form.pieces;
    const uint8_t* const row = rows_of_w[output];
    if (row == nullptr) continue;
    const uint8_t* const from = row + place;
    const int before = low_bits(from);
    if (piece * 16 >= before + bytes) continue;
    stage_piece(base + output * form.pitch + piece * 16, from + (piece * 16 - before), bounds);
  }
}

// results[o][r] = <row of W for output block_output(o), row r of x>, the same in all lanes that
// share it. `rows_of_w` points to the tile's rows of W within `bounds`, null where there is none,
// and is complete (a barrier has passed). `tile` is a BlockTileShape or an AnyBlockTile,
// `rows_of_x` a StoredBlockRows, or has the same members.
template <int ROWS, class Tile, class RowsOfX>
__device__ __forceinline__ void linear_blocks_tile(const Tile& tile, int64_t depth,
                                                   const BlockBounds& bounds,
                                                   const uint8_t* const* rows_of_w,
                                                   const TileRange& range, const RowsOfX& rows_of_x,
                                                   unsigned char* shared,
                                                   float (&results)[kBlockOutputs][ROWS]) {
  constexpr int kStages = Tile::kStages;
  const BlockStage& form = tile.stage();
  const int stages = range.stages;

  const auto inputs_of = [&](unsigned char* stage_base) {
    return reinterpret_cast<float4*>(stage_base + form.weight_bytes());
  };
  const auto base_of = [&](int stage) { return shared + stage % kStages * form.all_bytes(ROWS); };
  const auto count_of = [&](int stage) {
    const int64_t first = static_cast<int64_t>(range.first_stage + stage) * kBlockDepth;
    return tile_count(first, depth, kBlockDepth);
  };
  const auto begin_stage = [&](int stage) {
    unsigned char* const base = base_of(stage);
    const int bytes = count_of(stage) / form.elements * form.bytes;
    const int64_t place = static_cast<int64_t>(range.first_stage + stage) * form.row_bytes;
    begin_block_rows<ROWS>(form, rows_of_w, place, bytes, bounds, base);
    rows_of_x.begin(inputs_of(base), stage);
  };

  int before[kBlockOutputs];
  bytes_before(rows_of_w, before);
  clear(results);
#pragma unroll 1
  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (stage < stages) begin_stage(stage);
    __pipeline_commit();
  }
  rows_of_x.prepare();
#pragma unroll 1
  for (int stage = 0; stage < stages; ++stage) {
    __pipeline_wait_prior(kStages - 2);
    unsigned char* const base = base_of(stage);
    rows_of_x.finish(inputs_of(base), stage);
    // This stage is there for all, and all have left the one that is overwritten next.
    __syncthreads();
    if (stage + kStages - 1 < stages) begin_stage(stage + kStages - 1);
    __pipeline_commit();  // also when empty: the wait counts groups

    const int64_t place = static_cast<int64_t>(range.first_stage + stage) * form.row_bytes;
    int at[kBlockOutputs];
#pragma unroll
    for (int o = 0; o < kBlockOutputs; ++o) {
      at[o] = before[o] < 0 ? -1 : (before[o] + static_cast<int>(place & 15)) & 15;
    }
    tile.with_format([&](auto format) {
      add_stage<decltype(format)::value>(base, inputs_of(base), count_of(stage), at, results);
    });
  }
  __pipeline_wait_prior(0);
  add_lanes<ROWS>(results);
  __syncthreads();  // `shared` is free for the caller
}

// What a block that multiplies stored rows looks up for each stage: registers are scarce.
template <int ROWS>
struct StoredBlockTile {
  BlockBounds bounds;
  StoredBlockRows<ROWS> rows_of_x;
};

// The same of stored rows; `own` is in shared memory.
template <Blocks FORMAT, int ROWS>
__device__ __forceinline__ void linear_blocks_tile(
    const LinearInput<uint8_t>& input, const uint8_t* const* rows_of_w, const TileRange& range,
    StoredBlockTile<ROWS>& own, unsigned char* shared, float (&results)[kBlockOutputs][ROWS]) {
  if (threadIdx.x == 0) {
    const int64_t first_column = static_cast<int64_t>(range.first_stage) * kBlockDepth;
    own.bounds = bounds_of(input, FORMAT);
    own.rows_of_x = {static_cast<const float*>(range.x) + first_column, input.x_stride,
                     input.depth - first_column, range.rows};
  }
  __syncthreads();
  linear_blocks_tile(BlockTileShape<FORMAT, ROWS>(), input.depth, own.bounds, rows_of_w, range,
                     own.rows_of_x, shared, results);
}

// As split_of_depth(), in stages of blocks.
template <int ROWS>
__device__ __forceinline__ TileRange split_of_block_depth(const LinearInput<uint8_t>& input,
                                                          int64_t first_row, int64_t row_end,
                                                          int split) {
  const int64_t stages = (input.depth + kBlockDepth - 1) / kBlockDepth;
  const auto first_stage = static_cast<int>(stages * split / input.splits);
  return {input.x + first_row * input.x_stride, tile_count(first_row, row_end, ROWS), first_stage,
          static_cast<int>(stages * (split + 1) / input.splits) - first_stage};
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

// As share_results(): [ROWS][kResultPitch<kBlockTile>].
template <int ROWS>
__device__ __forceinline__ float* share_block_results(const float (&results)[kBlockOutputs][ROWS],
                                                      unsigned char* shared) {
  auto* const table = reinterpret_cast<float*>(shared);
  if (threadIdx.x % kBlockLanes == 0) {
#pragma unroll
    for (int o = 0; o < kBlockOutputs; ++o) {
#pragma unroll
      for (int r = 0; r < ROWS; ++r)
        table[r * kResultPitch<kBlockTile> + block_output(o)] = results[o][r];
    }
  }
  __syncthreads();
  return table;
}

#define EXN_BLOCK_BOUNDS(ROWS) __launch_bounds__(kBlockTileThreads, (ROWS) == 8 ? 3 : 4)

// ---- a layer ------------------------------------------------------------------------------------

// Bytes: W once for each block of ROWS rows (where rows are not aligned, a piece of 16 bytes more
// of each row and stage comes from the L2 cache), x from the L2 cache for each block of outputs, y
// once; besides, 4 per product for each split of the depth, as there always are of a second matrix,
// and as many read again. Grid: that of linear_kernel, with tiles of 64 outputs.
template <Blocks FORMAT, int ROWS>
__global__ void EXN_BLOCK_BOUNDS(ROWS)
    linear_blocks_kernel(LinearInput<uint8_t> input, LinearOutput output) {
  EXN_DYN_SMEM(shared);
  __shared__ const uint8_t* rows_of_w[kBlockTile];
  __shared__ StoredBlockTile<ROWS> own;
  __shared__ TilePlace place;
  const int split = linear_split(input.splits);
  const int64_t tile = linear_tile_index(input.splits) * input.tile_step + input.first_tile;
  int64_t first_output = tile * kBlockTile;
  const int64_t first_row = linear_first_row(ROWS);
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

  const TileRange range = split_of_block_depth<ROWS>(input, first_row, row_end, split);
  float results[kBlockOutputs][ROWS];
  linear_blocks_tile<FORMAT, ROWS>(input, rows_of_w, range, own, shared, results);
  float* const products = share_block_results<ROWS>(results, shared);
  finish_tile<kBlockTileThreads, kBlockTile>(input, output, place, own.rows_of_x.rows, products);
}

}  // namespace exn::cuda
