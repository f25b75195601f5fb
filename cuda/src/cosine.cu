// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/cosine.cuh>

#include "backend.h"
#include "base/args/cosine.h"
#include "dispatch.h"

namespace exn::cuda {

exn_status cosine(const CosineArgs& args, Workspace& workspace, exn_stream stream) {
  if (workspace.counting()) return EXN_OK;
  exn_status status = EXN_OK;
  dispatch_float(args.a.dtype, [&](auto tag) {
    using T = type_of<decltype(tag)>;
    CosineTask<T> task;
    task.a = static_cast<const T*>(args.a.data);
    task.b = static_cast<const T*>(args.b.data);
    task.rows = args.a.rows;
    task.columns = args.a.cols;
    task.a_stride = args.a.stride;
    task.b_stride = args.b.stride;
    task.out = args.out;
    status = run_on(args, "cosine_kernel", [&] {
      if (task.rows == 0) return;
      EXN_LAUNCH((cosine_kernel<T>), grid_for(task.rows), kTileThreads, 0, stream_of(stream), task);
    });
  });
  return status;
}

}  // namespace exn::cuda
