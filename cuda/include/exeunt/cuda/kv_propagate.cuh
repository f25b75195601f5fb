// SPDX-License-Identifier: Apache-2.0
//
// kv_propagate: the keys and values that rows which left early owe the layers above, all layers and
// up to 256 rows in one launch.
//
// A block looks for the rows that owe its layer, normalises them by itself while its first weights
// are on their way, and multiplies. Other blocks do the same for the same rows: reading them from
// the L2 cache costs less than a launch that would prepare them for all. Where layers are few, the
// depth is cut into parts (linear.cuh).
#pragma once

#include "kv.cuh"
#include "linear.cuh"
#include "linear_blocks.cuh"
#include "norm.cuh"
#include "rope.cuh"

namespace exn::cuda {

// One layer; of each pair the first is for keys, the second for values.
struct PropagateLayer {
  const void* weight[2];  // [Hkv*dh,D]
  int64_t weight_stride[2];
  Blocks format[2];          // where they have blocks
  const float* bias[2];      // [Hkv*dh], optional
  const float* norm_weight;  // [D], optional
  const float* norm_bias;    // [D], optional
  void* cache[2];
  KvLayout at;
  int64_t index;  // the layer's number
};

constexpr int kMostPropagateLayers = 128;

// A kernel's parameter: 20 KiB of the 32 that sm_70 and later can take.
struct PropagateLayers {
  PropagateLayer layer[kMostPropagateLayers];
};

struct PropagateTask {
  int64_t layer_count;
  const void* hidden;  // [R,D]
  int64_t hidden_stride;
  Storage storage;  // of hidden
  RowNorm norm;     // without coefficients, which are a layer's
  bool rounds;      // to the type of the weights, what is normalised
  int64_t rows;
  int64_t depth;              // D
  const int32_t* exit_layer;  // [R]
  const int32_t* sequence;    // [R], optional
  const int32_t* slot;        // [J,R] or [R]
  int64_t slot_stride;        // between layers, or 0
  const int32_t* position;    // [R], with a table
  const float* table;         // [positions, pairs, 2], optional
  int64_t positions;
  int pairs;  // 0 without a table
  RopeStyle style;
  int heads;
  int dim;
  Storage cache;
  int64_t tiles;             // of one layer: of 128 outputs, or, where weights have blocks, of 64
  int splits;                // parts into which D is cut
  PartialProducts partials;  // where they meet; the tiles of all layers are side by side
};

// A layer's keys and, after them, its values are taken in an order in which the two elements of a
// pair are neighbours, so that no pair is torn apart by tiles: head by head (of an even number of
// outputs), the pairs first. A tile of blocks has no values after keys, as formats may differ.
struct HeadPlace {
  int kind;     // 0: of the keys, 1: of the values
  int head;     // -1: there is no such output
  int element;  // of the head
  int pair;     // that RoPE turns; -1: none
};

// Places of all keys, or of all values.
__device__ __forceinline__ int64_t outputs_of_heads(const PropagateTask& task) {
  return static_cast<int64_t>(task.heads) * (task.dim + task.dim % 2);
}

__device__ __forceinline__ HeadPlace head_place(const PropagateTask& task, int64_t output) {
  const unsigned even_dim = static_cast<unsigned>(task.dim + task.dim % 2);
  const unsigned heads = static_cast<unsigned>(task.heads);
  const unsigned head = static_cast<unsigned>(output) / even_dim;
  const int place = static_cast<int>(static_cast<unsigned>(output) % even_dim);
  if (head >= 2 * heads || place >= task.dim) return {0, -1, 0, -1};
  if (head >= heads) return {1, static_cast<int>(head - heads), place, -1};
  if (place >= 2 * task.pairs) return {0, static_cast<int>(head), place, -1};
  const int64_t element = place % 2 == 0 ? rope_first(task.style, place / 2)
                                         : rope_second(task.style, place / 2, task.pairs);
  return {0, static_cast<int>(head), static_cast<int>(element), place / 2};
}

// A row of the block, and where its keys and values go.
struct RowTarget {
  int64_t offset;  // in the cache; kNoSlot: the row owes the layer nothing
  int32_t row;
  int32_t position;
};

__device__ __forceinline__ RowTarget row_target(const PropagateTask& task,
                                                const PropagateLayer& layer, int64_t which_layer,
                                                int64_t row) {
  RowTarget target{kNoSlot, static_cast<int32_t>(row), 0};
  const int32_t ran = task.exit_layer[row];
  const int32_t slot = task.slot[which_layer * task.slot_stride + row];
  const int32_t sequence = sequence_of(task.sequence, row);
  if (task.table != nullptr) target.position = task.position[row];
  const bool is_on = ran >= 0 && target.position >= 0 &&
                     (task.table == nullptr || target.position < task.positions);
  if (is_on && ran <= layer.index) target.offset = kv_offset(layer.at, sequence, slot);
  return target;
}

// The block's rows: of those that owe the layer, in their order, the ROWS from number `first` on.
// Complete for all when it returns how many there are.
//
// Bytes: up to 16 for each row up to the last that is found, from the L2 cache.
template <int THREADS, int ROWS>
__device__ __forceinline__ int find_targets(const PropagateTask& task, const PropagateLayer& layer,
                                            int64_t which_layer, int64_t first,
                                            RowTarget* targets) {
  constexpr int kWarps = THREADS / kWarp;
  __shared__ int counts[2][kWarps];
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const unsigned lanes_before = (1u << threadIdx.x % kWarp) - 1;
  int64_t found = -first;  // rows of the block, once those of the blocks before are passed
  int turn = 0;
#pragma unroll 1
  for (int64_t begin = 0; begin < task.rows && found < ROWS; begin += THREADS) {
    const int64_t row = begin + threadIdx.x;
    RowTarget target{kNoSlot, 0, 0};
    if (row < task.rows) target = row_target(task, layer, which_layer, row);
    const bool owes = target.offset != kNoSlot;
    const unsigned owing = __ballot_sync(kFullWarp, owes);
    if (threadIdx.x % kWarp == 0) counts[turn][warp] = __popc(owing);
    __syncthreads();
    int64_t place = found + __popc(owing & lanes_before);
#pragma unroll
    for (int i = 0; i < kWarps; ++i) {
      const int count = counts[turn][i];
      if (i < warp) place += count;
      found += count;
    }
    if (owes && place >= 0 && place < ROWS) targets[place] = target;
    turn ^= 1;
  }
  __syncthreads();
  return found < 0 ? 0 : tile_count(0, found, ROWS);
}

// Begins to copy four elements; zeros from `count` on.
template <class E>
__device__ __forceinline__ void copy_quad(void* to, const E* from, int count) {
  const auto address = static_cast<unsigned>(reinterpret_cast<uintptr_t>(from));
  if (count >= 4 && (address & (4 * sizeof(E) - 1)) == 0) {
    __pipeline_memcpy_async(to, from, 4 * sizeof(E));
    return;
  }
  if constexpr (sizeof(E) == 4) {
    if (count >= 4 && (address & 7u) == 0) {
      __pipeline_memcpy_async(to, from, 8);
      __pipeline_memcpy_async(static_cast<E*>(to) + 2, from + 2, 8);
      return;
    }
  }
#pragma unroll 1
  for (int i = 0; i < 4; ++i) static_cast<E*>(to)[i] = i < count ? from[i] : E(0);
}

// A block's rows of hidden, which come to shared memory as they are stored and are normalised
// there (see StoredRows). A warp takes the same columns of all rows, or of half of them, so that it
// copies their coefficients only once.
template <class Shape, int ROWS>
struct OwedRows {
  static constexpr bool kShares = true;  // threads read what others have put
  static constexpr int kWarps = Shape::kThreads / kWarp;
  static constexpr int kQuads = Shape::kDepth / 4;  // of a row in a stage
  static constexpr int kWarpQuads = kQuads / kWarps > 2 ? kQuads / kWarps : 2;
  static constexpr int kWarpsAcross = kQuads / kWarpQuads;
  static constexpr int kWarpRows = kWarp / kWarpQuads;  // at a time
  static constexpr int kRowStep = kWarps / kWarpsAcross * kWarpRows;

