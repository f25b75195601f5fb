// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/norm.cuh>

#include "backend.h"
#include "base/args/norm.h"
#include "dispatch.h"
#include "linear.h"

namespace exn::cuda {
namespace {

// Rows of up to so many columns per thread of a block go kNarrowRows to a block.
constexpr int kNarrowItems = 8;
constexpr int kNarrowRows = 4;
constexpr int kWideRows = 2;

template <class T, class O>
void launch(const NormArgs& args, cudaStream_t stream) {
  NormTask<T, O> task;
  task.in = static_cast<const T*>(args.input.data);
  task.in_stride = args.input.stride;
  task.out = static_cast<O*>(args.out.data);
  task.out_stride = args.out.stride;
  task.rows = args.input.rows;
  task.columns = args.input.cols;
  task.norm = {norm_of(args.norm), args.eps, args.weight, args.bias};
  const bool are_many = task.rows >= 2 * sm_count(args.device);
  if (are_many && task.columns <= kNarrowItems * kTileThreads) {
    EXN_LAUNCH((norm_rows_kernel<T, O, kNarrowItems, kNarrowRows>),
               static_cast<unsigned>(ceil_div(task.rows, kNarrowRows)), kTileThreads, 0, stream,
               task);
  } else if (are_many && task.columns <= kTile<T>) {
    EXN_LAUNCH((norm_rows_kernel<T, O, kTileItems<T>, kWideRows>),
               static_cast<unsigned>(ceil_div(task.rows, kWideRows)), kTileThreads, 0, stream,
               task);
  } else {
    EXN_LAUNCH((norm_kernel<T, O>), static_cast<unsigned>(task.rows), kTileThreads, 0, stream,
               task);
  }
}

}  // namespace

exn_status norm(const NormArgs& args, Workspace& workspace, exn_stream stream) {
  const exn_status status = check_rows(args, "input", args.input.rows);
  if (status != EXN_OK) return status;
  if (workspace.counting()) return EXN_OK;
  return run_on(args, "norm_kernel", [&] {
    if (args.input.rows == 0) return;
    dispatch_float(args.input.dtype, [&](auto in_tag) {
      using T = type_of<decltype(in_tag)>;
      dispatch_float(args.out.dtype, [&](auto out_tag) {
        launch<T, type_of<decltype(out_tag)>>(args, stream_of(stream));
      });
    });
  });
}

}  // namespace exn::cuda
