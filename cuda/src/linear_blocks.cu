// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/linear_blocks.cuh>

#include "linear.h"

namespace exn::cuda {
namespace {

template <Blocks FORMAT, int ROWS>
void launch(const Product& product, const LinearInput<uint8_t>& input, cudaStream_t stream) {
  using Shape = BlockTileShape<FORMAT, ROWS>;
  const dim3 grid =
      linear_grid(product.rows, ROWS, product.tiles() / input.tile_step, product.splits);
  allow_shared(linear_blocks_kernel<FORMAT, ROWS>, Shape::kSharedBytes);
  EXN_LAUNCH((linear_blocks_kernel<FORMAT, ROWS>), grid, kBlockTileThreads, Shape::kSharedBytes,
             stream, input, product.output);
}

void queue_tiles(exn::Blocks blocks, const Product& product, const LinearInput<uint8_t>& input,
                 cudaStream_t stream) {
  with_blocks(static_cast<Blocks>(blocks), [&](auto format) {
    dispatch_block_rows(product.rows, [&](auto rows) {
      launch<decltype(format)::value, decltype(rows)::value>(product, input, stream);
    });
  });
}

}  // namespace

void queue_blocks_product(const Product& product, cudaStream_t stream) {
  LinearInput<uint8_t> input = input_of<uint8_t>(product);
  if (product.launches() == 1) return queue_tiles(product.weight.blocks, product, input, stream);
  input.tile_step = 2;
  queue_tiles(product.weight.blocks, product, input, stream);
  input.first_tile = 1;
  queue_tiles(product.second.blocks, product, input, stream);
}

}  // namespace exn::cuda
