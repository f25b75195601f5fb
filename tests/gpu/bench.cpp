// SPDX-License-Identifier: Apache-2.0
#include "bench.h"

#include <algorithm>

namespace exn::gpu {
namespace {

constexpr int kWarmUps = 3;
constexpr int kMostSets = 64;

size_t cache_bytes() {
  int bytes = 0;
  require(cuda().device_get_attribute(&bytes, cudaDevAttrL2CacheSize, 0), "cudaDeviceGetAttribute");
  return static_cast<size_t>(bytes);
}

struct Timing {
  double median_us;
  double best_us;
};

// Times `work` per unit, of which each run does `units`.
Timing time(const Stream& stream, int samples, int units, const std::function<void()>& work) {
  const Stopwatch stopwatch;
  for (int i = 0; i < kWarmUps; ++i) work();
  stream.synchronize();
  std::vector<double> microseconds;
  for (int i = 0; i < samples; ++i) {
    stopwatch.start(stream);
    work();
    stopwatch.stop(stream);
    microseconds.push_back(stopwatch.milliseconds() * 1e3 / units);
  }
  std::sort(microseconds.begin(), microseconds.end());
  return {microseconds[microseconds.size() / 2], microseconds.front()};
}

}  // namespace

double copy_bandwidth(const BenchOptions& options) {
  const Stream stream(kDLCUDA);
  const test::DeviceMemory from(kDLCUDA, options.copy_bytes);
  const test::DeviceMemory to(kDLCUDA, options.copy_bytes);
  const Timing timing = time(stream, options.samples, 1, [&] {
    require(
        exn_copy(to.data(), kDLCUDA, 0, from.data(), kDLCUDA, 0, options.copy_bytes, stream.get()),
        "exn_copy");
  });
  return 2 * static_cast<double>(options.copy_bytes) / (timing.median_us * 1e-6);
}

BenchResult measure(const Case& c, const BenchOptions& options) {
  std::vector<std::unique_ptr<Instance>> sets;
  size_t bytes = 0;
  const size_t wanted = 3 * cache_bytes();
  while (sets.size() < 2 || (bytes < wanted && sets.size() < kMostSets)) {
    sets.push_back(c.instantiate(kDLCUDA));
    sets.back()->prepare();
    bytes += sets.back()->tensor_bytes();
  }
  const Stream stream(kDLCUDA);
  const Graph graph(stream, [&] {
    for (const auto& set : sets) set->run(stream.get());
  });
  const auto units = static_cast<int>(sets.size());
  const Timing timing = time(stream, options.samples, units, [&] { graph.launch(stream); });
  return {c, units, bytes >= wanted, timing.median_us, timing.best_us};
}

}  // namespace exn::gpu
