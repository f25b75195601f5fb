// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/row_compaction.cuh>

#include "backend.h"
#include "base/args/row_compaction.h"
#include "words.h"

namespace exn::cuda {

exn_status row_compaction(const RowCompactionArgs& args, Workspace& workspace, exn_stream stream) {
  if (workspace.counting()) return EXN_OK;
  const int64_t size = size_of(args.input.dtype);
  const auto bytes = [size](int64_t elements) { return static_cast<uint64_t>(elements * size); };
  const int64_t width =
      widest_word({address_of(args.input.data), address_of(args.out.data), bytes(args.input.stride),
                   bytes(args.out.stride), bytes(args.input.cols)});
  return run_on(args, "row_compaction_kernel", [&] {
    if (args.listed == 0 || args.input.cols == 0) return;
    dispatch_word<1>(width, [&](auto tag) {
      using Word = type_of<decltype(tag)>;
      RowCompactionTask<Word> task;
      task.input = static_cast<const Word*>(args.input.data);
      task.input_stride = args.input.stride * size / width;
      task.out = static_cast<Word*>(args.out.data);
      task.out_stride = args.out.stride * size / width;
      task.words = args.input.cols * size / width;
      task.list = args.list;
      task.listed = args.listed;
      task.scatter = args.direction == EXN_ROWS_SCATTER;
      task.rows = task.scatter ? args.out.rows : args.input.rows;
      EXN_LAUNCH((row_compaction_kernel<Word>), move_grid(task.listed, task.words), kMoveThreads, 0,
                 stream_of(stream), task);
    });
  });
}

}  // namespace exn::cuda
