// SPDX-License-Identifier: Apache-2.0
//
// __syncthreads and its voting forms. House rule, stricter than CUDA: every thread of the block
// must reach every barrier, at the same source line.
#include <string>

#include "race_detector.h"
#include "scheduler.h"

namespace simt {
namespace {

void open_barrier(Block* block) {
  block->at_barrier = 0;
  ++block->barrier_count;
  block->votes[block->barrier_count % 2] = Votes{};
  pass_barrier(block);
  for (unsigned i = 0; i < block->warps.size(); ++i) {
    Warp& warp = block->warps[i];
    make_runnable(block, i, warp.at_barrier);
    warp.at_barrier = 0;
  }
}

void open_if_complete(Block* block) {
  if (block->at_barrier == 0 || block->at_barrier + block->done != block->thread_count) return;
  if (block->done != 0) {
    report("barrier not reached by all threads", block->barrier_location,
           std::to_string(block->done) + " of " + std::to_string(block->thread_count) +
               " threads have exited");
  }
  open_barrier(block);
}

}  // namespace

void barrier(const char* file, int line) {
  Fiber* fiber = current_fiber();
  Block* block = fiber->block;
  const Location here{file, line, nullptr};
  if (block->at_barrier == 0) {
    block->barrier_location = here;
  } else if (block->barrier_location.line != line || block->barrier_location.file != file) {
    report("divergent barrier", here, "other threads wait at " + describe(block->barrier_location));
  }
  ++block->at_barrier;
  block->warp_of(*fiber).at_barrier |= 1u << fiber->lane;
  open_if_complete(block);
  wait_for(fiber, here);
}

int barrier_vote(Vote vote, bool predicate, const char* file, int line) {
  Block* block = current_fiber()->block;
  Votes& votes = block->votes[block->barrier_count % 2];
  votes.any |= predicate;
  votes.all &= predicate;
  votes.count += predicate;
  barrier(file, line);
  switch (vote) {
    case Vote::kOr:
      return votes.any;
    case Vote::kAnd:
      return votes.all;
    case Vote::kCount:
      return votes.count;
  }
  return 0;
}

void note_thread_exit(Fiber* fiber) {
  Block* block = fiber->block;
  block->warp_of(*fiber).done |= 1u << fiber->lane;
  ++block->done;
  open_if_complete(block);
}

}  // namespace simt
