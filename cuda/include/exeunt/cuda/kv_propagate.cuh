// SPDX-License-Identifier: Apache-2.0
//
// kv_propagate: the keys and values that rows which left early owe the layers above, the rows in
// one launch, then all layers in another. Kernels in order: propagate_rows_kernel,
// kv_propagate_kernel.
//
// The rows are sorted by the layers that they ran, so that those which owe a layer come first,
// whichever layer it is. They are normalised once; each layer's coefficients are applied as its
// blocks stage them.
#pragma once

#include <climits>

#include "kv.cuh"
#include "linear.cuh"
#include "norm.cuh"
#include "rope.cuh"

namespace exn::cuda {

// One layer; of each pair the first is for keys, the second for values.
struct PropagateLayer {
  const void* weight[2];  // [Hkv*dh,D]
  int64_t weight_stride[2];
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

struct PropagateRow {
  int32_t row;
  int32_t ran;  // layers; kOwesNothing: the row is off
};

constexpr int32_t kOwesNothing = INT_MAX;

template <class T>
struct PropagateRowsTask {
  PrepareTask<T> prepare;     // of hidden, without coefficients
  const int32_t* exit_layer;  // [R]
  const int32_t* position;    // [R]; null: no RoPE
  int64_t positions;
  int32_t model_layers;
  int32_t last_layer;      // the highest that is listed
  PropagateRow* order;     // [R]
  PropagateLayer* layers;  // [J], in device memory
  int layer_count;
};

// Layers that a row ran, or kOwesNothing if it has not left or its arguments are out of range.
template <class T>
__device__ __forceinline__ int32_t layers_ran(const PropagateRowsTask<T>& task, int64_t row) {
  const int32_t ran = task.exit_layer[row];
  if (ran < 0 || ran > task.model_layers) return kOwesNothing;
  if (task.position == nullptr) return ran;
  const int32_t position = task.position[row];
  return position >= 0 && position < task.positions ? ran : kOwesNothing;
}

// One block per row: finds its place among all and, if it owes a layer, normalises it to there. The
// first block also lays the layers' descriptions down where the next kernel finds them.
//
// Bytes: of a row that owes, its elements once and 4 for each written; 8 for each row
// before it from the L2 cache.
template <class T>
__global__ __launch_bounds__(kTileThreads, 6) void propagate_rows_kernel(
    PropagateRowsTask<T> task, const __grid_constant__ PropagateLayers layers) {
  __shared__ float scratch[kMomentScratch];
  __shared__ int counts[kTileThreads / kWarp];
  const int64_t row = blockIdx.x;
  if (row == 0) {
    for (int i = threadIdx.x; i < task.layer_count; i += kTileThreads) {
      task.layers[i] = layers.layer[i];
    }
  }
  const int32_t ran = layers_ran(task, row);
  int before = 0;
  for (int64_t i = threadIdx.x; i < task.prepare.rows; i += kTileThreads) {
    const int32_t other = layers_ran(task, i);
    before += other < ran || (other == ran && i < row) ? 1 : 0;
  }
  const int rank = block_reduce<Sum, kTileThreads / kWarp>(before, counts);
  if (threadIdx.x == 0) task.order[rank] = {static_cast<int32_t>(row), ran};
  if (ran > task.last_layer) return;
  prepare_row(task.prepare, row, rank, scratch);
}

struct PropagateTask {
  const PropagateLayer* layers;  // [J]
  int64_t layer_count;
  const PropagateRow* order;  // [R]
  const float* x;             // [R,D] in that order, zeros from D up to the stride
  int64_t x_stride;
  Rounding rounding;  // of x with a layer's coefficients
  int64_t rows;
  int64_t depth;            // D
  const int32_t* sequence;  // [R], optional
  const int32_t* slot;      // [J,R] or [R]
  int64_t slot_stride;      // between layers, or 0
  const int32_t* position;  // [R], with a table
  const float* table;       // [positions, pairs, 2], optional
  int pairs;                // 0 without a table
  RopeStyle style;
  int heads;
  int dim;
  Storage cache;
  int64_t tiles;  // of 128 outputs, of one layer's keys
};

// Outputs are taken in an order in which the two elements of a pair are neighbours, so that no pair
// is torn apart by tiles: head by head (of an even number of outputs), the pairs first.
struct HeadPlace {
  int head;     // -1: there is no such output
  int element;  // of the head
  int pair;     // that RoPE turns; -1: none
};

__device__ __forceinline__ HeadPlace head_place(const PropagateTask& task, int64_t output) {
  const unsigned even_dim = static_cast<unsigned>(task.dim + task.dim % 2);
  const unsigned head = static_cast<unsigned>(output) / even_dim;
  const int place = static_cast<int>(static_cast<unsigned>(output) % even_dim);
  if (head >= static_cast<unsigned>(task.heads) || place >= task.dim) return {-1, 0, -1};
  if (place >= 2 * task.pairs) return {static_cast<int>(head), place, -1};
  const int64_t element = place % 2 == 0 ? rope_first(task.style, place / 2)
                                         : rope_second(task.style, place / 2, task.pairs);
  return {static_cast<int>(head), static_cast<int>(element), place / 2};
}

// Where a row's keys and values go.
struct RowTarget {
  int64_t offset;  // in the cache, or kNoSlot
  int64_t turns;   // in the table
};

// Applies a layer's coefficients to the normalised rows as they arrive, and rounds them.
struct ApplyNorm {
  const float* weight;
  const float* bias;
  int64_t depth;
  Rounding rounding;

