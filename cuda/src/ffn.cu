// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/ffn.cuh>

#include "backend.h"
#include "base/args/ffn.h"
#include "dispatch.h"
#include "linear.h"

namespace exn::cuda {
namespace {

Activation activation_of(int32_t activation) {
  switch (activation) {
    case EXN_ACT_GELU:
      return Activation::kGelu;
    case EXN_ACT_GELU_TANH:
      return Activation::kGeluTanh;
    default:
      return Activation::kSilu;
  }
}

// Both products, and what passes from kernel to kernel, for as many rows as are taken at once.
struct FfnSpace {
  Product up;  // with a gate: the gate beside up
  Product down;
  float* x;                     // [rows, padded D]
  float* a;                     // [rows, padded F]
  float* partials;              // of up, then of down
  unsigned long long* tickets;  // of up
  int32_t* list;                // [rows]
  int32_t* count;

  FfnSpace(const FfnArgs& args, Workspace& workspace) {
    const int64_t rows = args.hidden.rows < kRowsAtOnce ? args.hidden.rows : kRowsAtOnce;
    const bool gated = args.gate_weight.data != nullptr;
    up.weight = gated ? args.gate_weight : args.up_weight;
    if (gated) up.second = args.up_weight;
    down.weight = args.down_weight;
    up.rows = down.rows = rows;
    up.splits = depth_splits(args.device, up);
    down.splits = depth_splits(args.device, down);
    const int64_t of_up = up.has_splits() ? up.partials() : 0;
    x = workspace.take<float>(rows * padded(args.hidden.cols));
    a = workspace.take<float>(rows * padded(args.up_weight.rows));
    partials = workspace.take<float>(of_up > down.partials() ? of_up : down.partials());
    tickets = workspace.take<unsigned long long>(
        up.has_splits() ? tickets_of(rows, up.partial_stride()) : 0);
    list = workspace.take<int32_t>(rows);
    count = workspace.take<int32_t>(1);

    up.x = x;
    up.x_stride = padded(args.hidden.cols);
    up.row_count = count;
    up.output.bias = gated ? args.gate_bias : args.up_bias;
    up.output.second_bias = args.up_bias;
    up.output.y = a;
    up.output.y_stride = up.output.y_columns = padded(args.up_weight.rows);
    up.output.activation = activation_of(args.activation);
    if (up.has_splits()) up.output.partials = {partials, up.partial_stride(), tickets};
    down.x = a;
    down.x_stride = padded(args.up_weight.rows);
    down.row_count = count;
    down.output.partials = {partials, down.partial_stride(), nullptr};
  }
};

template <class T>
void queue_input(const FfnArgs& args, const FfnSpace& space, int64_t first, cudaStream_t stream) {
  FfnRowsTask<T> task;
  task.prepare.in = static_cast<const T*>(args.hidden.data) + first * args.hidden.stride;
  task.prepare.in_stride = args.hidden.stride;
  task.prepare.out = space.x;
  task.prepare.out_stride = padded(args.hidden.cols);
  task.prepare.rows = space.up.rows;
  task.prepare.columns = args.hidden.cols;
  task.prepare.norm = norm_of(args.norm);
  task.prepare.eps = args.norm_eps;
  task.prepare.weight = args.norm_weight;
  task.prepare.bias = args.norm_bias;
  task.prepare.rounding = Rounding::kNone;
  task.skip = args.skip != nullptr ? args.skip + first : nullptr;
  task.out = static_cast<T*>(args.out.data) + first * args.out.stride;
  task.out_stride = args.out.stride;
  task.list = space.list;
  task.count = space.count;
  task.cosine = args.cosine != nullptr ? args.cosine + first : nullptr;
  task.branch_cosine = args.branch_cosine != nullptr ? args.branch_cosine + first : nullptr;
  EXN_LAUNCH((ffn_rows_kernel<T>), static_cast<unsigned>(task.prepare.rows), kTileThreads, 0,
             stream, task);
}

template <class T>
void queue_finish(const FfnArgs& args, const FfnSpace& space, int64_t first, cudaStream_t stream) {
  FfnFinishTask<T> task;
  task.partials = space.down.output.partials.data;
  task.partial_stride = space.down.output.partials.stride;
  task.splits = space.down.splits;
  task.bias = args.down_bias;
  task.hidden = static_cast<const T*>(args.hidden.data) + first * args.hidden.stride;
  task.hidden_stride = args.hidden.stride;
  task.out = static_cast<T*>(args.out.data) + first * args.out.stride;
  task.out_stride = args.out.stride;
  task.rows = space.down.rows;
  task.columns = args.hidden.cols;
  task.list = space.list;
  task.count = space.count;
  task.cosine = args.cosine != nullptr ? args.cosine + first : nullptr;
  task.branch_cosine = args.branch_cosine != nullptr ? args.branch_cosine + first : nullptr;
  EXN_LAUNCH((ffn_finish_kernel<T>), static_cast<unsigned>(task.rows), kFinishThreads, 0, stream,
             task);
}

void queue_rows(const FfnArgs& args, FfnSpace space, int64_t first, cudaStream_t stream) {
  const int64_t left = args.hidden.rows - first;
  if (left < space.up.rows) space.up.rows = space.down.rows = left;
  dispatch_float(args.hidden.dtype, [&](auto tag) {
    using T = type_of<decltype(tag)>;
    queue_input<T>(args, space, first, stream);
    queue_product(space.up, stream);
    queue_product(space.down, stream);
    queue_finish<T>(args, space, first, stream);
  });
}

}  // namespace

exn_status ffn(const FfnArgs& args, Workspace& workspace, exn_stream stream) {
  const FfnSpace space(args, workspace);
  if (workspace.counting()) return EXN_OK;
  return run_on(args, "the kernels of ffn", [&] {
    for (int64_t first = 0; first < args.hidden.rows; first += kRowsAtOnce) {
      queue_rows(args, space, first, stream_of(stream));
    }
  });
}

}  // namespace exn::cuda
