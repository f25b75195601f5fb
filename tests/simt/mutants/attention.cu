// SPDX-License-Identifier: Apache-2.0
//
// A tile of slots in shared memory: some warps make weights of it, all add it up, and the next tile
// takes its place. The patterns of attention.cuh.
#include "mutants.h"

namespace {

constexpr int kThreads = 64;
constexpr int kWarps = kThreads / 32;
constexpr int kTile = 16;   // slots
constexpr int kPitch = 36;  // floats of a slot
constexpr int kSlots = 40;  // visible: two and a half tiles

enum class Bug {
  kNone,
  kNoBarrierBeforeWeights,
  kNoBarrierBeforeReuse,
  kNoSyncwarp,
  kWaitsOnlyIfItSees
};

template <Bug kBug>
__global__ void attend(const float* cache, float* out) {
  __shared__ __align__(16) float tile[kTile][kPitch];
  __shared__ float products[kWarps][32];
  __shared__ float weights[kTile];
  const int t = static_cast<int>(threadIdx.x);
  const int warp = t / 32;
  const int lane = t % 32;
  float sum = 0.0f;
  for (int first = 0; first < kSlots; first += kTile) {
    const int left = kSlots - first < kTile ? kSlots - first : kTile;
    for (int i = t; i < left * 8; i += kThreads) {
      __pipeline_memcpy_async(&tile[i / 8][i % 8 * 4], cache + (first + i / 8) * 32 + i % 8 * 4,
                              16);
    }
    __pipeline_commit();
    __pipeline_wait_prior(0);
    __syncthreads();  // the tile is there
    const int slot = warp * 8 + lane % 8;
    if (kBug != Bug::kWaitsOnlyIfItSees || slot < left) {
      // Two lanes share a slot's product by way of shared memory.
      products[warp][lane] = slot < left ? tile[slot][lane % 4] : 0.0f;
      if (kBug != Bug::kNoSyncwarp) __syncwarp();
      if (lane < 8) weights[slot] = products[warp][lane] + products[warp][lane + 8];
      if (kBug != Bug::kNoBarrierBeforeWeights) __syncthreads();  // all weights are there
    }
    for (int i = 0; i < left; ++i) sum += weights[i] * tile[i][lane];
    if (kBug != Bug::kNoBarrierBeforeReuse) __syncthreads();  // all have left the tile
  }
  out[t] = sum;
}

template <Bug kBug>
void run() {
  EXN_LAUNCH((attend<kBug>), 1, kThreads, 0, nullptr, device_zeros<float>(kSlots * 32),
             device_zeros<float>(kThreads));
}

const Registration registration({
    {"tile_no_barrier_before_weights", kRace, run<Bug::kNone>, run<Bug::kNoBarrierBeforeWeights>},
    {"tile_no_barrier_before_reuse", kRace, run<Bug::kNone>, run<Bug::kNoBarrierBeforeReuse>},
    {"tile_no_syncwarp", kRace, run<Bug::kNone>, run<Bug::kNoSyncwarp>},
    {"tile_waits_only_if_it_sees", kAllModes, run<Bug::kNone>, run<Bug::kWaitsOnlyIfItSees>},
});

// The first tile is not full: a slot beyond `visible` was never copied.
template <bool kBroken>
__global__ void sum_visible(const float* cache, float* out, int visible) {
  __shared__ __align__(16) float tile[kTile][kPitch];
  const int t = static_cast<int>(threadIdx.x);
  for (int i = t; i < visible * 8; i += kThreads) {
    __pipeline_memcpy_async(&tile[i / 8][i % 8 * 4], cache + i * 4, 16);
  }
  __pipeline_commit();
  __pipeline_wait_prior(0);
  __syncthreads();
  float sum = 0.0f;
  for (int slot = 0; slot < (kBroken ? visible + 1 : visible); ++slot) sum += tile[slot][t % 32];
  out[t] = sum;
}

template <bool kBroken>
void run_visible() {
  EXN_LAUNCH((sum_visible<kBroken>), 1, kThreads, 0, nullptr, device_zeros<float>(kTile * 32),
             device_zeros<float>(kThreads), kTile - 3);
}

const Registration registration_visible({
    {"tile_one_slot_too_many", kRace, run_visible<false>, run_visible<true>},
});

// Slots that move within one cache in rounds: a round reads all it moves before it writes any of
// it.
enum class MoveBug { kNone, kNoBarrierAfterReading, kNoBarrierBetweenRounds };

template <MoveBug kBug>
__global__ void move_down(int* cache, int count) {
  const int t = static_cast<int>(threadIdx.x);
  for (int begin = 0; begin < count; begin += kThreads) {
    const int entry = begin + t;
    const int held = entry < count ? cache[entry + 40] : 0;
    if (kBug != MoveBug::kNoBarrierAfterReading) __syncthreads();
    if (entry < count) cache[entry] = held;
    if (kBug != MoveBug::kNoBarrierBetweenRounds) __syncthreads();
  }
}

// As above, upwards: the second round reads what the first one wrote.
template <MoveBug kBug>
__global__ void move_up(int* cache, int count) {
  const int t = static_cast<int>(threadIdx.x);
  for (int begin = 0; begin < count; begin += kThreads) {
    const int entry = begin + t;
    const int held = entry < count ? cache[entry] : 0;
    if (kBug != MoveBug::kNoBarrierAfterReading) __syncthreads();
    if (entry < count) cache[entry + 80] = held;
    if (kBug != MoveBug::kNoBarrierBetweenRounds) __syncthreads();
  }
}

template <void (*kKernel)(int*, int)>
void run_moves() {
  EXN_LAUNCH(kKernel, 1, kThreads, 0, nullptr, device_zeros<int>(400), 150);
}

const Registration registration_moves({
    {"moves_no_barrier_after_reading", kRace, run_moves<move_down<MoveBug::kNone>>,
     run_moves<move_down<MoveBug::kNoBarrierAfterReading>>},
    {"moves_no_barrier_between_rounds", kRace, run_moves<move_up<MoveBug::kNone>>,
     run_moves<move_up<MoveBug::kNoBarrierBetweenRounds>>},
});

// Rows counted in order: everybody reads a sequence's length before its last row writes it.
template <bool kBroken>
__global__ void advance(int* length, int* slot) {
  __shared__ int sequence[kThreads];
  const int t = static_cast<int>(threadIdx.x);
  sequence[t] = t % 3;
  if (kBroken) __syncthreads();
  const int start = length[t % 3];
  if (!kBroken) __syncthreads();
  int before = 0;
  bool later = false;
  for (int i = 0; i < kThreads; ++i) {
    before += i < t && sequence[i] == sequence[t];
    later |= i > t && sequence[i] == sequence[t];
  }
  slot[t] = start + before;
  if (!later) length[t % 3] = start + before + 1;
}

template <bool kBroken>
void run_advance() {
  EXN_LAUNCH((advance<kBroken>), 1, kThreads, 0, nullptr, device_zeros<int>(3),
             device_zeros<int>(kThreads));
}

const Registration registration_advance({
    {"advance_reads_after_barrier", kRace, run_advance<false>, run_advance<true>},
});

}  // namespace
