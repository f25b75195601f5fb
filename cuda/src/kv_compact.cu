// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/kv_compact.cuh>

#include "backend.h"
#include "base/args/kv_compact.h"
#include "kv.h"
#include "words.h"

namespace exn::cuda {
namespace {

KvCompactPlan plan_of(const KvCompactArgs& args, const int32_t* verdicts) {
  KvCompactPlan plan;
  plan.source = layout_of(args.source);
  plan.destination = layout_of(args.destination);
  plan.list = args.list;
  plan.offsets = args.offsets;
  plan.count = args.count;
  plan.list_size = args.list_size;
  plan.stride = args.list_stride;
  plan.sequence = args.sequence;
  plan.length = args.length;
  plan.sequences = args.sequences;
  plan.lists = args.lists;
  plan.per_sequence = args.per_head ? args.destination.heads : 1;
  plan.in_place = args.in_place;
  plan.verdicts = verdicts;
  return plan;
}

int64_t longest_list(const KvCompactArgs& args) {
  const int64_t listed = args.offsets != nullptr ? args.list_size : args.list_stride;
  return listed < args.destination.slots ? listed : args.destination.slots;
}

// The widest slices that occupy all multiprocessors.
int64_t slice_of(const KvCompactArgs& args, int64_t head_words, int64_t word) {
  const int64_t blocks = sm_count(args.device);
  int64_t bytes = kWidestSlice;
  const auto slices = [&] { return ceil_div(head_words, bytes / word); };
  while (bytes > kNarrowestSlice &&
         product(2, args.sequences, args.source.heads, slices()) < blocks) {
    bytes /= 2;
  }
  const int64_t slice = bytes / word;
  return slice < head_words ? slice : head_words;
}

template <class Word>
void queue_moves(const KvCompactArgs& args, const KvCompactPlan& plan, cudaStream_t stream) {
  constexpr int64_t kWord = sizeof(Word);
  const KvView<Word> source = words_of<Word>(args.source);
  const KvView<Word> destination = words_of<Word>(args.destination);
  KvCompactTask<Word> task;
  task.source[0] = source.k;
  task.source[1] = source.v;
  task.destination[0] = destination.k;
  task.destination[1] = destination.v;
  task.plan = plan;
  task.plan.source = source.at;
  task.plan.destination = destination.at;
  task.report = {args.new_length, args.freed, args.freed_count, args.freed_capacity};
  task.heads = args.destination.heads;
  task.group = args.source.heads > 0 ? args.destination.heads / args.source.heads : 1;
  task.head_words = args.source.dim * size_of(args.source.dtype) / kWord;
  task.pieces = ceil_div(longest_list(args) * task.head_words, kCompactChunk);
  task.slice = 1;
  // One block reports.
  if (args.in_place) {
    int64_t slices = 0;
    if (task.head_words > 0) {
      const int64_t slice = slice_of(args, task.head_words, kWord);
      task.slice = static_cast<int32_t>(slice);
      slices = product(2, args.sequences, task.heads, ceil_div(task.head_words, slice));
    }
    const int64_t blocks = slices < kMostBlocks ? slices + 1 : kMostBlocks;
    EXN_LAUNCH((kv_compact_in_place_kernel<Word>), grid_for(blocks), kCompactInPlaceThreads, 0,
               stream, task);
  } else {
    const int64_t chunks = product(args.sequences, task.heads, task.pieces);
    const int64_t most = sm_count(args.device) * kCompactBlocks;
    EXN_LAUNCH((kv_compact_kernel<Word>), grid_for((chunks < most ? chunks : most) + 1),
               kCompactThreads, 0, stream, task);
  }
}

}  // namespace

exn_status kv_compact(const KvCompactArgs& args, Workspace& workspace, exn_stream stream) {
  const int64_t pages = args.destination.blocks != nullptr ? args.destination.pages : 0;
  int32_t* const verdicts = workspace.take<int32_t>(args.lists);
  auto* const owners = workspace.take<unsigned long long>(pages);
  if (workspace.counting()) return EXN_OK;
  return run_on(
      args, "kv_compact_check_kernel, kv_compact_kernel or kv_compact_in_place_kernel", [&] {
        const cudaStream_t queue = stream_of(stream);
        const KvCompactPlan plan = plan_of(args, verdicts);
        if (args.lists > 0) {
          if (pages > 0) {
            cudaMemsetAsync(owners, 0, static_cast<size_t>(pages) * sizeof *owners, queue);
          }
          EXN_LAUNCH(kv_compact_check_kernel, grid_for(args.lists), kKvCheckThreads, 0, queue, plan,
                     verdicts, pages > 0 ? owners : nullptr);
        }
        const auto dim = static_cast<uint64_t>(args.source.dim * size_of(args.source.dtype));
        const int64_t word =
            widest_word({address_of(args.source.k), address_of(args.source.v),
                         address_of(args.destination.k), address_of(args.destination.v), dim});
        dispatch_word<2>(word,
                         [&](auto tag) { queue_moves<type_of<decltype(tag)>>(args, plan, queue); });
      });
}

}  // namespace exn::cuda