  struct Shared {
    int layer;  // here, as registers are scarce while the tile is multiplied
    int rows;
    int first_stage;
    RowTarget targets[ROWS];
    Moments moments[ROWS];
    float4 factors[Shape::kStages][kWarps][kWarpQuads];
    float4 shifts[Shape::kStages][kWarps][kWarpQuads];
  };

  const PropagateTask& task;
  const PropagateLayers& layers;
  Shared* shared;

  // What a thread takes of a stage.
  struct Share {
    int buffer;
    int64_t column;
    int count;  // of the four from `column` on that are there
    int warp;
    int lane_quad;  // of the warp's
    int quad;       // of a row
    int first_row;
    bool copies_coefficients;
  };

  // Found anew each time: the compiler would keep it, and spill it, while the tile is multiplied.
  __device__ __forceinline__ Share share(int stage) const {
    const int thread = anew(static_cast<int>(threadIdx.x));
    const int warp = thread / kWarp, lane = thread % kWarp;
    Share mine;
    mine.buffer = stage % Shape::kStages;
    mine.warp = warp;
    mine.lane_quad = lane % kWarpQuads;
    mine.quad = warp % kWarpsAcross * kWarpQuads + mine.lane_quad;
    mine.first_row = warp / kWarpsAcross * kWarpRows + lane / kWarpQuads;
    mine.copies_coefficients = lane < kWarpQuads;
    mine.column =
        static_cast<int64_t>(shared->first_stage + anew(stage)) * Shape::kDepth + 4 * mine.quad;
    mine.count = tile_count(mine.column, task.depth, 4);
    return mine;
  }

