// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "case.h"
#include "device.h"

namespace exn::gpu {

struct CheckResult {
  std::string op;
  int cases = 0;
  int same_bits_as_cpu = 0;
  std::vector<std::string> failures;
  double seconds = 0;
  double worst_error = 0;  // of a model shape, in units of what is allowed
  // Where the runtime counts: the case that moved most in relation to what any implementation must,
  // among those that move enough for the ratio to mean something.
  double most_traffic = 0;
  std::string most_traffic_case;
};

// Runs the case on CUDA - at once, and unless `once` from a graph and on two streams - and on the
// CPU, and judges all of it. Adds to `result`.
void check(const Case& c, bool once, CheckResult* result);

}  // namespace exn::gpu
