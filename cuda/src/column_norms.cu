// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/column_norms.cuh>

#include "backend.h"
#include "base/args/column_norms.h"
#include "dispatch.h"

namespace exn::cuda {

exn_status column_norms(const ColumnNormsArgs& args, Workspace& workspace, exn_stream stream) {
  exn_status status = EXN_OK;
  dispatch_float(args.x.dtype, [&](auto tag) {
    using T = type_of<decltype(tag)>;
    ColumnNormsTask<T> task;
    task.x = static_cast<const T*>(args.x.data);
    task.rows = args.x.rows;
    task.columns = args.x.cols;
    task.stride = args.x.stride;
    task.active = args.active;
    task.sums = args.sums;
    task.norms = args.norms;
    task.root = args.root;
    task.accumulate = args.given.accumulate;
    const int64_t tiles = ceil_div(task.columns, kColumnTile<T>);
    const int64_t parts = ceil_div(task.rows, column_split_rows<T>(task.rows));
    task.parts = workspace.take<float>(parts > 1 ? parts * task.columns : 0);
    task.tickets = workspace.take<unsigned long long>(parts > 1 ? tiles : 0);
    if (workspace.counting()) return;
    status = run_on(args, "column_norms_kernel", [&] {
      if (tiles == 0) return;
      const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(parts > 1 ? parts : 1));
      EXN_LAUNCH((column_norms_kernel<T>), grid, kColumnThreads, 0, stream_of(stream), task);
    });
  });
  return status;
}

}  // namespace exn::cuda
