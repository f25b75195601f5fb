// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/row_stats.cuh>

#include <algorithm>

#include "backend.h"
#include "base/args/row_stats.h"
#include "dispatch.h"

namespace exn::cuda {
namespace {

constexpr int64_t kMostGridRows = 65535;  // what a launch takes in its second dimension

template <class T, class Normalizer, class Accurate>
void launch(const RowStatsTask<T>& task, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(task.tiles),
                  static_cast<unsigned>(std::min(task.rows, kMostGridRows)));
  EXN_LAUNCH((row_stats_tile_kernel<T, Normalizer, Accurate>), grid, kTileThreads, 0, stream, task);
  if (task.tiles == 1) return;
  EXN_LAUNCH((merge_stats_kernel<Accurate, LogitLabels<T>>), grid_for(task.rows), kMergeThreads, 0,
             stream, TileStates{task.states, task.draws, task.tiles, task.rows, 0},
             LogitLabels<T>{task.logits, task.stride}, task.options, task.out);
}

}  // namespace

exn_status row_stats(const RowStatsArgs& args, Workspace& workspace, exn_stream stream) {
  exn_status status = EXN_OK;
  dispatch_float(args.logits.dtype, [&](auto tag) {
    using T = type_of<decltype(tag)>;
    RowStatsTask<T> task;
    task.logits = static_cast<const T*>(args.logits.data);
    task.rows = args.logits.rows;
    task.columns = args.logits.cols;
    task.stride = args.logits.stride;
    task.tiles = ceil_div(task.columns, kStatsTile<T>);
    task.options =
        stats_options(args.out, args.normalizer, args.temperature, args.softcap, task.columns);
    task.states = workspace.take<StatsState>(task.tiles > 1 ? task.rows * task.tiles : 0);
    task.draws = nullptr;
    if (args.out.draw != nullptr)
      task.draws = workspace.take<Draw>(task.tiles > 1 ? task.rows * task.tiles : 0);
    task.out = targets_of(args.out, task.columns);
    if (workspace.counting()) return;
    status = run_on(args, "row_stats_tile_kernel, merge_stats_kernel", [&] {
      if (task.rows == 0) return;
      if (args.normalizer == EXN_SOFTMAX) {
        launch<T, FastSoftmax, Softmax<float>>(task, stream_of(stream));
      } else {
        launch<T, StableMax<float>, StableMax<float>>(task, stream_of(stream));
      }
    });
  });
  return status;
}

}  // namespace exn::cuda
