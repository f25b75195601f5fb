// SPDX-License-Identifier: Apache-2.0
//
// Blocks and threads that meet in global memory.
#include "mutants.h"

namespace {

constexpr int kThreads = 64;
constexpr int kBlocks = 4;

template <bool kBroken>
__global__ void blocks_share_output(int* out) {
  const unsigned block = kBroken ? 0 : blockIdx.x;
  out[block * blockDim.x + threadIdx.x] = static_cast<int>(blockIdx.x);
}

// Neighbouring bytes belong to different threads: no conflict, whatever the cache line.
template <bool kBroken>
__global__ void neighbouring_bytes(unsigned char* out) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  out[kBroken ? i / 2 : i] = 1;
}

template <bool kBroken>
__global__ void in_place_shift(int* data) {
  const unsigned t = threadIdx.x;
  const int next = data[t + 1];
  if (!kBroken) __syncthreads();
  data[t] = next;
}

// One block reads what another updates atomically.
template <bool kBroken>
__global__ void read_beside_atomic(unsigned* counter, unsigned* out) {
  if (threadIdx.x != 0) return;
  if (blockIdx.x != 0) {
    atomicAdd(counter, 1u);
  } else if (kBroken) {
    out[0] = *counter;
  } else {
    out[0] = atomicAdd(counter, 0u);
  }
}

// A vector store over half of what another thread's scalar store wrote.
template <bool kBroken>
__global__ void overlapping_widths(float* out) {
  const unsigned t = threadIdx.x;
  if (t == 0) {
    *reinterpret_cast<float4*>(out) = make_float4(0, 1, 2, 3);
  } else if (t == 1) {
    out[kBroken ? 2 : 4] = 9.0f;
  }
}

template <void (*kKernel)(int*)>
void run(int blocks) {
  EXN_LAUNCH(kKernel, blocks, kThreads, 0, nullptr, device_zeros<int>(kThreads * kBlocks));
}

template <bool kBroken>
void run_blocks_share_output() {
  run<blocks_share_output<kBroken>>(kBlocks);
}

template <bool kBroken>
void run_in_place_shift() {
  run<in_place_shift<kBroken>>(1);
}

template <bool kBroken>
void run_neighbouring_bytes() {
  EXN_LAUNCH((neighbouring_bytes<kBroken>), kBlocks, kThreads, 0, nullptr,
             device_zeros<unsigned char>(kThreads * kBlocks));
}

template <bool kBroken>
void run_read_beside_atomic() {
  EXN_LAUNCH((read_beside_atomic<kBroken>), kBlocks, kThreads, 0, nullptr,
             device_zeros<unsigned>(1), device_zeros<unsigned>(1));
}

template <bool kBroken>
void run_overlapping_widths() {
  EXN_LAUNCH((overlapping_widths<kBroken>), 1, kThreads, 0, nullptr, device_zeros<float>(8));
}

const Registration registration({
    {"blocks_share_output", kRace, run_blocks_share_output<false>, run_blocks_share_output<true>},
    {"neighbouring_bytes", kRace, run_neighbouring_bytes<false>, run_neighbouring_bytes<true>},
    {"in_place_shift", kRace, run_in_place_shift<false>, run_in_place_shift<true>},
    {"read_beside_atomic", kRace, run_read_beside_atomic<false>, run_read_beside_atomic<true>},
    {"overlapping_widths", kRace, run_overlapping_widths<false>, run_overlapping_widths<true>},
});

}  // namespace
