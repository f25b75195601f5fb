// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/perp_grad.cuh>

#include "backend.h"
#include "base/args/perp_grad.h"
#include "dispatch.h"

namespace exn::cuda {
namespace {

constexpr int64_t kMostParts =
    4096;  // blocks of the summing kernels; the workspace holds as many results
constexpr int64_t kBlocksPerSm = 4;  // what their launch bounds promise

}  // namespace

exn_status perp_grad(const PerpGradArgs& args, Workspace& workspace, exn_stream stream) {
  exn_status status = EXN_OK;
  dispatch_real(args.weight.dtype, [&](auto tag) {
    using T = type_of<decltype(tag)>;
    using A = acc_t<T>;
    PerpGradTask<T> task;
    task.weight = static_cast<const T*>(args.weight.data);
    task.grad = static_cast<const T*>(args.grad.data);
    task.out = static_cast<T*>(args.out.data);
    task.size = args.weight.size;
    task.keep_norm = args.form == EXN_PERP_CODE;
    const int64_t tiles = ceil_div(task.size, kTile<T> / 2);
    const int64_t most_parts = tiles < kMostParts ? tiles : kMostParts;
    task.dots = workspace.take<Dots<A>>(most_parts);
    task.residuals = workspace.take<A>(most_parts);
    task.projection = workspace.take<Projection<A>>(1);
    if (workspace.counting()) return;
    status = run_on(args, "perp_grad's five kernels", [&] {
      if (task.size == 0) return;
      const int64_t at_once = kBlocksPerSm * sm_count(args.device);
      const int parts = static_cast<int>(most_parts < at_once ? most_parts : at_once);
      const cudaStream_t queue = stream_of(stream);
      EXN_LAUNCH((perp_dots_kernel<T>), parts, kTileThreads, 0, queue, task);
      EXN_LAUNCH((perp_projection_kernel<T>), 1, kPerpMergeThreads, 0, queue, task, parts);
      EXN_LAUNCH((perp_residual_kernel<T>), parts, kTileThreads, 0, queue, task);
      EXN_LAUNCH((perp_norm_kernel<T>), 1, kPerpMergeThreads, 0, queue, task, parts);
      EXN_LAUNCH((perp_write_kernel<T>), grid_for(tiles), kTileThreads, 0, queue, task);
    });
  });
  return status;
}

}  // namespace exn::cuda
