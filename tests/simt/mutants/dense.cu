// SPDX-License-Identifier: Apache-2.0
//
// Patterns of the kernels on rows and weights: staged values that are changed on arrival, rows that
// find their places by counting, depths that are cut into parts, blocks that leave early.
#include "mutants.h"

namespace {

constexpr int kThreads = 64;
constexpr int kPiece = 4;  // floats of a copy

enum class Arrival { kRight, kBeforeWait, kOfNeighbour };

// A thread scales the piece it copied, and all read what has become of it.
template <Arrival kArrival>
__global__ void change_on_arrival(const float* in, float* out) {
  __shared__ __align__(16) float staged[kPiece * kThreads];
  const int t = static_cast<int>(threadIdx.x);
  __pipeline_memcpy_async(&staged[kPiece * t], in + kPiece * t, 16);
  __pipeline_commit();
  if (kArrival != Arrival::kBeforeWait) __pipeline_wait_prior(0);
  const int piece = kArrival == Arrival::kOfNeighbour ? (t + 1) % kThreads : t;
  for (int i = 0; i < kPiece; ++i) staged[kPiece * piece + i] *= 2.0f;
  __pipeline_wait_prior(0);
  __syncthreads();
  out[t] = staged[kPiece * (kThreads - 1 - t)];
}

// One block per row; equal keys keep their order, or else they would share a place.
template <bool kBroken>
__global__ void rank_by_counting(const int* keys, int* order) {
  __shared__ int before;
  const int row = static_cast<int>(blockIdx.x);
  if (threadIdx.x == 0) before = 0;
  __syncthreads();
  const int other = static_cast<int>(threadIdx.x);
  const bool first = kBroken ? keys[other] < keys[row]
                             : keys[other] < keys[row] || (keys[other] == keys[row] && other < row);
  if (first) atomicAdd(&before, 1);
  __syncthreads();
  if (threadIdx.x == 0) order[before] = row;
}

// Blocks of one tile, each with a split of the depth; the partial sums must not share a place.
template <bool kBroken>
__global__ void part_of_depth(const float* in, float* partials) {
  const unsigned part = blockIdx.x;
  const unsigned place = kBroken ? threadIdx.x : part * kThreads + threadIdx.x;
  partials[place] = in[part * kThreads + threadIdx.x];
}

// Rows that are not there: the whole block leaves, or threads of it and the barrier waits for them.
template <bool kBroken>
__global__ void leave_before_barrier(const int* count, float* out) {
  __shared__ float staged[kThreads];
  const int row = static_cast<int>(kBroken ? threadIdx.x : blockIdx.x);
  if (row >= *count) return;
  staged[threadIdx.x] = static_cast<float>(row);
  __syncthreads();
  out[blockIdx.x * kThreads + threadIdx.x] = staged[kThreads - 1 - threadIdx.x];
}

// Rotation in place: a thread may overwrite what it alone reads.
template <bool kBroken>
__global__ void rotate_in_place(float* head) {
  const unsigned pair = threadIdx.x;
  const float a = head[pair];
  const float b = head[pair + kThreads];
  head[pair] = -b;
  head[kBroken ? (pair + 1) % kThreads + kThreads : pair + kThreads] = a;
}

template <Arrival kArrival>
void run_arrival() {
  EXN_LAUNCH((change_on_arrival<kArrival>), 1, kThreads, 0, nullptr,
             device_zeros<float>(kPiece * kThreads), device_zeros<float>(kThreads));
}

template <bool kBroken>
void run_rank() {
  EXN_LAUNCH((rank_by_counting<kBroken>), kThreads, kThreads, 0, nullptr,
             device_zeros<int>(kThreads), device_zeros<int>(kThreads));
}

template <bool kBroken>
void run_parts() {
  constexpr int kParts = 3;
  EXN_LAUNCH((part_of_depth<kBroken>), kParts, kThreads, 0, nullptr,
             device_zeros<float>(kParts * kThreads), device_zeros<float>(kParts * kThreads));
}

template <bool kBroken>
void run_leave() {
  int* count = device_zeros<int>(1);
  cudaMemset(count, 1, 1);
  EXN_LAUNCH((leave_before_barrier<kBroken>), 2, kThreads, 0, nullptr, count,
             device_zeros<float>(2 * kThreads));
}

template <bool kBroken>
void run_rotate() {
  EXN_LAUNCH((rotate_in_place<kBroken>), 1, kThreads, 0, nullptr,
             device_zeros<float>(2 * kThreads));
}

const Registration registration({
    {"change_before_wait", kRace, run_arrival<Arrival::kRight>, run_arrival<Arrival::kBeforeWait>},
    {"change_piece_of_neighbour", kRace, run_arrival<Arrival::kRight>,
     run_arrival<Arrival::kOfNeighbour>},
    {"rank_shared_by_ties", kRace, run_rank<false>, run_rank<true>},
    {"parts_share_a_place", kRace, run_parts<false>, run_parts<true>},
    {"threads_leave_before_barrier", kAllModes, run_leave<false>, run_leave<true>},
    {"rotation_over_foreign_pair", kRace, run_rotate<false>, run_rotate<true>},
});

}  // namespace
