// SPDX-License-Identifier: Apache-2.0
//
// Queues a selection of columns, for the ops that make one.
#pragma once

#include <exeunt/cuda/select.cuh>

#include "backend.h"

namespace exn::cuda {

inline SelectionTask selection_of(const Selection& selection) {
  SelectionTask task;
  task.indices = selection.indices;
  task.capacity = selection.capacity;
  task.count = selection.count;
  task.valid = selection.valid;
  task.budget = selection.budget;
  task.segments = selection.segments;
  task.segment_count = selection.segment_count;
  task.keep = {selection.keep, selection.keep_count, selection.keep_stride};
  task.drop = {selection.drop, selection.drop_count, selection.drop_stride};
  task.k = selection.k;
  return task;
}

template <class T, int THREADS>
void queue_select(const SelectTask<T>& task, cudaStream_t stream) {
  EXN_LAUNCH((select_kernel<T, THREADS>), grid_for(task.rows), THREADS, 0, stream, task);
}

// With the fewest threads that hold a row.
template <class T>
void queue_select(const SelectTask<T>& task, cudaStream_t stream) {
  if (task.rows == 0) return;
  if (task.columns <= 256 * kSelectItems) return queue_select<T, 256>(task, stream);
  if (task.columns <= 512 * kSelectItems) return queue_select<T, 512>(task, stream);
  queue_select<T, 1024>(task, stream);
}

}  // namespace exn::cuda
