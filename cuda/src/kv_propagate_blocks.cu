// SPDX-License-Identifier: Apache-2.0
#include "kv_propagate.h"

namespace exn::cuda {
namespace {

// Of a block that takes tiles of all these formats.
int shared_bytes(const PropagateTask& task, const PropagateLayers& layers) {
  int most = 0;
  for (int64_t i = 0; i < task.layer_count; ++i) {
    for (const Blocks blocks : layers.layer[i].format) {
      const int bytes = AnyBlockTile::shared_bytes(blocks);
      if (bytes > most) most = bytes;
    }
  }
  return most;
}

}  // namespace

void queue_blocks_propagation(const PropagateTask& task, const PropagateLayers& layers,
                              cudaStream_t stream) {
  const int bytes = shared_bytes(task, layers);
  allow_shared(kv_propagate_blocks_kernel<BlockInputShape>, bytes);
  EXN_LAUNCH(kv_propagate_blocks_kernel<BlockInputShape>,
             linear_grid(task.rows, kBlockRows, task.layer_count * task.tiles, task.splits),
             kBlockTileThreads, bytes, stream, task, layers);
}

}  // namespace exn::cuda
