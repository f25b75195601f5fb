// SPDX-License-Identifier: Apache-2.0
//
// The last block to arrive adds up what all blocks wrote: barrier, fence, ticket, fence, barrier.
#include "mutants.h"

namespace {

constexpr unsigned kBlocks = 6;
constexpr unsigned kThreads = 64;

enum class Bug {
  kNone,
  kNoRelease,
  kNoAcquire,
  kNoBarrierBeforeTicket,
  kFenceByOthers,
  kPlainTicket
};

template <Bug kBug>
__global__ void last_block_sum(int* partial, unsigned* ticket, int* out) {
  __shared__ bool is_last;
  const unsigned t = threadIdx.x;
  partial[blockIdx.x * kThreads + t] = static_cast<int>(t);
  if (kBug == Bug::kFenceByOthers) __threadfence();
  if (kBug != Bug::kNoBarrierBeforeTicket) __syncthreads();
  if (t == 0) {
    if (kBug != Bug::kNoRelease && kBug != Bug::kFenceByOthers) __threadfence();
    unsigned before = 0;
    if (kBug == Bug::kPlainTicket) {
      before = *ticket;
      *ticket = before + 1;
    } else {
      before = atomicAdd(ticket, 1u);
    }
    is_last = before == gridDim.x - 1;
    if (kBug != Bug::kNoAcquire) __threadfence();
  }
  __syncthreads();
  if (!is_last) return;
  int sum = 0;
  for (unsigned block = 0; block < gridDim.x; ++block) sum += partial[block * kThreads + t];
  out[t] = sum;
}

template <Bug kBug>
void run() {
  EXN_LAUNCH((last_block_sum<kBug>), kBlocks, kThreads, 0, nullptr,
             device_zeros<int>(kBlocks * kThreads), device_zeros<unsigned>(1),
             device_zeros<int>(kThreads));
}

// Each warp takes its own ticket: __syncwarp spreads what lane 0 learned.
template <bool kBroken>
__global__ void last_warp_sum(int* partial, unsigned* ticket, int* out) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned warps = gridDim.x * blockDim.x / 32;
  const unsigned warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
  partial[warp * 32 + lane] = static_cast<int>(lane);
  __syncwarp();
  unsigned before = 0;
  if (lane == 0) {
    __threadfence();
    before = atomicAdd(ticket, 1u);
    __threadfence();
  }
  before = __shfl_sync(0xffffffffu, before, 0);
  if (!kBroken) __syncwarp();
  if (before != warps - 1) return;
  int sum = 0;
  for (unsigned other = 0; other < warps; ++other) sum += partial[other * 32 + lane];
  out[lane] = sum;
}

template <bool kBroken>
void run_warps() {
  EXN_LAUNCH((last_warp_sum<kBroken>), kBlocks, kThreads, 0, nullptr,
             device_zeros<int>(kBlocks * kThreads), device_zeros<unsigned>(1),
             device_zeros<int>(32));
}

// Blocks hand a value down the line, each waiting for the one before.
template <bool kBroken>
__global__ void chained_blocks(int* value, unsigned* turn) {
  if (threadIdx.x != 0) return;
  while (atomicAdd(turn, 0u) != blockIdx.x) __nanosleep(20);
  if (!kBroken) __threadfence();
  *value = *value + 1;
  __threadfence();
  atomicAdd(turn, 1u);
}

template <bool kBroken>
void run_chain() {
  EXN_LAUNCH((chained_blocks<kBroken>), kBlocks, 32, 0, nullptr, device_zeros<int>(1),
             device_zeros<unsigned>(1));
}

const Registration registration({
    {"missing_release_fence", kRace, run<Bug::kNone>, run<Bug::kNoRelease>},
    {"missing_acquire_fence", kRace, run<Bug::kNone>, run<Bug::kNoAcquire>},
    {"missing_barrier_before_ticket", kRace, run<Bug::kNone>, run<Bug::kNoBarrierBeforeTicket>},
    {"fence_by_all_but_the_ticket_holder", kRace, run<Bug::kNone>, run<Bug::kFenceByOthers>},
    {"ticket_without_atomic", kRace, run<Bug::kNone>, run<Bug::kPlainTicket>},
    {"acquire_not_spread_to_the_warp", kRace, run_warps<false>, run_warps<true>},
    {"spin_without_acquire_fence", kRace, run_chain<false>, run_chain<true>},
});

}  // namespace
