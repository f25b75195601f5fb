// SPDX-License-Identifier: Apache-2.0
//
// Launch geometry of the kernels built on linear_tile, and the products that several ops queue.
#pragma once

#include <exeunt/cuda/linear.cuh>
#include <exeunt/cuda/norm.cuh>
#include <exeunt/norm.h>

#include "backend.h"
#include "dispatch.h"

namespace exn::cuda {

// Elements between f32 rows in the workspace.
inline int64_t padded(int64_t columns) {
  return ceil_div(columns, kInputMultiple) * kInputMultiple;
}

// Rows spread evenly over as few blocks of at most 64 as possible: 65 rows are two blocks of 33.
inline int64_t rows_per_block(int64_t rows) { return ceil_div(rows, ceil_div(rows, 64)); }

// Calls f(std::integral_constant<int, ROWS>{}) for the smallest compiled block that holds the rows,
// of weights W.
template <class W, class F>
void dispatch_rows(int64_t rows, F&& f) {
  const int64_t block = rows_per_block(rows);
  if constexpr (!kOnTensorCores<W>) {
    if (block <= 1) return f(std::integral_constant<int, 1>{});
    if (block <= 2) return f(std::integral_constant<int, 2>{});
    if (block <= 4) return f(std::integral_constant<int, 4>{});
  }
  if (block <= 8) return f(std::integral_constant<int, 8>{});
  if (block <= 16) return f(std::integral_constant<int, 16>{});
  if (block <= 32) return f(std::integral_constant<int, 32>{});
  f(std::integral_constant<int, 64>{});
}

// Grid of a kernel on linear_tile. The depth is cut into splits only where tiles are few.
inline dim3 linear_grid(int64_t rows, int block_rows, int64_t tiles, int splits = 1) {
  const int64_t y = tiles < kLinearGridY ? tiles : kLinearGridY;
  return dim3(static_cast<unsigned>(ceil_div(rows, block_rows)), static_cast<unsigned>(y),
              static_cast<unsigned>(splits > 1 ? splits : ceil_div(tiles, y)));
}

inline Norm norm_of(int32_t norm) {
  switch (norm) {
    case EXN_NORM_RMS:
      return Norm::kRms;
    case EXN_NORM_LAYER:
      return Norm::kLayer;
    default:
      return Norm::kNone;
  }
}

// Of rows that were computed from `from` before their product with weights of the same 16-bit type.
inline Rounding rounding_of(DType from, DType weight) {
  if (from != weight) return Rounding::kNone;
  if (weight == DType::kF16) return Rounding::kF16;
  return weight == DType::kBF16 ? Rounding::kBF16 : Rounding::kNone;
}

// Calls f(std::integral_constant<int, ROWS>{}) for the smallest block of a layer that holds the
// rows. Fewer sizes than the head has: up to 8 rows all are bound by the bytes of W.
template <class W, int MOST = 64, class F>
void dispatch_layer_rows(int64_t rows, F&& f) {
  const int64_t block = rows_per_block(rows);
  if constexpr (!kOnTensorCores<W>) {
    if (block <= 1) return f(std::integral_constant<int, 1>{});
  }
  if (block <= 8) return f(std::integral_constant<int, 8>{});
  if (block <= 16) return f(std::integral_constant<int, 16>{});
  if (block <= 32) return f(std::integral_constant<int, 32>{});
  f(std::integral_constant<int, MOST>{});
}

// Rows that a launch takes at most, where there may be a whole prompt of them: this bounds the
// workspace, and what a launch leaves there stays in the L2 cache.
constexpr int64_t kRowsAtOnce = 256;

// Queues prepare_rows_kernel.
void queue_prepare(const Matrix& in, float* out, Norm norm, float eps, const float* weight,
                   const float* bias, Rounding rounding, cudaStream_t stream);

// Whether products of so many rows of 16 bits take them as they are.
inline bool is_read_raw(DType x, DType weight, int64_t rows) {
  return weight == DType::kBF16 ? x == DType::kBF16 : rows_per_block(rows) <= kMostRawRows;
}

inline bool is_quantised(const Matrix& weight) { return weight.blocks != exn::Blocks::kNone; }

// Outputs of a tile.
inline int64_t tile_outputs(const Matrix& weight) {
  return is_quantised(weight) ? kBlockTile : kLinearOutputs;
}

// A product of f32 rows of padded(depth), 16-byte aligned and zero from the depth on.
struct Product {
  Matrix weight;
  Matrix second;  // optional: the product is a pair, see LinearInput. Both have blocks, or none;
                  // with blocks there are partial products to be merged
  const float* x = nullptr;
  int64_t x_stride = 0;
  Storage storage = Storage::kF32;  // of x, see is_read_raw()
  int64_t rows = 0;
  const int32_t* row_count = nullptr;  // optional, on the device
  int splits = 1;                      // of the depth
  LinearOutput output{};

