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

template <int THREADS, class T>
void queue_select_by(const SelectTask<T>& task, cudaStream_t stream) {
  const int bytes = THREADS * task.items * static_cast<int>(sizeof(unsigned));
  allow_shared(select_kernel<T, THREADS>, bytes);
  EXN_LAUNCH((select_kernel<T, THREADS>), grid_for(task.rows), THREADS, bytes, stream, task);
}

// With the fewest threads, and the fewest columns for each, that hold a row.
template <class T>
void queue_select(SelectTask<T> task, cudaStream_t stream) {
  if (task.rows == 0) return;
  const bool is_short = task.columns <= 256 * kSelectItems<256>;
  const int threads = is_short ? 256 : 512;
  const int64_t groups = task.columns > 0 ? ceil_div(task.columns, threads * kKeyGroup) : 1;
  const bool is_held = groups * kKeyGroup <= kSelectItems<512>;
  task.items = is_held ? static_cast<int>(groups) * kKeyGroup : kSelectRoundItems;
  if (is_short) {
    queue_select_by<256>(task, stream);
  } else {
    queue_select_by<512>(task, stream);
  }
}

}  // namespace exn::cuda
