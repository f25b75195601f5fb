// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/kv_cache.cuh>

#include "backend.h"
#include "base/args/kv_cache.h"
#include "dispatch.h"
#include "kv.h"
#include "words.h"

namespace exn::cuda {
namespace {

// A block's threads along the pieces of a head and across heads, and a grid of them for `rows`.
struct KvShape {
  KvShape(int64_t rows, int64_t heads, int64_t pieces) {
    block.x = static_cast<unsigned>(pieces < kKvThreads ? pieces : kKvThreads);
    block.y = kKvThreads / block.x;
    constexpr int64_t kMostGridY = 65535;
    const int64_t y = ceil_div(heads, block.y);
    grid = dim3(grid_for(rows), static_cast<unsigned>(y < kMostGridY ? y : kMostGridY));
  }
  dim3 grid;
  dim3 block;
};

uint64_t bytes_of(int64_t elements, DType dtype) {
  return static_cast<uint64_t>(elements * size_of(dtype));
}

template <class T, class S>
void queue_append(const KvAppendArgs& args, cudaStream_t stream) {
  const DType source = args.k.dtype;
  const int64_t piece = kAppendPiece<T, S>;
  KvAppendTask<T, S> task;
  task.cache = view_of<T>(args.cache);
  task.k = static_cast<const S*>(args.k.data);
  task.v = static_cast<const S*>(args.v.data);
  task.k_stride = args.k.stride;
  task.v_stride = args.v.stride;
  task.rows = args.k.rows;
  task.heads = args.cache.heads;
  task.dim = args.cache.dim;
  task.sequence = args.sequence;
  task.slot = args.slot;
  task.vectors =
      args.cache.dim % piece == 0 &&
      widest_word({address_of(args.cache.k), address_of(args.cache.v), address_of(args.k.data),
                   address_of(args.v.data), bytes_of(args.k.stride, source),
                   bytes_of(args.v.stride, source)}) == 16;
  const KvShape shape(task.rows, task.heads, ceil_div(task.dim, piece));
  EXN_LAUNCH((kv_append_kernel<T, S>), shape.grid, shape.block, 0, stream, task);
}

template <class Word>
void queue_copy(const KvCopyArgs& args, cudaStream_t stream) {
  KvCopyTask<Word> task;
  task.source = words_of<Word>(args.source);
  task.destination = words_of<Word>(args.destination);
  task.count = args.count;
  task.heads = args.source.heads;
  task.head_words =
      args.source.dim * size_of(args.source.dtype) / static_cast<int64_t>(sizeof(Word));
  task.from_sequence = args.from_sequence;
  task.from_slot = args.from_slot;
  task.to_sequence = args.to_sequence;
  task.to_slot = args.to_slot;
  if (args.source.k == args.destination.k) {  // one cache, in which entries may meet
    const dim3 grid(grid_for(task.heads * ceil_div(task.head_words, kOrderedWidth)), 2);
    EXN_LAUNCH((kv_copy_ordered_kernel<Word>), grid, kOrderedThreads, 0, stream, task);
  } else {
    const KvShape shape(task.count, task.heads, task.head_words);
    EXN_LAUNCH((kv_copy_kernel<Word>), shape.grid, shape.block, 0, stream, task);
  }
}

bool is_empty(const KvCache& cache) { return cache.sequences == 0 || cache.slots == 0; }

}  // namespace

exn_status kv_append(const KvAppendArgs& args, Workspace& workspace, exn_stream stream) {
  if (workspace.counting()) return EXN_OK;
  return run_on(args, "kv_append_kernel", [&] {
    if (args.k.rows == 0 || is_empty(args.cache)) return;
    dispatch_float(args.cache.dtype, [&](auto cache_tag) {
      dispatch_float(args.k.dtype, [&](auto tag) {
        queue_append<type_of<decltype(cache_tag)>, type_of<decltype(tag)>>(args, stream_of(stream));
      });
    });
  });
}

exn_status kv_copy(const KvCopyArgs& args, Workspace& workspace, exn_stream stream) {
  if (workspace.counting()) return EXN_OK;
  return run_on(args, "kv_copy_kernel or kv_copy_ordered_kernel", [&] {
    if (args.count == 0 || is_empty(args.source) || is_empty(args.destination)) return;
    const int64_t word = widest_word(
        {address_of(args.source.k), address_of(args.source.v), address_of(args.destination.k),
         address_of(args.destination.v), bytes_of(args.source.dim, args.source.dtype)});
    dispatch_word<2>(
        word, [&](auto tag) { queue_copy<type_of<decltype(tag)>>(args, stream_of(stream)); });
  });
}

exn_status kv_length(const KvLengthArgs& args, Workspace& workspace, exn_stream stream) {
  if (workspace.counting()) return EXN_OK;
  if (args.action == EXN_KV_CROP) {
    return run_on(args, "kv_crop_kernel", [&] {
      if (args.lengths == 0) return;
      EXN_LAUNCH(kv_crop_kernel, grid_for(ceil_div(args.lengths, kLengthThreads)), kLengthThreads,
                 0, stream_of(stream), args.length, args.lengths, args.limit, args.one_limit);
    });
  }
  KvAdvanceTask task;
  task.length = args.length;
  task.lengths = args.lengths;
  task.rows = args.rows;
  task.sequence = args.sequence;
  task.active = args.active;
  task.slot = args.slot;
  task.visible = args.visible;
  task.capacity = args.capacity;
  return run_on(args, "kv_advance_kernel", [&] {
    if (task.rows == 0) return;
    EXN_LAUNCH(kv_advance_kernel, 1, kLengthThreads, 0, stream_of(stream), task);
  });
}

}  // namespace exn::cuda
