// SPDX-License-Identifier: Apache-2.0
#include "select.h"

#include "dispatch.h"

namespace exn::cuda {

exn_status select(const SelectArgs& args, Workspace& workspace, exn_stream stream) {
  if (workspace.counting()) return EXN_OK;
  return run_on(args.device, OpName::select, "select_kernel", [&] {
    if (!args.selection.writes()) return;
    dispatch_float(args.scores.dtype, [&](auto tag) {
      using T = type_of<decltype(tag)>;
      SelectTask<T> task;
      task.scores = static_cast<const T*>(args.scores.data);
      task.rows = args.scores.rows;
      task.columns = args.scores.cols;
      task.stride = args.scores.stride;
      task.limit = args.limit;
      task.selection = selection_of(args.selection);
      queue_select(task, stream_of(stream));
    });
  });
}

}  // namespace exn::cuda
