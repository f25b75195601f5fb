// SPDX-License-Identifier: Apache-2.0
#include "exit_head.h"

namespace exn::cuda {
namespace {

template <Blocks FORMAT>
void launch(const LinearInput<uint8_t>& input, const HeadOutput& output, cudaStream_t stream) {
  using Shape = BlockTileShape<FORMAT>;
  allow_shared(exit_head_blocks_kernel<FORMAT>, Shape::kSharedBytes);
  EXN_LAUNCH(exit_head_blocks_kernel<FORMAT>,
             linear_grid(input.rows, kBlockRows, output.tiles, input.splits), kBlockTileThreads,
             Shape::kSharedBytes, stream, input, output);
}

}  // namespace

void queue_blocks_head(exn::Blocks blocks, const LinearInput<uint8_t>& input,
                       const HeadOutput& output, cudaStream_t stream) {
  with_blocks(static_cast<Blocks>(blocks),
              [&](auto format) { launch<decltype(format)::value>(input, output, stream); });
}

}  // namespace exn::cuda
