// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "case.h"
#include "device.h"

namespace exn::gpu {

struct BenchOptions {
  int samples = 25;
  size_t copy_bytes = size_t{512} << 20;
};

struct BenchResult {
  Case measured;
  int rotation = 0;            // sets of buffers used in turn
  bool exceeds_cache = false;  // together they are larger than the L2 cache
  double median_us = 0;
  double best_us = 0;
};

// Bytes read and written per second by the runtime's own copy.
double copy_bandwidth(const BenchOptions& options);

// Time of one run: graphs that run the op once on each set of buffers, timed with events.
BenchResult measure(const Case& c, const BenchOptions& options);

}  // namespace exn::gpu
