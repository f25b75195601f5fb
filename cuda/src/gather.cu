// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cuda/gather.cuh>

#include "backend.h"
#include "base/args/gather.h"
#include "words.h"

namespace exn::cuda {
namespace {

static_assert(kMostGathered == EXN_GATHER_MAX_TENSORS + 1, "tensors and positions");

// A list up to here is looked through by every block that moves: a launch would take longer.
constexpr int64_t kShortList = 2048;
constexpr int64_t kCheckChunk = 4096;  // entries of a longer one that one block looks through

GatherTensor tensor_of(const GatherItem& item) {
  const auto bytes = [](int64_t n) { return static_cast<uint64_t>(n); };
  const bool outer = item.outer > 1;
  const int64_t word = widest_word({address_of(item.input), address_of(item.out), bytes(item.bytes),
                                    bytes(item.input_stride), bytes(item.out_stride),
                                    bytes(outer ? item.input_outer_stride : 0),
                                    bytes(outer ? item.out_outer_stride : 0)});
  GatherTensor tensor;
  tensor.input = item.input;
  tensor.out = item.out;
  tensor.outer = item.outer;
  tensor.words = item.bytes / word;
  tensor.input_outer_stride = item.input_outer_stride / word;
  tensor.input_stride = item.input_stride / word;
  tensor.out_outer_stride = item.out_outer_stride / word;
  tensor.out_stride = item.out_stride / word;
  tensor.word = static_cast<int32_t>(word);
  tensor.slice = 1;
  return tensor;
}

GatherItem positions_of(const GatherArgs& args) {
  GatherItem item;
  item.input = reinterpret_cast<const char*>(args.position);
  item.out = reinterpret_cast<char*>(args.position_out);
  item.in_place = args.positions_in_place;
  item.bytes = item.input_stride = item.out_stride = sizeof(int32_t);
  return item;
}

int64_t slices_of(const GatherTask& task) {
  int64_t slices = 0;
  for (int i = 0; i < task.tensor_count; ++i) {
    const GatherTensor& tensor = task.tensors[i];
    slices += tensor.outer * ceil_div(tensor.words, tensor.slice);
  }
  return slices;
}

// The widest slices that occupy all multiprocessors.
void choose_slices(GatherTask* task, int64_t blocks) {
  for (int64_t bytes = kWidestSlice; bytes >= kNarrowestSlice; bytes /= 2) {
    for (int i = 0; i < task->tensor_count; ++i) {
      GatherTensor& tensor = task->tensors[i];
      const int64_t slice = bytes / tensor.word;
      const int64_t most = tensor.words < kInPlaceThreads ? tensor.words : kInPlaceThreads;
      tensor.slice = static_cast<int32_t>(slice < most ? slice : most);
    }
    if (slices_of(*task) >= blocks) return;
  }
}

// Most chunks that the list can ask for.
int64_t chunks_of(const GatherTask& task) {
  int64_t chunks = 0;
  for (int i = 0; i < task.tensor_count; ++i) {
    const GatherTensor& tensor = task.tensors[i];
    chunks += tensor.outer * ceil_div(task.list.listed * tensor.words, kGatherChunk);
  }
  if (task.position_out != nullptr) chunks += ceil_div(task.list.listed, kGatherThreads);
  return chunks;
}

// What goes to other memory, and what stays within its own.
struct Tasks {
  explicit Tasks(const GatherArgs& args) {
    GatherTask common = {};
    common.list = {args.list, args.listed, args.count, args.rows, args.in_place};
    across = within = common;
    for (int i = 0; i < args.item_count; ++i) add(args.items[i]);
    const bool moved = args.position_out != nullptr && args.position != nullptr;
    if (moved) add(positions_of(args));
    if (!moved) across.position_out = args.position_out;
    across.renumbers = args.positions == EXN_POSITIONS_RENUMBER;
    across.first_position = args.first_position;
  }
  void add(const GatherItem& item) {
    if (item.outer == 0 || item.bytes == 0) return;
    GatherTask& task = item.in_place ? within : across;
    task.tensors[task.tensor_count++] = tensor_of(item);
  }
  GatherTask across;
  GatherTask within;
};

}  // namespace

exn_status gather(const GatherArgs& args, Workspace& workspace, exn_stream stream) {
  const bool checked_first = args.in_place || args.listed > kShortList;
  const int64_t parts = ceil_div(args.listed, kCheckChunk);
  const int64_t checks = !checked_first || parts < 1 ? checked_first
                         : parts < kMostChecks       ? parts
                                                     : kMostChecks;
  int32_t* const verdicts = workspace.take<int32_t>(checks);
  if (workspace.counting()) return EXN_OK;
  Tasks tasks(args);
  return run_on(args, "gather_check_kernel, gather_kernel or gather_in_place_kernel", [&] {
    const cudaStream_t queue = stream_of(stream);
    const int64_t processors = sm_count(args.device);
    if (checks > 0) {
      EXN_LAUNCH(gather_check_kernel, static_cast<unsigned>(checks), kGatherThreads, 0, queue,
                 tasks.across.list, ceil_div(args.listed, checks), verdicts);
    }
    for (GatherTask* task : {&tasks.across, &tasks.within}) {
      task->verdicts = verdicts;
      task->checks = static_cast<int32_t>(checks);
    }
    // One of the two says how many entries move, even if it moves nothing.
    const int64_t chunks = chunks_of(tasks.across);
    const bool stays = tasks.within.tensor_count > 0;
    if (chunks > 0 || !stays) {
      const int64_t most = processors * kGatherBlocks;
      tasks.across.moved = args.moved;
      EXN_LAUNCH(gather_kernel,
                 static_cast<unsigned>(chunks < 1      ? 1
                                       : chunks < most ? chunks
                                                       : most),
                 kGatherThreads, 0, queue, tasks.across);
    }
    if (stays) {
      choose_slices(&tasks.within, processors);
      tasks.within.moved = chunks > 0 ? nullptr : args.moved;
      EXN_LAUNCH(gather_in_place_kernel, grid_for(slices_of(tasks.within)), kInPlaceThreads, 0,
                 queue, tasks.within);
    }
  });
}

}  // namespace exn::cuda
