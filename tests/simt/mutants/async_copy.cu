// SPDX-License-Identifier: Apache-2.0
//
// Double-buffered cp.async: what goes wrong when the wait or a barrier is too weak.
#include "mutants.h"

namespace {

constexpr int kThreads = 64;
constexpr int kTile = 4 * kThreads;
constexpr int kTiles = 5;

enum class Bug { kNone, kWaitTooWeak, kNoBarrierBeforeReuse, kNoBarrierAfterWait };

template <Bug kBug>
__global__ void sum_tiles(const float* in, float* out) {
  __shared__ __align__(16) float buffer[2][kTile];
  const int t = static_cast<int>(threadIdx.x);
  float sum = 0.0f;
  __pipeline_memcpy_async(&buffer[0][4 * t], in + 4 * t, 16);
  __pipeline_commit();
  for (int tile = 0; tile < kTiles; ++tile) {
    if (tile + 1 < kTiles) {
      __pipeline_memcpy_async(&buffer[(tile + 1) % 2][4 * t], in + (tile + 1) * kTile + 4 * t, 16);
    }
    __pipeline_commit();
    __pipeline_wait_prior(kBug == Bug::kWaitTooWeak ? 2 : 1);
    if (kBug != Bug::kNoBarrierAfterWait) __syncthreads();
    for (int i = 0; i < 4; ++i) sum += buffer[tile % 2][i * kThreads + t];
    if (kBug != Bug::kNoBarrierBeforeReuse) __syncthreads();
  }
  out[t] = sum;
}

template <Bug kBug>
void run() {
  EXN_LAUNCH((sum_tiles<kBug>), 1, kThreads, 0, nullptr, device_zeros<float>(kTile * kTiles),
             device_zeros<float>(kThreads));
}

template <bool kBroken>
__global__ void copy_past_global(const float* in, float* out, int n) {
  __shared__ __align__(16) float buffer[kTile];
  const int t = static_cast<int>(threadIdx.x);
  const int missing = 4 * t + 4 - n;
  const int zeros = missing < 0 ? 0 : missing > 4 ? 4 : missing;
  __pipeline_memcpy_async(&buffer[4 * t], in + 4 * t, 16, kBroken ? 0 : 4 * zeros);
  __pipeline_commit();
  __pipeline_wait_prior(0);
  out[t] = buffer[4 * t + 3];
}

template <bool kBroken>
void run_past_global() {
  constexpr int kCount = kTile - 6;
  EXN_LAUNCH((copy_past_global<kBroken>), 1, kThreads, 0, nullptr, device_zeros<float>(kCount),
             device_zeros<float>(kThreads), kCount);
}

const Registration registration({
    {"async_wait_too_weak", kRace, run<Bug::kNone>, run<Bug::kWaitTooWeak>},
    {"async_no_barrier_before_reuse", kRace, run<Bug::kNone>, run<Bug::kNoBarrierBeforeReuse>},
    {"async_no_barrier_after_wait", kRace, run<Bug::kNone>, run<Bug::kNoBarrierAfterWait>},
    {"async_past_global", kRace, run_past_global<false>, run_past_global<true>},
});

}  // namespace