  __device__ __forceinline__ int count() const { return shared->rows; }

  __device__ __forceinline__ const PropagateLayer& layer() const {
    return layers.layer[shared->layer];
  }

  using Coefficients = float4[Shape::kStages][kWarps][kWarpQuads];

  static __device__ __forceinline__ void copy_coefficients(Coefficients& to, const float* from,
                                                           const Share& mine) {
    if (from == nullptr) return;
    copy_quad(&to[mine.buffer][mine.warp][mine.lane_quad], from + mine.column, mine.count);
  }

  // Zero where there are none.
  static __device__ __forceinline__ void load_coefficients(const Coefficients& from,
                                                           const Share& mine, bool given,
                                                           float (&to)[4]) {
    float4 quad = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (given) quad = from[mine.buffer][mine.warp][mine.lane_quad];
    to[0] = quad.x;
    to[1] = quad.y;
    to[2] = quad.z;
    to[3] = quad.w;
  }

  template <class E>
  __device__ __forceinline__ void copy_row(float4* to, int row, const Share& mine) const {
    const E* const from = static_cast<const E*>(task.hidden) +
                          shared->targets[row].row * task.hidden_stride + mine.column;
    copy_quad(to, from, mine.count);
  }

  __device__ __forceinline__ void begin(float4* to, int stage, int /*columns*/ = 0) const {
    const Share mine = share(stage);
    if (mine.copies_coefficients) {
      copy_coefficients(shared->factors, layer().norm_weight, mine);
      copy_coefficients(shared->shifts, layer().norm_bias, mine);
    }
#pragma unroll 1
    for (int row = mine.first_row; row < ROWS; row += kRowStep) {
      float4* const place = to + Shape::place(row, mine.quad);
      if (row >= shared->rows) {
        if constexpr (Shape::kOnTensorCores) break;
        *place = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      } else if (task.storage == Storage::kF32) {
        copy_row<float>(place, row, mine);
      } else {
        copy_row<uint16_t>(place, row, mine);
      }
    }
  }

