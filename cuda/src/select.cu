// SPDX-License-Identifier: Apache-2.0
#include "base/args/select.h"
#include "select.h"

#include "dispatch.h"

namespace exn::cuda {
namespace {

// Columns up to which the block that selects sums up the heads as well. Of longer rows, many blocks
// make the sums before.
constexpr int64_t kSummedColumns = 8192;

template <class T>
void queue_summed(const SelectTask<T>& task, float* sums, int64_t stride, const SelectTeams& teams,
                  cudaStream_t stream) {
  if (task.rows == 0) return;
  EXN_LAUNCH((sum_heads_kernel<T>), grid_for(task.rows * ceil_div(task.columns, kSumTile)),
             kSumThreads, 0, stream, task, sums, stride);
  SelectTask<float> summed;
  summed.scores = sums;
  summed.rows = task.rows;
  summed.heads = 1;
  summed.columns = task.columns;
  summed.stride = stride;
  summed.limit = task.limit;
  summed.selection = task.selection;
  queue_select(summed, teams, stream);
}

}  // namespace

exn_status select(const SelectArgs& args, Workspace& workspace, exn_stream stream) {
  const bool sums_first = args.heads > 1 && args.scores.cols > kSummedColumns;
  const int64_t sums_stride = ceil_div(args.scores.cols, kKeyGroup) * kKeyGroup;
  auto* const sums = workspace.take<float>(sums_first ? args.rows() * sums_stride : 0);
  const SelectTeams teams = take_teams(args.rows(), args.scores.cols, args.device, workspace);
  if (workspace.counting()) return EXN_OK;
  return run_on(args, "select_kernel or select_team_kernel", [&] {
    if (!args.selection.writes()) return;
    dispatch_float(args.scores.dtype, [&](auto tag) {
      using T = type_of<decltype(tag)>;
      SelectTask<T> task;
      task.scores = static_cast<const T*>(args.scores.data);
      task.rows = args.rows();
      task.heads = args.heads;
      task.columns = args.scores.cols;
      task.stride = args.scores.stride;
      task.limit = args.limit;
      task.selection = selection_of(args.selection);
      if (sums_first) {
        queue_summed(task, sums, sums_stride, teams, stream_of(stream));
      } else {
        queue_select(task, teams, stream_of(stream));
      }
    });
  });
}

}  // namespace exn::cuda
