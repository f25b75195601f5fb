// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/hidden_stack.cuh>

#include "backend.h"
#include "base/args/hidden_stack.h"
#include "words.h"

namespace exn::cuda {
namespace {

// The stack's rows and those outside, in words that suit both.
struct Words {
  explicit Words(const HiddenStackArgs& args) {
    const int64_t size = size_of(args.stack.dtype);
    const auto bytes = [size](int64_t elements) { return static_cast<uint64_t>(elements * size); };
    width =
        widest_word({address_of(args.stack.data), address_of(args.rows.data),
                     bytes(args.stack.stride), bytes(args.rows.stride), bytes(args.stack.cols)});
    stack_stride = args.stack.stride * size / width;
    row_stride = args.rows.stride * size / width;
    count = args.stack.cols * size / width;
  }
  int64_t width;  // bytes of one
  int64_t stack_stride;
  int64_t row_stride;
  int64_t count;  // of a row
};

StackTags tags_of(const HiddenStackArgs& args) {
  return {args.stack_tags, args.tags, args.stack.rows, args.rows.rows, args.tag_count};
}

void queue_push(const HiddenStackArgs& args, int32_t* first, int32_t* rank, cudaStream_t stream) {
  StackPlaces places;
  places.rows = args.rows.rows;
  places.mask = args.mask;
  places.capacity = static_cast<int32_t>(args.stack.rows);
  places.count = args.count;
  places.overflow = args.overflow;
  places.first = first;
  places.rank = rank;
  EXN_LAUNCH(stack_places_kernel, 1, kStackThreads, 0, stream, places);
  if (args.rows.rows == 0) return;
  const Words words(args);
  dispatch_word<2>(words.width, [&](auto tag) {
    using Word = type_of<decltype(tag)>;
    const StackPush<Word> push = {static_cast<Word*>(args.stack.data),
                                  words.stack_stride,
                                  static_cast<const Word*>(args.rows.data),
                                  words.row_stride,
                                  args.rows.rows,
                                  words.count,
                                  tags_of(args),
                                  first,
                                  rank};
    EXN_LAUNCH((stack_push_kernel<Word>), move_grid(args.rows.rows, words.count), kMoveThreads, 0,
               stream, push);
  });
}

void queue_gather(const HiddenStackArgs& args, cudaStream_t stream) {
  const Words words(args);
  dispatch_word<2>(words.width, [&](auto tag) {
    using Word = type_of<decltype(tag)>;
    const StackGather<Word> gather = {static_cast<const Word*>(args.stack.data),
                                      words.stack_stride,
                                      static_cast<int32_t>(args.stack.rows),
                                      static_cast<Word*>(args.rows.data),
                                      words.row_stride,
                                      args.rows.rows,
                                      words.count,
                                      tags_of(args),
                                      args.count,
                                      args.overflow};
    // Also for no rows: overflow is set.
    const int64_t rows = args.rows.rows > 0 ? args.rows.rows : 1;
    EXN_LAUNCH((stack_gather_kernel<Word>), move_grid(rows, words.count), kMoveThreads, 0, stream,
               gather);
  });
}

}  // namespace

exn_status hidden_stack(const HiddenStackArgs& args, Workspace& workspace, exn_stream stream) {
  const bool pushes = args.action == EXN_STACK_PUSH;
  int32_t* const first = workspace.take<int32_t>(pushes ? 1 : 0);
  int32_t* const rank = workspace.take<int32_t>(pushes ? args.rows.rows : 0);
  if (workspace.counting()) return EXN_OK;
  return run_on(args, "stack_places_kernel and stack_push_kernel, or stack_gather_kernel", [&] {
    const cudaStream_t queue = stream_of(stream);
    if (pushes) {
      queue_push(args, first, rank, queue);
    } else if (args.action == EXN_STACK_GATHER) {
      queue_gather(args, queue);
    } else {
      EXN_LAUNCH(stack_clear_kernel, 1, 1, 0, queue, args.count, args.overflow);
    }
  });
}

}  // namespace exn::cuda
