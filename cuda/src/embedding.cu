// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/embedding.cuh>

#include "backend.h"
#include "base/args/embedding.h"
#include "words.h"

namespace exn::cuda {
namespace {

uint64_t bytes_of(int64_t elements, DType dtype) {
  return static_cast<uint64_t>(elements * size_of(dtype));
}

// Ids by pieces of a row, of which a block may take several.
dim3 grid_of(int64_t rows, int64_t columns, int64_t tile) {
  constexpr int64_t kMostPieces = 32;
  const int64_t pieces = ceil_div(columns, tile);
  return dim3(static_cast<unsigned>(rows),
              static_cast<unsigned>(pieces < kMostPieces ? pieces : kMostPieces));
}

void copy_rows(const EmbeddingArgs& args, const EmbeddingIds& list, cudaStream_t queue) {
  const DType dtype = args.out.dtype;
  const int64_t size = size_of(dtype);
  const int64_t width = widest_word(
      {address_of(args.table.data), address_of(args.out.data), bytes_of(args.table.stride, dtype),
       bytes_of(args.out.stride, dtype), bytes_of(args.out.cols, dtype)});
  dispatch_word<2>(width, [&](auto tag) {
    using Word = type_of<decltype(tag)>;
    EmbeddingCopyTask<Word> task;
    task.list = list;
    task.table = static_cast<const Word*>(args.table.data);
    task.table_stride = args.table.stride * size / width;
    task.out = static_cast<Word*>(args.out.data);
    task.out_stride = args.out.stride * size / width;
    task.words = args.out.cols * size / width;
    EXN_LAUNCH((embedding_copy_kernel<Word>), move_grid(args.out.rows, task.words), kMoveThreads, 0,
               queue, task);
  });
}

template <class T, class O>
void convert_rows(const EmbeddingArgs& args, const EmbeddingIds& list, cudaStream_t queue) {
  EmbeddingTask<T, O> task;
  task.list = list;
  task.table = static_cast<const T*>(args.table.data);
  task.table_stride = args.table.stride;
  task.out = static_cast<O*>(args.out.data);
  task.out_stride = args.out.stride;
  task.columns = args.out.cols;
  task.scale = args.scale;
  EXN_LAUNCH((embedding_kernel<T, O>), grid_of(args.out.rows, task.columns, kEmbeddingTile),
             kTileThreads, 0, queue, task);
}

template <class O>
void unpack_rows(const EmbeddingArgs& args, const EmbeddingIds& list, cudaStream_t queue) {
  EmbeddingBlocksTask<O> task;
  task.list = list;
  task.table = static_cast<const uint8_t*>(args.table.data);
  task.table_stride = args.table.stride;
  task.format = static_cast<Blocks>(args.table.blocks);
  const int64_t piece = kUnpackTile<O> / block_elements(task.format) * block_bytes(task.format);
  const int64_t width =
      widest_word({address_of(args.table.data), bytes_of(args.table.stride, DType::kU8),
                   bytes_of(row_bytes(args.table), DType::kU8), bytes_of(piece, DType::kU8)});
  task.word = static_cast<int32_t>(width == 8 ? 4 : width);
  task.out = static_cast<O*>(args.out.data);
  task.out_stride = args.out.stride;
  task.columns = args.out.cols;
  task.scale = args.scale;
  EXN_LAUNCH((embedding_blocks_kernel<O>), grid_of(args.out.rows, task.columns, kUnpackTile<O>),
             kTileThreads, 0, queue, task);
}

}  // namespace

exn_status embedding(const EmbeddingArgs& args, Workspace& workspace, exn_stream stream) {
  const exn_status status = check_rows(args, "out", args.out.rows);
  if (status != EXN_OK) return status;
  if (workspace.counting()) return EXN_OK;
  const EmbeddingIds list = {args.ids, args.table.rows};
  return run_on(args, "embedding_copy_kernel, embedding_kernel or embedding_blocks_kernel", [&] {
    if (args.out.rows == 0) return;
    const cudaStream_t queue = stream_of(stream);
    if (args.table.dtype == args.out.dtype && args.scale == 1) {
      copy_rows(args, list, queue);
      return;
    }
    dispatch_float(args.out.dtype, [&](auto out_tag) {
      using O = type_of<decltype(out_tag)>;
      if (args.table.dtype == DType::kU8) return unpack_rows<O>(args, list, queue);
      dispatch_float(args.table.dtype,
                     [&](auto tag) { convert_rows<type_of<decltype(tag)>, O>(args, list, queue); });
    });
  });
}

}  // namespace exn::cuda