  __device__ __forceinline__ void operator()(float4* x, int64_t column) const {
    const int count = tile_count(column, depth, 4);
    if (count <= 0) return;  // stays zero
    float4 y = *x;
    if (weight != nullptr) {
      float factors[4], shifts[4];
      load_coefficients(weight, column, count, 0.0f, factors);
      load_coefficients(bias, column, count, 0.0f, shifts);
      y = make_float4(fmaf(y.x, factors[0], shifts[0]), fmaf(y.y, factors[1], shifts[1]),
                      fmaf(y.z, factors[2], shifts[2]), fmaf(y.w, factors[3], shifts[3]));
    }
    *x = make_float4(round_as(rounding, y.x), round_as(rounding, y.y), round_as(rounding, y.z),
                     round_as(rounding, y.w));
  }
};

// Finds what the block's rows owe this layer. Every thread gets the number of rows, from the
// block's first on, that left below it: 0 if none of those has a slot to write to.
template <int ROWS>
__device__ __forceinline__ int find_targets(const PropagateTask& task, const PropagateLayer& layer,
                                            int64_t which_layer, int64_t first_row,
                                            RowTarget* targets) {
  const int64_t place = first_row + threadIdx.x;
  bool owes = false, writes = false;
  if (threadIdx.x < ROWS && place < task.rows) {
    const PropagateRow entry = task.order[place];
    owes = entry.ran <= layer.index;
    RowTarget target{kNoSlot, 0};
    if (owes) {
      const int32_t slot = task.slot[which_layer * task.slot_stride + entry.row];
      target.offset = kv_offset(layer.at, sequence_of(task.sequence, entry.row), slot);
      if (task.table != nullptr) {
        target.turns = static_cast<int64_t>(task.position[entry.row]) * task.pairs * 2;
      }
      writes = target.offset != kNoSlot;
    }
    targets[threadIdx.x] = target;
  }
  if (!__syncthreads_or(writes)) return 0;
  return __syncthreads_count(owes);
}

// Two neighbouring outputs of one row: bias, rotation, conversion, into the cache.
__device__ __forceinline__ void store_pair(const PropagateTask& task, const PropagateLayer& layer,
                                           int kind, const RowTarget& target, HeadPlace first,
                                           HeadPlace second, const float* products) {
  if (first.head < 0) return;
  const int64_t row = static_cast<int64_t>(first.head) * task.dim;
  float2 y = make_float2(products[0], products[1]);
  if (layer.bias[kind] != nullptr) {
    y.x += layer.bias[kind][row + first.element];
    if (second.head >= 0) y.y += layer.bias[kind][row + second.element];
  }
  if (kind == 0 && first.pair >= 0) {
    const float* const turn = task.table + target.turns + 2 * first.pair;
    y = rotated(y.x, y.y, turn[0], turn[1]);
  }
  const int64_t at = target.offset + first.head * layer.at.head_stride;
  store_as(task.cache, layer.cache[kind], at + first.element, y.x);
  if (second.head >= 0) store_as(task.cache, layer.cache[kind], at + second.element, y.y);
}

// Bytes: each weight of a layer that some of a block's rows owe once per block of ROWS rows, and
// none of the others; x from the L2 cache; keys and values once. Grid: that of linear_kernel, the
// tiles being those of the first layer's keys, its values, and so on.
template <class W, int ROWS>
__global__ void EXN_LINEAR_BOUNDS(W, ROWS) kv_propagate_kernel(PropagateTask task) {
  using Shape = LinearShape<W, ROWS>;
  EXN_DYN_SMEM(shared);
  __shared__ const W* rows_of_w[kLinearOutputs];
  __shared__ HeadPlace places[kLinearOutputs];
  __shared__ RowTarget targets[ROWS];
  const int64_t tile = linear_tile_index();
  if (tile >= 2 * task.layer_count * task.tiles) return;
  const int64_t which_layer = tile / (2 * task.tiles);
  const int kind = static_cast<int>(tile / task.tiles % 2);
  const PropagateLayer& layer = task.layers[which_layer];
  const int64_t first_row = linear_first_row(ROWS);
  const int owed = find_targets<ROWS>(task, layer, which_layer, first_row, targets);
  if (owed == 0) return;

  LinearInput<W> input;
  input.weight = static_cast<const W*>(layer.weight[kind]);
  input.weight_stride = layer.weight_stride[kind];
  input.x = task.x;
  input.x_stride = task.x_stride;
  input.depth = task.depth;
  for (int i = threadIdx.x; i < kLinearOutputs; i += Shape::kThreads) {
    const HeadPlace place = head_place(task, tile % task.tiles * kLinearOutputs + i);
    const int64_t row = static_cast<int64_t>(place.head) * task.dim + place.element;
    places[i] = place;
    rows_of_w[i] = place.head < 0 ? nullptr : input.weight + row * input.weight_stride;
  }
  __syncthreads();

  float results[Shape::kOutputs][Shape::kRows];
  linear_tile<W, ROWS>(input, rows_of_w, whole_depth<W, ROWS>(input, first_row, first_row + owed),
                       shared, results,
                       ApplyNorm{layer.norm_weight, layer.norm_bias, task.depth, task.rounding});
  const float* const products = share_results<W, ROWS>(results, shared);

#pragma unroll 1
  for (int i = threadIdx.x; i < owed * (kLinearOutputs / 2); i += Shape::kThreads) {
    const RowTarget target = targets[i / (kLinearOutputs / 2)];
    const int n = i % (kLinearOutputs / 2) * 2;
    if (target.offset == kNoSlot) continue;
    store_pair(task, layer, kind, target, places[n], places[n + 1],
               products + i / (kLinearOutputs / 2) * kResultPitch + n);
  }
}

}  // namespace exn::cuda