  bool paired() const { return second.data != nullptr; }
  // Of a quantised pair each matrix has tiles of its own.
  bool has_splits() const { return splits > 1 || (paired() && is_quantised(weight)); }
  int64_t tiles() const {
    if (!paired()) return ceil_div(weight.rows, tile_outputs(weight));
    return ceil_div(weight.rows, kPairOutputs) * (kLinearOutputs / tile_outputs(weight));
  }
  // Each format has its own.
  int launches() const { return paired() && second.blocks != weight.blocks ? 2 : 1; }
  int64_t partials() const { return splits * rows * partial_stride(); }
  int64_t partial_stride() const { return tiles() * tile_outputs(weight); }
};
static_assert(kBlockTile == kPairOutputs, "partial products of pairs lie alike");

// Tickets for the splits of `rows` rows: where a block has less than 8, there is one block of rows.
inline int64_t tickets_of(int64_t rows, int64_t partial_stride) {
  return ceil_div(rows, 8) * (partial_stride / kBlockTile);
}

// Takes the memory where `splits` splits of `rows` rows meet; none for one split.
inline PartialProducts take_partials(int splits, int64_t rows, int64_t stride,
                                     Workspace& workspace) {
  PartialProducts partials;
  partials.data = workspace.take<float>(splits > 1 ? splits * rows * stride : 0);
  partials.stride = stride;
  partials.tickets = workspace.take<unsigned long long>(splits > 1 ? tickets_of(rows, stride) : 0);
  return partials;
}

template <class W>
LinearInput<W> input_of(const Product& product) {
  LinearInput<W> input;
  input.weight = static_cast<const W*>(product.weight.data);
  input.weight_stride = product.weight.stride;
  input.x = product.x;
  input.x_stride = product.x_stride;
  input.storage = product.storage;
  input.outputs = product.weight.rows;
  input.depth = product.weight.cols;
  input.rows = product.rows;
  input.list = nullptr;
  input.vocabulary = product.weight.rows;
  input.second = static_cast<const W*>(product.second.data);
  input.second_stride = product.second.stride;
  input.row_count = product.row_count;
  input.splits = product.splits;
  return input;
}

// Cuts the depth into as many splits as it takes to give every multiprocessor two blocks of a
// launch of so many tiles. It must not depend on the rows: the splits decide in which order a sum
// is formed.
int depth_splits(int32_t device, const Matrix& weight, int64_t tiles);
inline int depth_splits(int32_t device, const Product& product) {
  return depth_splits(device, product.weight, product.tiles() / product.launches());
}

// Cuts the depth of a product of one matrix, and takes the memory where its splits meet.
inline void cut_depth(int32_t device, Product& product, Workspace& workspace) {
  product.splits = depth_splits(device, product);
  const PartialProducts partials =
      take_partials(product.splits, product.rows, product.partial_stride(), workspace);
  if (product.splits > 1) product.output.partials = partials;
}

// Queues linear_kernel, and merge_linear_kernel where rows are many. Without tickets the partial
// products are left where they are.
void queue_product(const Product& product, cudaStream_t stream);
// The same for a weight of quantised blocks, to which queue_product leaves it.
void queue_blocks_product(const Product& product, cudaStream_t stream);

// A layer y = f(W x + b) from f32 rows in the workspace to f32 rows, of which each launch takes
// some. x, y, bias and which weights of this shape they are may change from call to call of
// queue_layer.
Product layer_product(int32_t device, const Matrix& weight, int64_t rows, Activation activation,
                      int64_t y_stride, Workspace& workspace);
void queue_layer(Product product, int64_t rows, cudaStream_t stream);

}  // namespace exn::cuda
