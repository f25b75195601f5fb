// SPDX-License-Identifier: Apache-2.0
//
// exit_head: hidden state -> [translator] -> [norm] -> LM head -> statistics of the logits, which
// never leave the chip. Kernels in order: prepare_rows_kernel, [linear_kernel,
// prepare_rows_kernel,] exit_head_kernel, merge_stats_kernel; for quantised weights
// linear_blocks_kernel and exit_head_blocks_kernel.
#pragma once

#include "linear.cuh"
#include "linear_blocks.cuh"
#include "norm.cuh"
#include "stats.cuh"

namespace exn::cuda {

struct HeadOutput {
  const float* bias;  // [V], optional
  StatsOptions options;
  StatsState* states;  // [R, tiles]
  int64_t tiles;
  DrawInputs draw_inputs;
  Draw* draws = nullptr;            // [R, tiles], with draw_inputs
  const int32_t* labels = nullptr;  // optional, [R], on the device
  float* label_logits = nullptr;    // [R, tiles], with labels: -inf in tiles without the label
  // Optional, [R], on the device: 0 for a row whose statistics are not wanted. Blocks that have no
  // other rows leave at once.
  const int32_t* wanted = nullptr;
  PartialProducts partials;  // where the depth is cut into parts
};

__device__ __forceinline__ bool has_wanted_rows(const HeadOutput& output, int64_t first_row,
                                                int rows) {
  if (output.wanted == nullptr) return true;
#pragma unroll 1
  for (int r = 0; r < rows; ++r) {
    if (output.wanted[first_row + r] != 0) return true;
  }
  return false;
}

// What a lane knows of the outputs of a tile that it looks after: lane, lane + 32, ...
template <int PLACES>
struct LaneOutputs {
  int32_t id[PLACES];  // row of W; -1: none
  bool exists[PLACES];
  float bias[PLACES];
};

template <int PLACES, class W>
__device__ __forceinline__ LaneOutputs<PLACES> lane_outputs(const LinearInput<W>& input,
                                                            const float* bias, int64_t first) {
  LaneOutputs<PLACES> lane;
#pragma unroll
  for (int i = 0; i < PLACES; ++i) {
    const int64_t output = first + threadIdx.x % kWarp + i * kWarp;
    lane.id[i] = static_cast<int32_t>(weight_row(input, output));
    lane.exists[i] = output < input.outputs;
    lane.bias[i] = lane.id[i] >= 0 && bias != nullptr ? bias[lane.id[i]] : 0.0f;
  }
  return lane;
}

// A row's label, if it is to be looked for in a tile.
struct TileLabel {
  int32_t id;
  float* logit;  // where its raw logit goes; null: nowhere

  template <int PLACES>
  __device__ __forceinline__ void find(const float (&z)[PLACES],
                                       const LaneOutputs<PLACES>& outputs) const {
    if (logit == nullptr) return;
    float found = -INFINITY;
#pragma unroll
    for (int i = 0; i < PLACES; ++i) {
      if (outputs.id[i] == id) found = z[i];  // if it is listed twice, both are alike
    }
    found = warp_reduce<Max>(found);
    if (threadIdx.x % kWarp == 0) *logit = found;
  }
};

// Statistics of one row's products of a tile, by one warp.
template <class Normalizer, int PLACES>
__device__ __forceinline__ StatsState products_state(const float* products,
                                                     const LaneOutputs<PLACES>& outputs, int count,
                                                     const StatsOptions& options,
                                                     const TileLabel& label) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float z[PLACES];
  TopTwo top;
#pragma unroll
  for (int i = 0; i < PLACES; ++i) {
    z[i] = products[lane + i * kWarp] + outputs.bias[i];
    // A list entry outside the vocabulary makes every row invalid.
    if (outputs.id[i] < 0) z[i] = outputs.exists[i] ? NAN : -INFINITY;
    top.add(z[i]);
  }
  label.find(z, outputs);
  top = warp_top_two(top);
  StatsState state;
  state.largest = top.first;
  state.second = top.second;
  state.argmax = INT_MAX;  // the smallest id, which need not be the first place
#pragma unroll
  for (int i = 0; i < PLACES; ++i) {
    if (z[i] == state.largest && outputs.id[i] >= 0) {
      state.argmax = Min::apply(state.argmax, outputs.id[i]);
    }
  }
  accumulate<Normalizer>(z, options, count, [&](int i) { return lane + i * kWarp; }, state);
  warp_reduce_sums(state, options);
  return state;
}

// The best score of one row's products of a tile, by one warp.
template <int PLACES, class W>
__device__ __forceinline__ Draw products_draw(const LinearInput<W>& input, const HeadOutput& output,
                                              int64_t first, const float* products,
                                              const RowDraw& row) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const auto id_at = [&](int place) {
    return static_cast<int32_t>(weight_row(input, first + place));
  };
  Draw best = no_draw();
  NoiseWords words(row, id_at(lane));
#pragma unroll 1
  for (int i = 0; i < PLACES; ++i) {
    const int place = lane + i * kWarp;
    const int32_t id = id_at(place);
    if (input.list != nullptr && i > 0) words = NoiseWords(row, id);
    const float bias = id >= 0 && output.bias != nullptr ? output.bias[id] : 0.0f;
    const float score = words.score(treat_logit(products[place] + bias, output.options), row);
    if (id >= 0) best.take(score, id);
  }
  return warp_best(best);
}

