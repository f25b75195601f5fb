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

// Whether a block reads a row of scores once.
inline bool is_read_once(int64_t columns) { return columns <= 512 * kSelectItems<512>; }

// With the fewest threads that hold a row.
template <class T>
void queue_select(SelectTask<T> task, cudaStream_t stream) {
  if (task.rows == 0) return;
  const bool is_short = task.columns <= 256 * kSelectItems<256>;
  task.items = is_short || task.columns <= 512 * kKeyGroup ? kKeyGroup : kSelectItems<512>;
  if (is_short) {
    EXN_LAUNCH((select_kernel<T, 256>), grid_for(task.rows), 256, 0, stream, task);
  } else {
    EXN_LAUNCH((select_kernel<T, 512>), grid_for(task.rows), 512, 0, stream, task);
  }
}

}  // namespace exn::cuda
