// SPDX-License-Identifier: Apache-2.0
#include "exit_head.h"

namespace exn::cuda {
namespace {

template <Blocks FORMAT, int ROWS>
void launch(const LinearInput<uint8_t>& input, const HeadOutput& output, cudaStream_t stream) {
  using Shape = BlockTileShape<FORMAT, ROWS>;
  allow_shared(exit_head_blocks_kernel<FORMAT, ROWS>, Shape::kSharedBytes);
  EXN_LAUNCH((exit_head_blocks_kernel<FORMAT, ROWS>),
             linear_grid(input.rows, ROWS, output.tiles, input.splits), kBlockTileThreads,
             Shape::kSharedBytes, stream, input, output);
}

}  // namespace

void queue_blocks_head(exn::Blocks blocks, const LinearInput<uint8_t>& input,
                       const HeadOutput& output, cudaStream_t stream) {
  with_blocks(static_cast<Blocks>(blocks), [&](auto format) {
    dispatch_block_rows(input.rows, [&](auto rows) {
      launch<decltype(format)::value, decltype(rows)::value>(input, output, stream);
    });
  });
}

}  // namespace exn::cuda
