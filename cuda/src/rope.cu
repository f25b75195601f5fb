// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/rope.cuh>
#include <exeunt/cuda/rope_table.cuh>

#include <cstdio>

#include "backend.h"
#include "base/args/rope.h"
#include "dispatch.h"

namespace exn::cuda {
namespace {

// The kernel counts a row's pairs in 32 bits.
exn_status check_row(const RopeArgs& args) {
  const int64_t elements = args.input.heads * args.input.dim;
  if (elements <= INT32_MAX) return EXN_OK;
  char sentence[160];
  std::snprintf(sentence, sizeof sentence,
                "exn_rope: input has %lld elements in a row, the CUDA kernel takes at most %d",
                static_cast<long long>(elements), INT32_MAX);
  return fail(EXN_UNSUPPORTED, sentence);
}

}  // namespace

exn_status rope_table(const RopeTableArgs& args, Workspace& workspace, exn_stream stream) {
  if (workspace.counting()) return EXN_OK;
  return run_on(args, "rope_table_kernel", [&] {
    const int64_t count = args.positions * args.pairs;
    if (count == 0) return;
    const RopeTableTask task{args.table, args.positions, args.pairs, args.base, args.divisor};
    EXN_LAUNCH(rope_table_kernel, grid_for(ceil_div(count, kRopeTableThreads)), kRopeTableThreads,
               0, stream_of(stream), task);
  });
}

exn_status rope(const RopeArgs& args, Workspace& workspace, exn_stream stream) {
  exn_status status = check_rows(args, "input", args.input.rows);
  if (status == EXN_OK) status = check_row(args);
  if (status != EXN_OK) return status;
  if (workspace.counting()) return EXN_OK;
  return run_on(args, "rope_kernel", [&] {
    if (args.input.rows == 0 || args.input.heads == 0) return;
    dispatch_float(args.input.dtype, [&](auto tag) {
      using T = type_of<decltype(tag)>;
      RopeTask<T> task;
      task.in = static_cast<const T*>(args.input.data);
      task.out = static_cast<T*>(args.out.data);
      task.in_stride = args.input.stride;
      task.out_stride = args.out.stride;
      task.heads = args.input.heads;
      task.dim = args.input.dim;
      task.position = args.position;
      task.table = args.table.data;
      task.positions = args.table.positions;
      task.pairs = args.table.pairs;
      task.style = args.style == EXN_ROPE_HALF ? RopeStyle::kHalf : RopeStyle::kInterleaved;
      EXN_LAUNCH((rope_kernel<T>), static_cast<unsigned>(args.input.rows), kRopeThreads, 0,
                 stream_of(stream), task);
    });
  });
}

}  // namespace exn::cuda
