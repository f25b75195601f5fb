// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/token_bias.cuh>

#include "backend.h"
#include "base/args/token_bias.h"
#include "dispatch.h"

namespace exn::cuda {
namespace {

// A chunk of ids for each block x, and the rows spread over the y.
dim3 grid_of(int64_t rows, int64_t count) {
  constexpr int64_t kMostParts = 65535;
  const int64_t at_once = count < kTokenBiasThreads ? kTokenBiasThreads / count : 1;
  const int64_t parts = ceil_div(rows, at_once * kTokenBiasTurns);
  return dim3(static_cast<unsigned>(ceil_div(count, kTokenBiasThreads)),
              static_cast<unsigned>(parts < kMostParts ? parts : kMostParts));
}

}  // namespace

exn_status token_bias(const TokenBiasArgs& args, Workspace& workspace, exn_stream stream) {
  if (workspace.counting()) return EXN_OK;
  return run_on(args, "token_bias_kernel", [&] {
    if (args.logits.rows == 0 || args.count == 0) return;
    dispatch_float(args.logits.dtype, [&](auto tag) {
      using T = type_of<decltype(tag)>;
      TokenBiasTask<T> task;
      task.logits = static_cast<T*>(args.logits.data);
      task.stride = args.logits.stride;
      task.rows = args.logits.rows;
      task.columns = args.logits.cols;
      task.ids = args.ids;
      task.count = args.count;
      task.mask = args.mask;
      task.scale = args.scale;
      task.add = args.add;
      EXN_LAUNCH((token_bias_kernel<T>), grid_of(task.rows, task.count), kTokenBiasThreads, 0,
                 stream_of(stream), task);
    });
  });
}

}  // namespace exn::cuda