  template <class T>
  __device__ __forceinline__ void find_moments() const {
    const T* const hidden = static_cast<const T*>(task.hidden);
    if constexpr (ROWS == 1) {
      static_assert(Shape::kThreads == kTileThreads, "what row_moments takes");
      __shared__ float scratch[kMomentScratch];
      float x[kTileItems<T>];
      const Moments found = row_moments(hidden + shared->targets[0].row * task.hidden_stride,
                                        task.depth, task.norm, scratch, x);
      if (threadIdx.x == 0) shared->moments[0] = found;
    } else {
#pragma unroll 1
      for (int row = threadIdx.x / kWarp; row < shared->rows; row += kWarps) {
        const Moments found = warp_moments(hidden + shared->targets[row].row * task.hidden_stride,
                                           task.depth, task.norm);
        if (threadIdx.x % kWarp == 0) shared->moments[row] = found;
      }
    }
  }

  __device__ __forceinline__ void prepare() const {
    switch (task.storage) {
      case Storage::kF16:
        find_moments<__half>();
        break;
      case Storage::kBF16:
        find_moments<__nv_bfloat16>();
        break;
      default:
        find_moments<float>();
    }
    __syncthreads();
  }

  __device__ __forceinline__ bool is_rounded() const { return task.rounds; }

