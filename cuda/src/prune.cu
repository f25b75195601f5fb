// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/prune.cuh>

#include <type_traits>

#include "backend.h"
#include "base/args/prune.h"
#include "dispatch.h"

namespace exn::cuda {
namespace {

constexpr int64_t kCountBlocks = 8;  // on an SM: each adds up its counts in global memory

template <class Task>
using element_of = typename std::decay_t<Task>::Element;

template <class T>
PruneTask<T> task_of(const PruneTensor& tensor, const PruneMaskArgs& args) {
  PruneTask<T> task;
  task.weight = static_cast<const T*>(tensor.weight);
  task.norm = tensor.norm;
  task.mask = tensor.mask;
  task.rows = tensor.rows;
  task.cols = tensor.cols;
  task.stride = tensor.stride;
  task.mask_stride = tensor.mask_stride;
  task.largest = args.largest;
  task.first = args.first;
  return task;
}

int64_t tiles_of(const PruneTensor& tensor) {
  return tensor.rows * prune_tiles_of_row(tensor.cols);
}

// Tensors whose elements stand in one order.
struct Scope {
  const PruneTensor* tensors;
  int32_t count;
  int64_t wanted;

  int64_t tiles() const {
    int64_t all = 0;
    for (int32_t i = 0; i < count; ++i) all += tiles_of(tensors[i]);
    return all;
  }
};

// Calls f(task, tiles) for each tensor that has any.
template <class F>
void for_tensors(const Scope& scope, const PruneMaskArgs& args, F&& f) {
  for (int32_t i = 0; i < scope.count; ++i) {
    const PruneTensor& tensor = scope.tensors[i];
    const int64_t tiles = tiles_of(tensor);
    if (tiles == 0) continue;
    dispatch_float(tensor.dtype,
                   [&](auto tag) { f(task_of<type_of<decltype(tag)>>(tensor, args), tiles); });
  }
}

void queue_scope(const Scope& scope, const PruneMaskArgs& args, PruneSearch* search, int* equal,
                 cudaStream_t queue) {
  const int64_t all = scope.tiles(), at_once = kCountBlocks * sm_count(args.device);
  if (all == 0) return;
  cudaMemsetAsync(search, 0, sizeof *search, queue);
  for (int round = 0; round < kPruneRounds; ++round) {
    for_tensors(scope, args, [&](const auto& task, int64_t tiles) {
      EXN_LAUNCH((prune_count_kernel<element_of<decltype(task)>>),
                 grid_for(tiles < at_once ? tiles : at_once), kTileThreads, 0, queue, task, search,
                 round);
    });
    EXN_LAUNCH(prune_digit_kernel, 1, kTileThreads, 0, queue, search, round,
               static_cast<int>(scope.wanted));
  }
  int64_t before = 0;
  for_tensors(scope, args, [&](const auto& task, int64_t tiles) {
    EXN_LAUNCH((prune_mark_kernel<element_of<decltype(task)>>), grid_for(tiles), kTileThreads, 0,
               queue, task, search, equal + before);
    before += tiles;
  });
  EXN_LAUNCH(prune_number_kernel, 1, kTileThreads, 0, queue, search, args.largest ? 1 : 0, equal,
             all);
  before = 0;
  for_tensors(scope, args, [&](const auto& task, int64_t tiles) {
    EXN_LAUNCH((prune_settle_kernel<element_of<decltype(task)>>), grid_for(tiles), kTileThreads, 0,
               queue, task, search, equal + before, all - before - tiles);
    before += tiles;
  });
}

template <int BYTES>
void queue_zeros(const PruneZeros& task, cudaStream_t queue) {
  EXN_LAUNCH((prune_apply_kernel<BYTES>),
             grid_for(task.rows * ceil_div(task.cols, kZeroTile<BYTES>)), kTileThreads, 0, queue,
             task);
}

}  // namespace

exn_status prune_mask(const PruneMaskArgs& args, Workspace& workspace, exn_stream stream) {
  const bool by_row = args.scope == EXN_PRUNE_ROW;
  const Scope all = {args.tensors, args.tensor_count, args.wanted};
  auto* const search = workspace.take<PruneSearch>(by_row ? 0 : 1);
  int* const equal = workspace.take<int>(by_row ? 0 : all.tiles());
  if (workspace.counting()) return EXN_OK;
  return run_on(args, "prune_mask's kernels", [&] {
    const cudaStream_t queue = stream_of(stream);
    if (args.scope == EXN_PRUNE_GLOBAL) return queue_scope(all, args, search, equal, queue);
    for (int32_t i = 0; i < args.tensor_count; ++i) {
      const Scope one = {args.tensors + i, 1, args.tensors[i].wanted};
      if (!by_row) {
        queue_scope(one, args, search, equal, queue);
        continue;
      }
      for_tensors(one, args, [&](const auto& task, int64_t) {
        EXN_LAUNCH((prune_rows_kernel<element_of<decltype(task)>>), grid_for(task.rows),
                   kTileThreads, 0, queue, task, static_cast<int>(one.wanted));
      });
    }
  });
}

exn_status prune_apply(const PruneApplyArgs& args, Workspace& workspace, exn_stream stream) {
  if (workspace.counting()) return EXN_OK;
  return run_on(args, "prune_apply_kernel", [&] {
    for (int32_t i = 0; i < args.tensor_count; ++i) {
      const PruneApplyTensor& tensor = args.tensors[i];
      if (tensor.rows == 0 || tensor.cols == 0) continue;
      for (int32_t k = 0; k < tensor.count; ++k) {
        const PruneValues& values = tensor.values[k];
        const PruneZeros task = {tensor.mask, values.data,        tensor.rows,
                                 tensor.cols, tensor.mask_stride, values.stride};
        if (values.element == 2) {
          queue_zeros<2>(task, stream_of(stream));
        } else if (values.element == 4) {
          queue_zeros<4>(task, stream_of(stream));
        } else {
          queue_zeros<8>(task, stream_of(stream));
        }
      }
    }
  });
}

}  // namespace exn::cuda
