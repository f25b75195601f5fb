// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/linear_blocks.cuh>

#include "linear.h"

namespace exn::cuda {
namespace {

template <Blocks FORMAT>
void launch(const Product& product, const LinearInput<uint8_t>& input, cudaStream_t stream) {
  using Shape = BlockTileShape<FORMAT>;
  const dim3 grid =
      linear_grid(product.rows, kBlockRows, product.tiles() / input.tile_step, product.splits);
  allow_shared(linear_blocks_kernel<FORMAT>, Shape::kSharedBytes);
  EXN_LAUNCH(linear_blocks_kernel<FORMAT>, grid, kBlockTileThreads, Shape::kSharedBytes, stream,
             input, product.output);
}

void queue_tiles(exn::Blocks blocks, const Product& product, const LinearInput<uint8_t>& input,
                 cudaStream_t stream) {
  with_blocks(static_cast<Blocks>(blocks),
              [&](auto format) { launch<decltype(format)::value>(product, input, stream); });
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