  __device__ __forceinline__ void finish(float4* x, int stage, bool again = false) const {
    __syncwarp();  // the coefficients, which other lanes copied
    const Share mine = share(stage);
    const bool scales = layer().norm_weight != nullptr;
    float factors[4], shifts[4];
    load_coefficients(shared->factors, mine, scales, factors);
    load_coefficients(shared->shifts, mine, layer().norm_bias != nullptr, shifts);
#pragma unroll 1
    for (int row = mine.first_row; row < shared->rows; row += kRowStep) {
      const float4 quad = widen_quad_as(task.storage, x[Shape::place(row, mine.quad)]);
      const Moments moments = shared->moments[row];
      float y[4] = {quad.x, quad.y, quad.z, quad.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        y[i] = (y[i] - moments.mean) * moments.scale;
        if (scales) y[i] = fmaf(y[i], factors[i], shifts[i]);
        if (task.rounds) y[i] = widen(narrow<typename Shape::Element>(y[i]));
        if (i >= mine.count) y[i] = 0.0f;
      }
      Shape::put(x, row, mine.quad, make_float4(y[0], y[1], y[2], y[3]), task.rounds, again);
    }
  }
};

// Two neighbouring outputs of one row: bias, rotation, conversion, into the cache.
__device__ __forceinline__ void store_pair(const PropagateTask& task, const PropagateLayer& layer,
                                           const RowTarget& target, HeadPlace first,
                                           HeadPlace second, const float* products) {
  if (first.head < 0) return;
  const int kind = first.kind;
  const int64_t row = static_cast<int64_t>(first.head) * task.dim;
  float2 y = make_float2(products[0], products[1]);
  if (layer.bias[kind] != nullptr) {
    y.x += layer.bias[kind][row + first.element];
    if (second.head >= 0) y.y += layer.bias[kind][row + second.element];
  }
  if (first.pair >= 0) {
    const float* const turn =
        task.table + (static_cast<int64_t>(target.position) * task.pairs + first.pair) * 2;
    y = rotated(y.x, y.y, turn[0], turn[1]);
  }
  const int64_t at = target.offset + first.head * layer.at.head_stride;
  store_as(task.cache, layer.cache[kind], at + first.element, y.x);
  if (second.head >= 0) store_as(task.cache, layer.cache[kind], at + second.element, y.y);
}

// Where a tile's outputs go, from `first` on, and their rows of weights, null where there is none.
// `kind`: 0 or 1 leaves out the others; -1: none. Complete for all when it returns.
template <int THREADS, int OUTPUTS, class W>
__device__ __forceinline__ void find_places(const PropagateTask& task, const PropagateLayer& layer,
                                            int64_t first, int kind, HeadPlace* places,
                                            const W** rows_of_w) {
  for (int i = threadIdx.x; i < OUTPUTS; i += THREADS) {
    HeadPlace place = head_place(task, first + i);
    if (kind >= 0 && place.kind != kind) place.head = -1;
    const int64_t row = static_cast<int64_t>(place.head) * task.dim + place.element;
    places[i] = place;
    rows_of_w[i] = place.head < 0 ? nullptr
                                  : static_cast<const W*>(layer.weight[place.kind]) +
                                        row * layer.weight_stride[place.kind];
  }
  __syncthreads();
}

// Keys and values of a tile's products, [rows][kResultPitch<OUTPUTS>] in shared memory.
template <int THREADS, int OUTPUTS>
__device__ __forceinline__ void store_products(const PropagateTask& task,
                                               const PropagateLayer& layer,
                                               const RowTarget* targets, int rows,
                                               const HeadPlace* places, const float* products) {
#pragma unroll 1
  for (int i = threadIdx.x; i < rows * (OUTPUTS / 2); i += THREADS) {
    const int row = i / (OUTPUTS / 2), n = i % (OUTPUTS / 2) * 2;
    store_pair(task, layer, targets[row], places[n], places[n + 1],
               products + row * kResultPitch<OUTPUTS> + n);
  }
}

// Bytes: each weight of a layer once for each ROWS of the rows that owe it, and none of a layer
// that no row owes; keys and values once; besides, 4 per product for each split of the depth, and
// as many read again. For each 128 outputs, from the L2 or L1 cache: the rows once, and once more
// for each split, and the layer's coefficients once. Grid: that of linear_kernel, the tiles being
// those of the first layer, of the second, and so on.
template <class W, int ROWS>
__global__ void EXN_LINEAR_BOUNDS(W, ROWS)
    kv_propagate_kernel(const __grid_constant__ PropagateTask task,
                        const __grid_constant__ PropagateLayers layers) {
  using Shape = LinearShape<W, ROWS>;
  using Rows = OwedRows<Shape, ROWS>;
  EXN_DYN_SMEM(shared);
  __shared__ const W* rows_of_w[kLinearOutputs];
  __shared__ HeadPlace places[kLinearOutputs];
  __shared__ typename Rows::Shared owed;
  const int64_t tile = linear_tile_index(task.splits);
  if (tile >= task.layer_count * task.tiles) return;
  const int64_t which_layer = tile / task.tiles;
  const PropagateLayer& layer = layers.layer[which_layer];
  const int rows = find_targets<Shape::kThreads, ROWS>(task, layer, which_layer,
                                                       linear_first_row(ROWS), owed.targets);
  if (rows == 0) return;
  LinearInput<W> input;
  input.weight = static_cast<const W*>(layer.weight[0]);
  input.weight_stride = layer.weight_stride[0];
  input.second = static_cast<const W*>(layer.weight[1]);
  input.second_stride = layer.weight_stride[1];
  input.x = nullptr;
  input.x_stride = 0;
  input.depth = task.depth;
  input.splits = task.splits;
  const TileRange range = split_of_depth<W, ROWS>(input, 0, rows, linear_split(task.splits));
  if (threadIdx.x == 0) {
    owed.layer = static_cast<int>(which_layer);
    owed.rows = rows;
    owed.first_stage = range.first_stage;
  }
  find_places<Shape::kThreads, kLinearOutputs>(task, layer, tile % task.tiles * kLinearOutputs, -1,
                                               places, rows_of_w);

  typename Shape::Results results;
  linear_tile<W, ROWS>(input, rows_of_w, range, Rows{task, layers, &owed}, shared, results);
  float* const products = share_results<W, ROWS>(results, shared);
  if (task.splits > 1 &&
      !meet_splits<Shape::kThreads, kLinearOutputs>(
          task.partials, task.splits, task.rows, linear_first_row(ROWS),
          linear_tile_index(task.splits) * kLinearOutputs, owed.rows, products)) {
    return;
  }
  store_products<Shape::kThreads, kLinearOutputs>(task, layers.layer[owed.layer], owed.targets,
                                                  owed.rows, places, products);
}

// The same for weights of blocks, whose formats differ from tile to tile.
//
// Bytes: those of kv_propagate_kernel, but that the rows and coefficients are read for each 64
// outputs; where rows of weights are not aligned, a piece of 16 bytes more of each of them and
// stage comes from the L2 cache. Grid: the same; of a layer's tiles, those of keys come first.
template <class Shape>
__global__ __launch_bounds__(kBlockTileThreads, 3) void kv_propagate_blocks_kernel(
    const __grid_constant__ PropagateTask task, const __grid_constant__ PropagateLayers layers) {
  using Rows = OwedRows<Shape, kBlockRows>;
  EXN_DYN_SMEM(shared);
  __shared__ const uint8_t* rows_of_w[kBlockTile];
  __shared__ HeadPlace places[kBlockTile];
  __shared__ BlockStage form;
  __shared__ typename Rows::Shared owed;
  __shared__ TilePlace place;
  const int64_t tile = linear_tile_index(task.splits);
  if (tile >= task.layer_count * task.tiles) return;
  const int64_t which_layer = tile / task.tiles;
  const PropagateLayer& layer = layers.layer[which_layer];
  const int rows = find_targets<kBlockTileThreads, kBlockRows>(
      task, layer, which_layer, linear_first_row(kBlockRows), owed.targets);
  if (rows == 0) return;
  const int64_t tiles_of_kind = task.tiles / 2, tile_of_layer = tile % task.tiles;
  const int kind = tile_of_layer < tiles_of_kind ? 0 : 1;
  const int64_t outputs_of_kind = outputs_of_heads(task);
  const int64_t first =
      kind * outputs_of_kind + (tile_of_layer - kind * tiles_of_kind) * kBlockTile;
  LinearInput<uint8_t> input;
  input.weight = static_cast<const uint8_t*>(layer.weight[kind]);
  input.weight_stride = layer.weight_stride[kind];
  input.x = nullptr;
  input.x_stride = 0;
  input.depth = task.depth;
  input.vocabulary = static_cast<int64_t>(task.heads) * task.dim;
  input.splits = task.splits;
  const TileRange range = split_of_block_depth(input, 0, rows, linear_split(task.splits));
  if (threadIdx.x == 0) {
    owed.layer = static_cast<int>(which_layer);
    owed.rows = rows;
    owed.first_stage = range.first_stage;
    place = {linear_first_row(kBlockRows), tile * kBlockTile, linear_split(task.splits)};
    form = block_stage(layer.format[kind]);
  }
  find_places<kBlockTileThreads, kBlockTile>(task, layer, first, kind, places, rows_of_w);

  BlockResults results;
  linear_blocks_tile(AnyBlockTile{layer.format[kind], &form}, task.depth, rows_of_w, range,
                     Rows{task, layers, &owed}, shared, results);
  float* const products = share_block_results(results, shared);
  if (task.splits > 1 && !meet_splits<kBlockTileThreads, kBlockTile>(
                             task.partials, task.splits, task.rows, place.first_row,
                             place.first_output, owed.rows, products)) {
    return;
  }
  store_products<kBlockTileThreads, kBlockTile>(task, layers.layer[owed.layer], owed.targets,
                                                owed.rows, places, products);
}

}  // namespace exn::cuda
