// SPDX-License-Identifier: Apache-2.0
//
// row_compaction: rows by a list, together and back.
#pragma once

#include "words.cuh"

namespace exn::cuda {

template <class Word>
struct RowCompactionTask {
  const Word* input;
  int64_t input_stride;  // in words, as all here
  Word* out;
  int64_t out_stride;
  int64_t words;        // of a row
  const int32_t* list;  // [listed]
  int64_t listed;
  int64_t rows;  // that entries of the list may name; others are skipped
  bool scatter;  // the list names rows of out, else of input
};

// Bytes: a listed row read once and written once, 4 for its entry. Grid: entries by pieces of a
// row.
template <class Word>
__global__ __launch_bounds__(kMoveThreads) void row_compaction_kernel(
    RowCompactionTask<Word> task) {
  for (int64_t i = blockIdx.x; i < task.listed; i += gridDim.x) {
    const int64_t row = task.list[i];
    if (row < 0 || row >= task.rows) continue;
    const int64_t from = task.scatter ? i : row;
    const int64_t to = task.scatter ? row : i;
    move_row(task.out + to * task.out_stride, task.input + from * task.input_stride, task.words);
  }
}

}  // namespace exn::cuda
