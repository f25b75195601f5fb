// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "case.h"
#include "device.h"

namespace exn::gpu {

// Bytes of device memory that one run of a case takes, call by call and each from an empty cache.
struct TrafficResult {
  Case measured;
  double requested = 0;      // by all threads, whatever level of the hierarchy answers
  double first_touched = 0;  // each sector of 32 bytes once per launch
  double past_cache = 0;     // what an L2 cache of the emulated size lets through

  double ratio(double bytes) const { return bytes / measured.compulsory_bytes; }
  bool is_wasteful() const;  // more comes from memory, or is asked for, than traffic.cpp allows
};

// Whether the case is large enough for the ratio to mean something: sizes of real models, and rows
// long enough not to be outweighed by what is written per row.
bool is_realistic(const Case& c);

// Needs the race build of the emulator.
TrafficResult measure_traffic(const Case& c);

void print_traffic(const std::vector<TrafficResult>& results);

}  // namespace exn::gpu
