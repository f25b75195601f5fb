// SPDX-License-Identifier: Apache-2.0
#include "bench.h"

#include <algorithm>
#include <cmath>

namespace exn::gpu {
namespace {

constexpr int kMostCalls = 2048;  // in a graph

class CaseRunnable : public Runnable {
 public:
  explicit CaseRunnable(std::unique_ptr<Instance> instance) : instance_(std::move(instance)) {
    instance_->prepare();
  }
  void run(exn_stream stream) override { instance_->run(stream); }
  size_t bytes() const override { return instance_->tensor_bytes(); }

 private:
  std::unique_ptr<Instance> instance_;
};

// Times `work` per unit, of which each run does `units`, after a warm-up.
Timing time(const Stream& stream, const BenchOptions& options, int units,
            const std::function<void()>& work) {
  const Stopwatch stopwatch;
  auto start = Clock::now();
  do {
    work();
    stream.synchronize();
  } while (seconds_since(start) < options.warm_seconds);
  std::vector<double> microseconds;
  start = Clock::now();
  do {
    stopwatch.start(stream);
    work();
    stopwatch.stop(stream);
    microseconds.push_back(stopwatch.milliseconds() * 1e3 / units);
  } while (seconds_since(start) < options.sample_seconds ||
           static_cast<int>(microseconds.size()) < options.least_samples);
  std::sort(microseconds.begin(), microseconds.end());
  return {microseconds[microseconds.size() / 2], microseconds.front(), microseconds.back(),
          static_cast<int>(microseconds.size())};
}

// How often a graph must repeat its work to take as long as it should.
int repeats_for(const Stream& stream, const Graph& graph, int units, const BenchOptions& options) {
  if (options.graph_seconds <= 0) return 1;
  const Stopwatch stopwatch;
  graph.launch(stream);
  stopwatch.start(stream);
  graph.launch(stream);
  stopwatch.stop(stream);
  const double once = std::max(stopwatch.milliseconds() * 1e-3, 1e-6);
  const int wanted = static_cast<int>(std::ceil(options.graph_seconds / once));
  return std::max(1, std::min(wanted, kMostCalls / units));
}

std::string look(const BenchOptions& options) {
  return options.monitor == nullptr ? "{}" : options.monitor->read();
}

}  // namespace

Work work_of(const Case& c) {
  return {
      c.op, c.base.id, c.compulsory_bytes, arithmetic_of(c.op, c.description), c.description, [c] {
        return std::make_unique<CaseRunnable>(c.instantiate(kDLCUDA));
      }};
}

BenchResult measure(const Work& work, const BenchOptions& options) {
  std::vector<std::unique_ptr<Runnable>> sets;
  size_t bytes = 0;
  const size_t cache = static_cast<size_t>(attribute(cudaDevAttrL2CacheSize));
  const size_t wanted = 3 * cache;
  while (sets.empty() || (bytes < wanted && static_cast<int>(sets.size()) < options.most_sets)) {
    sets.push_back(work.make());
    bytes += sets.back()->bytes();
  }
  BenchResult result;
  result.rotation = static_cast<int>(sets.size());
  result.exceeds_cache = bytes >= 2 * cache;

  // Modules are loaded at the first launch, which a capture would not allow everywhere.
  const Stream stream(kDLCUDA);
  const auto round = [&] {
    for (const auto& set : sets) set->run(stream.get());
  };
  round();
  stream.synchronize();
  const Graph once(stream, round);
  result.repeats = repeats_for(stream, once, result.rotation, options);
  std::unique_ptr<Graph> repeated;
  if (result.repeats > 1) {
    repeated = std::make_unique<Graph>(stream, [&] {
      for (int i = 0; i < result.repeats; ++i) round();
    });
  }
  const Graph& graph = repeated == nullptr ? once : *repeated;
  result.before = look(options);
  result.time =
      time(stream, options, result.rotation * result.repeats, [&] { graph.launch(stream); });
  result.after = look(options);
  return result;
}

Ceilings measure_ceilings(const BenchOptions& options) {
  Ceilings ceilings;
  const Stream stream(kDLCUDA);
  const test::DeviceMemory from(kDLCUDA, options.probe_bytes), to(kDLCUDA, options.probe_bytes);
  const auto bytes = static_cast<double>(options.probe_bytes);
  const auto per_second = [](double amount, const Timing& timing) {
    return timing.median_us > 0 ? amount / (timing.median_us * 1e-6) : 0;
  };
  ceilings.copy = per_second(
      2 * bytes, time(stream, options, 1, [&] {
        require(exn_copy(to.data(), kDLCUDA, 0, from.data(), kDLCUDA, 0, from.size(), stream.get()),
                "exn_copy");
      }));
  if (!has_probes()) return ceilings;
  void* const sink = to.data();
  ceilings.read = per_second(
      bytes, time(stream, options, 1, [&] {
        require_probe(probes().read(from.data(), from.size(), sink, stream.get()), "read probe");
      }));
  double operations = 0;
  Timing timing = time(stream, options, 1, [&] {
    require_probe(probes().fma(options.probe_iterations, sink, &operations, stream.get()),
                  "fma probe");
  });
  ceilings.fma = per_second(operations, timing);
  timing = time(stream, options, 1, [&] {
    require_probe(probes().mma(options.probe_iterations, sink, &operations, stream.get()),
                  "mma probe");
  });
  ceilings.mma = per_second(operations, timing);
  return ceilings;
}

}  // namespace exn::gpu