// Statistics of a tile's products, [ROWS][kResultPitch<OUTPUTS>] in shared memory.
template <int THREADS, int OUTPUTS, int ROWS, class W>
__device__ __forceinline__ void store_states(const LinearInput<W>& input, const HeadOutput& output,
                                             int64_t first_row, int64_t tile,
                                             const float* products) {
  const int64_t first_output = tile * OUTPUTS;
  const auto outputs = lane_outputs<OUTPUTS / kWarp>(input, output.bias, first_output);
  const int count = tile_count(first_output, input.outputs, OUTPUTS);
#pragma unroll 1
  for (int r = static_cast<int>(threadIdx.x) / kWarp; r < ROWS; r += THREADS / kWarp) {
    if (first_row + r >= input.rows) break;
    const float* row = products + r * kResultPitch<OUTPUTS>;
    const int64_t at = (first_row + r) * output.tiles + tile;
    TileLabel label = {-1, nullptr};
    if (output.labels != nullptr) {
      const int32_t id = threadIdx.x % kWarp == 0 ? output.labels[first_row + r] : 0;
      label = {__shfl_sync(kFullWarp, id, 0), output.label_logits + at};
    }
    const StatsState state =
        output.options.stablemax
            ? products_state<StableMax<float>>(row, outputs, count, output.options, label)
            : products_state<FastSoftmax>(row, outputs, count, output.options, label);
    if (threadIdx.x % kWarp == 0) store_state(output.states + at, state);
    if (output.draws == nullptr) continue;
    const RowDraw of_row = row_draw(output.draw_inputs, first_row + r);
    const Draw draw = of_row.inverse == 0.0f ? no_draw()
                                             : products_draw<OUTPUTS / kWarp>(
                                                   input, output, first_output, row, of_row);
    if (threadIdx.x % kWarp == 0) output.draws[at] = draw;
  }
}

// Logits of 128 vocabulary rows (or list entries) for ROWS rows, and their statistics.
//
// Bytes: those of W once for each block of up to 64 rows; x from the L2 cache; 32 per (row, 128
// logits) written, 4 more with labels and 8 with draws; 4 per logit for each split of the depth, and as many read again.
// Grid: that of linear_kernel. A vocabulary of 32k gives 250 blocks, two or three of which run on an
// SM at once.
template <class W, int ROWS>
__global__ void EXN_LINEAR_BOUNDS(W, ROWS)
    exit_head_kernel(LinearInput<W> input, HeadOutput output) {
  using Shape = LinearShape<W, ROWS>;
  EXN_DYN_SMEM(shared);
  __shared__ const W* rows_of_w[kLinearOutputs];
  __shared__ TilePlace place;  // registers are scarce while the tile is multiplied
  const int64_t first_row = linear_first_row(ROWS);
  const int64_t tile = linear_tile_index(input.splits);
  if (tile >= output.tiles) return;
  if (!has_wanted_rows(output, first_row, tile_count(first_row, input.rows, ROWS))) return;
  const int split = linear_split(input.splits);
  if (threadIdx.x == 0) place = {first_row, tile * kLinearOutputs, split};
  find_weight_rows<W, ROWS>(input, tile * kLinearOutputs, rows_of_w);

  typename Shape::Results results;
  const TileRange range = split_of_depth<W, ROWS>(input, first_row, input.rows, split);
  linear_tile<W, ROWS>(input, rows_of_w, range, shared, results);
  float* const products = share_results<W, ROWS>(results, shared);
  if (input.splits > 1 && !meet_splits<Shape::kThreads, kLinearOutputs>(
                              output.partials, input.splits, input.rows, place.first_row,
                              place.first_output, range.rows, products)) {
    return;
  }
  store_states<Shape::kThreads, kLinearOutputs, ROWS>(
      input, output, place.first_row, place.first_output / kLinearOutputs, products);
}

// The same for 64 rows of quantised blocks.
//
// Bytes: those of W once for each block of 8 rows, of which several find them in the L2 cache
// (where rows are not aligned, a piece of 16 bytes more of each row and stage comes from there); x
// from the L2 cache; 32 per (row, 64 logits) written; 4 per logit for each split of the depth, and
// as many read again. Grid: that of linear_blocks_kernel.
template <Blocks FORMAT>
__global__ void EXN_BLOCK_BOUNDS exit_head_blocks_kernel(LinearInput<uint8_t> input,
                                                         HeadOutput output) {
  constexpr int kRows = kBlockRows;
  EXN_DYN_SMEM(shared);
  __shared__ const uint8_t* rows_of_w[kBlockTile];
  __shared__ TilePlace place;  // as above
  const int64_t first_row = linear_first_row(kRows);
  const int64_t tile = linear_tile_index(input.splits);
  if (tile >= output.tiles) return;
  if (!has_wanted_rows(output, first_row, tile_count(first_row, input.rows, kRows))) return;
  const int split = linear_split(input.splits);
  if (threadIdx.x == 0) place = {first_row, tile * kBlockTile, split};
  find_block_rows(input, tile * kBlockTile, rows_of_w);

  BlockResults results;
  const TileRange range = split_of_block_depth(input, first_row, input.rows, split);
  linear_blocks_tile<FORMAT>(input, rows_of_w, range, shared, results);
  float* const products = share_block_results(results, shared);
  if (input.splits > 1 && !meet_splits<kBlockTileThreads, kBlockTile>(
                              output.partials, input.splits, input.rows, place.first_row,
                              place.first_output, range.rows, products)) {
    return;
  }
  store_states<kBlockTileThreads, kBlockTile, kRows>(input, output, place.first_row,
                                                     place.first_output / kBlockTile, products);
}

}  // namespace exn::cuda
