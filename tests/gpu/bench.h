// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "case.h"
#include "device.h"
#include "monitor.h"
#include "roof.h"

namespace exn::gpu {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct BenchOptions {
  double warm_seconds = 0.3;
  double sample_seconds = 0.2;
  double graph_seconds = 1e-3;  // a graph repeats its work until it takes as long
  int least_samples = 5;
  int most_sets = 64;  // of buffers, which are used in turn
  size_t probe_bytes = size_t{1} << 30;
  int probe_iterations = 4096;
  const Monitor* monitor = nullptr;
};

// A call with its tensors on the device.
class Runnable {
 public:
  virtual ~Runnable() = default;
  virtual void run(exn_stream stream) = 0;
  virtual size_t bytes() const = 0;  // of its tensors
};

struct Work {
  std::string op;
  std::string id;
  double compulsory_bytes = 0;
  Arithmetic arithmetic;
  std::map<std::string, std::string> description;
  std::function<std::unique_ptr<Runnable>()> make;
};

Work work_of(const Case& c);

struct Timing {
  double median_us = 0;
  double best_us = 0;
  double worst_us = 0;
  int samples = 0;
};

struct BenchResult {
  Timing time;                 // of one run
  int rotation = 0;            // sets of buffers used in turn
  int repeats = 0;             // rounds over them in a graph
  bool exceeds_cache = false;  // together they are larger than twice the L2 cache
  std::string before, after;   // JSON of the monitor
};

// Time of one run: eager runs first, then graphs that run it on each set of buffers in turn, timed
// with events after a warm-up.
BenchResult measure(const Work& work, const BenchOptions& options);

// What the device does at best, per second.
struct Ceilings {
  double copy = 0;  // bytes read and written by the runtime's own copy
  double read = 0;  // bytes
  double fma = 0;   // f32 operations; a fused product and sum are two
  double mma = 0;   // the same of bf16 on the tensor cores, by mma.sync; 0 if there are none
};
Ceilings measure_ceilings(const BenchOptions& options);

}  // namespace exn::gpu
