// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/elr.cuh>

#include "backend.h"
#include "base/args/elr.h"
#include "dispatch.h"

namespace exn::cuda {

exn_status elr(const ElrArgs& args, Workspace& workspace, exn_stream stream) {
  const bool mean = args.reduction == EXN_REDUCE_MEAN;
  const bool mean_loss = mean && args.loss.data != nullptr;
  auto* count = workspace.take<LabelCount<float>>(mean ? 1 : 0);
  float* row_loss = workspace.take<float>(mean_loss ? args.logits.rows : 0);
  if (workspace.counting()) return EXN_OK;
  const int wide_labels = args.labels.dtype == DType::kI64;
  const int64_t rows = args.logits.rows;
  return run_on(args, "elr_kernel", [&] {
    const cudaStream_t queue = stream_of(stream);
    if (mean) {
      EXN_LAUNCH((count_labels_kernel<float>), 1, kCountThreads, 0, queue, args.labels.data,
                 wide_labels, rows, args.ignore_index, count);
    }
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
      task.targets = static_cast<float*>(args.targets.data);
      task.targets_stride = args.targets.stride;
      task.samples = args.targets.rows;
      task.beta = args.beta;
      task.lambda = args.lambda;
      task.row_loss = mean ? (mean_loss ? row_loss : nullptr) : static_cast<float*>(args.loss.data);
      task.grad = static_cast<T*>(args.grad.data);
      task.grad_stride = args.grad.stride;
      task.count = mean ? count : nullptr;
      EXN_LAUNCH((elr_kernel<T>), grid_for(rows), kTileThreads, 0, queue, task);
    });
    if (mean_loss) {
      EXN_LAUNCH((mean_loss_kernel<float>), 1, kCountThreads, 0, queue,
                 static_cast<const float*>(row_loss), rows,
                 static_cast<const LabelCount<float>*>(count), static_cast<float*>(args.loss.data));
    }
  });
}

}  // namespace exn::cuda
