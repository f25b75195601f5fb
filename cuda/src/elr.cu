// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/elr.cuh>

#include "backend.h"
#include "base/args/elr.h"
#include "dispatch.h"

namespace exn::cuda {
namespace {

// As few registers as hold a row, and for longer ones as many blocks as the caches feed.
template <class T>
void launch_elr(const ElrTask<T>& task, cudaStream_t queue) {
  const unsigned blocks = grid_for(task.rows);
  if (task.columns <= kTileThreads * kElrItems) {
    EXN_LAUNCH((elr_kernel<T, HeldElrRow<T, kElrItems>>), blocks, kTileThreads, 0, queue, task);
  } else if (task.columns <= kTileThreads * kElrHeldItems) {
    EXN_LAUNCH((elr_kernel<T, HeldElrRow<T, kElrHeldItems>>), blocks, kTileThreads, 0, queue, task);
  } else {
    EXN_LAUNCH((elr_kernel<T, StreamedElrRow<T, kElrItems>>), blocks, kTileThreads, 0, queue, task);
  }
}

}  // namespace

exn_status elr(const ElrArgs& args, Workspace& workspace, exn_stream stream) {
  const bool mean = args.reduction == EXN_REDUCE_MEAN;
  const bool mean_loss = mean && args.loss.data != nullptr;
  auto* count = workspace.take<LabelCount<float>>(mean ? 1 : 0);
  float* row_loss = workspace.take<float>(mean_loss ? args.logits.rows : 0);
  auto* repeats = workspace.take<uint8_t>(args.logits.rows);
  if (workspace.counting()) return EXN_OK;
  const int wide_labels = args.labels.dtype == DType::kI64;
  const int64_t rows = args.logits.rows;
  return run_on(args, "elr_kernel", [&] {
    const cudaStream_t queue = stream_of(stream);
    // Without rows, too: a mean of none is asked for what it was divided by.
    EXN_LAUNCH(elr_prepare_kernel, grid_for(rows < 1 ? 1 : ceil_div(rows, kCountThreads)),
               kCountThreads, 0, queue, args.index, rows, repeats, args.labels.data, wide_labels,
               args.ignore_index, mean ? count : nullptr);
    dispatch_float(args.logits.dtype, [&](auto tag) {
      using T = type_of<decltype(tag)>;
      if (rows == 0) return;
      ElrTask<T> task;
      task.logits = static_cast<const T*>(args.logits.data);
      task.rows = rows;
      task.columns = args.logits.cols;
      task.stride = args.logits.stride;
      task.labels = args.labels.data;
      task.wide_labels = wide_labels;
      task.ignore_index = args.ignore_index;
      task.index = args.index;
      task.repeats = repeats;
      task.targets = static_cast<float*>(args.targets.data);
      task.targets_stride = args.targets.stride;
      task.samples = args.targets.rows;
      task.beta = args.beta;
      task.lambda = args.lambda;
      task.row_loss = mean ? (mean_loss ? row_loss : nullptr) : static_cast<float*>(args.loss.data);
      task.grad = static_cast<T*>(args.grad.data);
      task.grad_stride = args.grad.stride;
      task.count = mean ? count : nullptr;
      launch_elr(task, queue);
    });
    if (mean_loss) {
      EXN_LAUNCH((mean_loss_kernel<float>), 1, kCountThreads, 0, queue,
                 static_cast<const float*>(row_loss), rows,
                 static_cast<const LabelCount<float>*>(count), static_cast<float*>(args.loss.data));
    }
  });
}

}  // namespace exn::cuda
