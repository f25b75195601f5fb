// SPDX-License-Identifier: Apache-2.0
//
// Barriers that are missing, or that not everybody reaches.
#include "mutants.h"

namespace {

constexpr int kThreads = 128;

// Each thread reads what a thread of another warp wrote.
template <bool kBroken>
__global__ void missing_barrier(int* out) {
  __shared__ int slots[kThreads];
  const int t = static_cast<int>(threadIdx.x);
  slots[t] = t;
  if (!kBroken) __syncthreads();
  out[t] = slots[kThreads - 1 - t];
}

// The buffer is written again while others may still read it.
template <bool kBroken>
__global__ void missing_barrier_before_reuse(int* out) {
  __shared__ int slots[kThreads];
  const int t = static_cast<int>(threadIdx.x);
  int sum = 0;
  for (int round = 0; round < 3; ++round) {
    slots[t] = t + round;
    __syncthreads();
    sum += slots[(t + 40) % kThreads];
    if (!kBroken) __syncthreads();
  }
  out[t] = sum;
}

// One of the strides of a tree reduction lacks its barrier.
template <bool kBroken>
__global__ void missing_barrier_at_one_stride(int* out) {
  EXN_DYN_SMEM(memory);
  int* sums = reinterpret_cast<int*>(memory);
  const int t = static_cast<int>(threadIdx.x);
  sums[t] = t;
  __syncthreads();
  for (int stride = kThreads / 2; stride > 0; stride /= 2) {
    if (t < stride) sums[t] += sums[t + stride];
    if (!kBroken || stride != 64) __syncthreads();
  }
  if (t == 0) *out = sums[0];
}

// Lanes of one warp are not in lockstep either.
template <bool kBroken>
__global__ void missing_syncwarp(int* out) {
  __shared__ int slots[32];
  const int lane = static_cast<int>(threadIdx.x);
  slots[lane] = lane;
  if (!kBroken) __syncwarp();
  out[lane] = slots[lane ^ 1];
}

// A shuffle exchanges registers; it does not order memory.
template <bool kBroken>
__global__ void shuffle_instead_of_syncwarp(int* out) {
  __shared__ int slots[32];
  const int lane = static_cast<int>(threadIdx.x);
  slots[lane] = lane;
  const int other = __shfl_xor_sync(0xffffffffu, lane, 1);
  if (!kBroken) __syncwarp();
  out[lane] = slots[other];
}

// __syncwarp of one half says nothing about the other.
template <bool kBroken>
__global__ void syncwarp_of_too_few(int* out) {
  __shared__ int slots[32];
  const int lane = static_cast<int>(threadIdx.x);
  slots[lane] = lane;
  __syncwarp(lane < 16 ? 0x0000ffffu : 0xffff0000u);
  out[lane] = slots[kBroken ? lane ^ 16 : lane ^ 1];
}

template <bool kBroken>
__global__ void divergent_barrier(int* out) {
  const int t = static_cast<int>(threadIdx.x);
  if (!kBroken || t < 100) {
    __syncthreads();
  }
  out[t] = t;
}

template <bool kBroken>
__global__ void barrier_in_both_branches(int* out) {
  const int t = static_cast<int>(threadIdx.x);
  const int first_branch = kBroken ? kThreads / 2 : kThreads;
  if (t < first_branch) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[t] = t;
}

template <bool kBroken>
__global__ void exit_before_barrier(int* out) {
  const int t = static_cast<int>(threadIdx.x);
  if (kBroken && t >= 96) return;
  __syncthreads();
  out[t] = t;
}

template <bool kBroken>
__global__ void uninitialised_shared(int* out) {
  __shared__ int slots[kThreads];
  const int t = static_cast<int>(threadIdx.x);
  if (!kBroken || t != 7) slots[t] = t;
  __syncthreads();
  out[t] = slots[t];
}

template <void (*kKernel)(int*), int kBlock = kThreads, int kShared = 0>
void run() {
  EXN_LAUNCH(kKernel, 1, kBlock, kShared, nullptr, device_zeros<int>(kThreads));
}

constexpr int kSharedBytes = kThreads * sizeof(int);

const Registration registration({
    {"missing_barrier", kRace, run<missing_barrier<false>>, run<missing_barrier<true>>},
    {"missing_barrier_before_reuse", kRace, run<missing_barrier_before_reuse<false>>,
     run<missing_barrier_before_reuse<true>>},
    {"missing_barrier_at_one_stride", kRace,
     run<missing_barrier_at_one_stride<false>, kThreads, kSharedBytes>,
     run<missing_barrier_at_one_stride<true>, kThreads, kSharedBytes>},
    {"missing_syncwarp", kRace, run<missing_syncwarp<false>, 32>, run<missing_syncwarp<true>, 32>},
    {"shuffle_instead_of_syncwarp", kRace, run<shuffle_instead_of_syncwarp<false>, 32>,
     run<shuffle_instead_of_syncwarp<true>, 32>},
    {"syncwarp_of_too_few", kRace, run<syncwarp_of_too_few<false>, 32>,
     run<syncwarp_of_too_few<true>, 32>},
    {"divergent_barrier", kAllModes, run<divergent_barrier<false>>, run<divergent_barrier<true>>},
    {"barrier_in_both_branches", kAllModes, run<barrier_in_both_branches<false>>,
     run<barrier_in_both_branches<true>>},
    {"exit_before_barrier", kAllModes, run<exit_before_barrier<false>>,
     run<exit_before_barrier<true>>},
    {"uninitialised_shared", kRace, run<uninitialised_shared<false>>,
     run<uninitialised_shared<true>>},
});

}  // namespace
