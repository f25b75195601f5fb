// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/stablemax.cuh>

#include "backend.h"
#include "base/args/stablemax.h"
#include "dispatch.h"

namespace exn::cuda {
namespace {

template <class T>
LogitRows<T> rows_of(const Matrix& logits) {
  return {static_cast<const T*>(logits.data), logits.rows, logits.cols, logits.stride,
          ceil_div(logits.cols, kTile<T>)};
}

template <class T>
bool is_held(const LogitRows<T>& logits) {
  return logits.tiles <= kHeldTiles<T>;
}

// The block for rows that it holds.
template <class T>
dim3 held_block(const LogitRows<T>& logits) {
  return dim3(kTileThreads, static_cast<unsigned>(logits.tiles));
}

// The workspace of rows that no block holds.
template <class T>
struct LongRows {
  using A = acc_t<T>;
  PartialState<A>* parts;
  RowState<A>* states;

  LongRows(const LogitRows<T>& logits, Workspace& workspace) {
    const bool needed = !is_held(logits);
    parts = workspace.take<PartialState<A>>(needed ? logits.rows * logits.tiles : 0);
    states = workspace.take<RowState<A>>(needed ? logits.rows : 0);
  }
};

// Calls f(first, count) for runs of rows: of long ones as many as the L2 cache still has when they
// are read again, of others as many as a grid has blocks.
template <class T, class F>
void for_runs(const LogitRows<T>& logits, int32_t device, F&& f) {
  const int64_t row_bytes = logits.columns * static_cast<int64_t>(sizeof(T));
  const int64_t fitting = is_held(logits) ? INT32_MAX : l2_bytes(device) / 2 / row_bytes;
  const int64_t step = fitting > 1 ? fitting : 1;
  for (int64_t first = 0; first < logits.rows; first += step) {
    f(first, first + step < logits.rows ? step : logits.rows - first);
  }
}

template <class T>
LogitRows<T> slice(LogitRows<T> logits, int64_t first, int64_t count) {
  logits.data += first * logits.stride;
  logits.rows = count;
  return logits;
}

template <class T, class Normalizer>
void queue_states(const LogitRows<T>& logits, const LongRows<T>& space, cudaStream_t stream) {
  using A = acc_t<T>;
  EXN_LAUNCH((tile_states_kernel<T, Normalizer>), grid_for(logits.rows * logits.tiles),
             kTileThreads, 0, stream, logits, space.parts);
  EXN_LAUNCH((merge_parts_kernel<Normalizer, A>),
             grid_for(ceil_div(logits.rows, kMergePartsThreads / kWarp)), kMergePartsThreads, 0,
             stream, static_cast<const PartialState<A>*>(space.parts), logits.tiles, logits.rows,
             space.states);
}

template <class T, class Normalizer>
void queue_forward(const StableMaxTask<T>& whole, const LongRows<T>& space, int32_t device,
                   cudaStream_t stream) {
  for_runs(whole.logits, device, [&](int64_t first, int64_t count) {
    StableMaxTask<T> task = whole;
    task.logits = slice(whole.logits, first, count);
    task.out += first * task.out_stride;
    if (is_held(task.logits)) {
      EXN_LAUNCH((stablemax_held_kernel<T, Normalizer>), static_cast<unsigned>(count),
                 held_block(task.logits), 0, stream, task);
      return;
    }
    queue_states<T, Normalizer>(task.logits, space, stream);
    EXN_LAUNCH((stablemax_kernel<T, Normalizer>), grid_for(count * task.logits.tiles), kTileThreads,
               0, stream, task);
  });
}

template <class T, class Normalizer>
void queue_cross_entropy(const CrossEntropyTask<T>& whole, const LongRows<T>& space, int32_t device,
                         cudaStream_t stream) {
  for_runs(whole.logits, device, [&](int64_t first, int64_t count) {
    CrossEntropyTask<T> task = whole;
    task.logits = slice(whole.logits, first, count);
    task.labels = static_cast<const char*>(whole.labels) + first * (whole.wide_labels ? 8 : 4);
    if (task.row_loss != nullptr) task.row_loss += first;
    if (task.grad != nullptr) task.grad += first * task.grad_stride;
    if (is_held(task.logits)) {
      EXN_LAUNCH((cross_entropy_held_kernel<T, Normalizer>), static_cast<unsigned>(count),
                 held_block(task.logits), 0, stream, task);
      return;
    }
    queue_states<T, Normalizer>(task.logits, space, stream);
    if (task.row_loss != nullptr) {
      EXN_LAUNCH((row_loss_kernel<T, Normalizer>), grid_for(ceil_div(count, kLossThreads)),
                 kLossThreads, 0, stream, task);
    }
    if (task.grad != nullptr) {
      EXN_LAUNCH((cross_entropy_kernel<T, Normalizer>), grid_for(count * task.logits.tiles),
                 kTileThreads, 0, stream, task);
    }
  });
}

}  // namespace

exn_status stablemax(const StableMaxArgs& args, Workspace& workspace, exn_stream stream) {
  exn_status status = EXN_OK;
  dispatch_real(args.logits.dtype, [&](auto tag) {
    using T = type_of<decltype(tag)>;
    StableMaxTask<T> task;
    task.logits = rows_of<T>(args.logits);
    task.out = static_cast<T*>(args.out.data);
    task.out_stride = args.out.stride;
    task.log = args.log;
    const LongRows<T> space(task.logits, workspace);
    task.states = space.states;
    if (workspace.counting()) return;
    status = run_on(args, "stablemax_kernel and its row states", [&] {
      dispatch_normalizer<acc_t<T>>(args.normalizer, [&](auto normalizer) {
        queue_forward<T, type_of<decltype(normalizer)>>(task, space, args.device,
                                                        stream_of(stream));
      });
    });
  });
  return status;
}

exn_status cross_entropy(const CrossEntropyArgs& args, Workspace& workspace, exn_stream stream) {
  exn_status status = EXN_OK;
  dispatch_real(args.logits.dtype, [&](auto tag) {
    using T = type_of<decltype(tag)>;
    using A = acc_t<T>;
    const bool mean = args.reduction == EXN_REDUCE_MEAN;
    const bool mean_loss = mean && args.loss.data != nullptr;
    CrossEntropyTask<T> task;
    task.logits = rows_of<T>(args.logits);
    task.labels = args.labels.data;
    task.wide_labels = args.labels.dtype == DType::kI64;
    task.ignore_index = args.ignore_index;
    task.grad = static_cast<T*>(args.grad.data);
    task.grad_stride = args.grad.stride;
    const LongRows<T> space(task.logits, workspace);
    task.states = space.states;
    auto* count = workspace.take<LabelCount<A>>(mean ? 1 : 0);
    A* row_loss = workspace.take<A>(mean_loss ? task.logits.rows : 0);
    task.count = mean ? count : nullptr;
    task.row_loss = mean ? (mean_loss ? row_loss : nullptr) : static_cast<A*>(args.loss.data);
    if (workspace.counting()) return;
    status = run_on(args, "cross_entropy_kernel and its row states", [&] {
      const cudaStream_t queue = stream_of(stream);
      if (mean) {
        EXN_LAUNCH((count_labels_kernel<A>), 1, kCountThreads, 0, queue, args.labels.data,
                   task.wide_labels, task.logits.rows, args.ignore_index, count);
      }
      dispatch_normalizer<A>(args.normalizer, [&](auto normalizer) {
        queue_cross_entropy<T, type_of<decltype(normalizer)>>(task, space, args.device, queue);
      });
      if (mean_loss) {
        EXN_LAUNCH((mean_loss_kernel<A>), 1, kCountThreads, 0, queue,
                   static_cast<const A*>(row_loss), task.logits.rows,
                   static_cast<const LabelCount<A>*>(count), static_cast<A*>(args.loss.data));
      }
    });
  });
  return status;
}

}  // namespace exn::cuda
