// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/linear_blocks.cuh>

#include "linear.h"

namespace exn::cuda {
namespace {

template <Blocks FORMAT, int ROWS>
void launch(const Product& product, cudaStream_t stream) {
  using Shape = BlockTileShape<FORMAT, ROWS>;
  dim3 grid = linear_grid(product.rows, ROWS, product.tiles());
  if (product.parts > 1) grid.z = static_cast<unsigned>(product.parts);
  allow_shared(linear_blocks_kernel<FORMAT, ROWS>, Shape::kSharedBytes);
  EXN_LAUNCH((linear_blocks_kernel<FORMAT, ROWS>), grid, kBlockTileThreads, Shape::kSharedBytes,
             stream, input_of<uint8_t>(product), product.output);
}

// As with_blocks(), on the host.
template <class F>
void dispatch_blocks(Blocks format, F&& f) {
  switch (format) {
    case Blocks::kQ4_0:
      return f(BlockFormat<Blocks::kQ4_0>{});
    case Blocks::kQ4_1:
      return f(BlockFormat<Blocks::kQ4_1>{});
    case Blocks::kQ5_0:
      return f(BlockFormat<Blocks::kQ5_0>{});
    case Blocks::kQ5_1:
      return f(BlockFormat<Blocks::kQ5_1>{});
    case Blocks::kQ8_0:
      return f(BlockFormat<Blocks::kQ8_0>{});
    case Blocks::kQ4_K:
      return f(BlockFormat<Blocks::kQ4_K>{});
    case Blocks::kQ5_K:
      return f(BlockFormat<Blocks::kQ5_K>{});
    case Blocks::kQ6_K:
      return f(BlockFormat<Blocks::kQ6_K>{});
  }
}

// Fewer sizes than for other weights: each format has its own kernels. More rows are several blocks
// of 8, which take about a quarter more time than larger ones would, for unpacking.
template <class F>
void dispatch_block_rows(int64_t rows, F&& f) {
  if (rows <= 1) return f(std::integral_constant<int, 1>{});
  if (rows <= 4) return f(std::integral_constant<int, 4>{});
  f(std::integral_constant<int, 8>{});
}

}  // namespace

void queue_blocks_product(const Product& product, cudaStream_t stream) {
  dispatch_blocks(static_cast<Blocks>(product.weight.blocks), [&](auto format) {
    dispatch_block_rows(product.rows, [&](auto rows) {
      launch<decltype(format)::value, decltype(rows)::value>(product, stream);
    });
  });
}

}  // namespace exn::cuda
