// SPDX-License-Identifier: Apache-2.0
//
// Blocks that share a tile: the last one to come finishes it.
#pragma once

#include "portable.cuh"

namespace exn::cuda {

// Tickets lie in a workspace that holds anything when a launch begins, so a word counts only while
// it has this mark (a NaN that no arithmetic makes), which is never left there: the last block to
// come takes it away. So nothing need be cleared before a launch, also where it is repeated.
constexpr unsigned long long kTicketMark = 0x7fa5c3e996d10000ull;
constexpr unsigned long long kTicketCount = 0xffffull;

// Whether this is the last of the `count` blocks that share a ticket; then what the others have
// stored is there for all of its threads. By one launch, or by several that follow one another.
__device__ __forceinline__ bool is_last_block(unsigned long long* ticket, int count) {
  __shared__ bool is_last;
  __syncthreads();  // what all threads have stored
  if (threadIdx.x == 0) {
    __threadfence();
    unsigned long long held = 0, found = 0;
    int before;
    do {
      held = found;
      const bool is_marked = (held & ~kTicketCount) == kTicketMark;
      before = is_marked ? static_cast<int>(held & kTicketCount) : 0;
      found = atomicCAS(ticket, held, before + 1 == count ? 0 : kTicketMark + before + 1);
    } while (found != held);
    is_last = before + 1 == count;
    __threadfence();
  }
  __syncthreads();
  return is_last;
}

}  // namespace exn::cuda
