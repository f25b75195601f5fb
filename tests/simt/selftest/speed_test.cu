// SPDX-License-Identifier: Apache-2.0
//
// The emulator must stay fast enough to be used on every build.
#include <chrono>
#include <cstdio>

#include "selftest.h"

namespace {

__global__ void shuffle_many(float* out, int rounds) {
  float sum = static_cast<float>(threadIdx.x);
  for (int i = 0; i < rounds; ++i) sum += __shfl_xor_sync(0xffffffffu, sum, 1) * 0.5f;
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

// Prints the figure; the bar is far below what a quiet core does (20 M/s and more), so that only a
// blunder fails.
TEST(Speed, ThreadSwitches) {
  constexpr int kBlocks = 16;
  constexpr int kThreads = 256;
  DeviceArray<float> out(kBlocks * kThreads);
  simt_reset();
  const auto start = std::chrono::steady_clock::now();
  EXN_LAUNCH(shuffle_many, kBlocks, kThreads, 0, nullptr, out.data(), 500);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  const double rate = static_cast<double>(simt_switch_count()) / seconds.count();
  std::printf("%.1f M thread switches per second (%s build)\n", rate / 1e6, simt_mode());
  if (std::string(simt_mode()) == "plain") {
    EXPECT_GT(rate, 2e6);
  }
}

}  // namespace
