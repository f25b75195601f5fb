// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/ssm_step.cuh>

#include "backend.h"
#include "base/args/ssm_step.h"
#include "dispatch.h"
#include "words.h"

namespace exn::cuda {
namespace {

constexpr int kMostLanes = 32;
static_assert(2 * 4 * kMostLanes == EXN_SSM_MOST_STATES, "two quads of a warp's threads");

SsmRows rows_of(const Matrix& m) { return {m.data, m.stride, storage_of(m.dtype)}; }

dim3 grid_of(const SsmStepTask& task, int64_t channels) {
  constexpr int64_t kMostGridY = 65535;
  return dim3(grid_for(ceil_div(task.channels, channels)),
              static_cast<unsigned>(task.states < kMostGridY ? task.states : kMostGridY));
}

}  // namespace

exn_status ssm_step(const SsmStepArgs& args, Workspace& workspace, exn_stream stream) {
  if (workspace.counting()) return EXN_OK;
  SsmStepTask task;
  task.rows = args.x.rows;
  task.channels = args.x.cols;
  task.states = args.states;
  task.width = static_cast<int>(args.width);
  task.lanes = 1;
  while (task.lanes < kMostLanes && 4 * task.lanes < task.width) task.lanes *= 2;
  task.vectors =
      args.width % 4 == 0 && widest_word({address_of(args.state), address_of(args.weight)}) == 16;
  task.x = rows_of(args.x);
  task.dt = rows_of(args.dt);
  task.b = rows_of(args.b);
  task.c = rows_of(args.c);
  task.z = rows_of(args.z);
  task.out = args.out.data;
  task.out_stride = args.out.stride;
  task.out_storage = storage_of(args.out.dtype);
  task.state = args.state;
  task.weight = args.weight;
  task.bias = args.bias;
  task.skip = args.skip;
  task.sequence = args.sequence;
  task.active = args.active;
  return run_on(args, "ssm_step's kernel", [&] {
    if (task.rows == 0) return;
    const cudaStream_t queue = stream_of(stream);
    const dim3 by_lanes = grid_of(task, kSsmThreads / task.lanes);
    if (args.stage == EXN_SSM_CONV && task.width == 4 && task.vectors) {
      EXN_LAUNCH(ssm_conv_kernel, grid_of(task, kSsmThreads), kSsmThreads, 0, queue, task);
    } else if (args.stage == EXN_SSM_CONV) {
      EXN_LAUNCH(ssm_conv_any_kernel, grid_of(task, kSsmThreads), kSsmThreads, 0, queue, task);
    } else if (task.width <= 4 * kMostLanes) {
      EXN_LAUNCH((ssm_scan_kernel<1>), by_lanes, kSsmThreads, 0, queue, task);
    } else {
      EXN_LAUNCH((ssm_scan_kernel<2>), by_lanes, kSsmThreads, 0, queue, task);
    }
  });
}

}  // namespace exn::cuda
