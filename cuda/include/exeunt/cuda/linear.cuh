// SPDX-License-Identifier: Apache-2.0
//
// y = W x for a few rows x at a time, the shape of decoding: W [N,D] is read once for up to 64 rows
// of x.
//
// A block computes 128 outputs for ROWS rows (linear_tile.cuh). Every product is a sum over a stage
// of the depth, and the stages' sums are added from left to right, whatever ROWS is: a row's result
// has the same bits in every batch.
//
// Where few outputs would leave multiprocessors idle, the depth is cut into splits, each of which
// is left to a block. The last block of a tile to end adds the splits, from left to right.
#pragma once

#include "linear_tile.cuh"
#include "tickets.cuh"

namespace exn::cuda {

// The same where W is quantised (linear_blocks.cuh): outputs of a block, elements of a row in a
// stage.
constexpr int kBlockTile = 64;
constexpr int kBlockDepth = 256;

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

// Writes one split's products of a tile, [rows][kResultPitch<OUTPUTS>] in shared memory.
template <int THREADS, int OUTPUTS>
__device__ __forceinline__ void store_split(const TileSplits& tile_splits, int split, int rows,
                                            const float* products) {
  constexpr int kQuads = OUTPUTS / 4;
  float* const to = tile_splits.data + split * tile_splits.split_stride;
#pragma unroll 1
  for (int i = threadIdx.x; i < rows * kQuads; i += THREADS) {
    const int row = i / kQuads, n = i % kQuads * 4;
    store_vector(to + row * tile_splits.stride + n,
                 *reinterpret_cast<const uint4*>(products + row * kResultPitch<OUTPUTS> + n));
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
    *reinterpret_cast<float4*>(products + row * kResultPitch<OUTPUTS> + n) = sum_of_splits<16>(
        tile_splits.data + row * tile_splits.stride + n, tile_splits.split_stride, splits);
  }
  __syncthreads();
}

__device__ __forceinline__ unsigned long long* ticket_of_tile(const PartialProducts& partials,
                                                              int64_t first_output) {
  return partials.tickets + blockIdx.x * (partials.stride / kBlockTile) + first_output / kBlockTile;
}

// Hands in one split's products, [rows][kResultPitch<OUTPUTS>] in shared memory. True for the last block of a
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

// Stores what a block's products, [rows][kResultPitch<OUTPUTS>] in shared memory, belong to. Of a pair of
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
  const int pitch = paired ? kResultPitch<kLinearOutputs> : kResultPitch<OUTPUTS>;
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

  typename Shape::Results results;
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
