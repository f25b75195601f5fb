// SPDX-License-Identifier: Apache-2.0
//
// Small kernels with one seeded bug each, and the same kernels without it. They show that the
// checker sees what it should and nothing else.
#pragma once

#include <vector>

#include "exeunt/cuda/portable.cuh"

enum Modes : unsigned {
  kPlain = 1,
  kAsan = 2,
  kRace = 4,
  kAllModes = kPlain | kAsan | kRace,
};

struct Mutant {
  const char* name;
  unsigned flagged_in;  // modes in which the broken twin must be flagged, in a single in-order run
  void (*clean)();
  void (*broken)();
};

void register_mutants(const std::vector<Mutant>& mutants);

// Each file of mutants registers its own when the program starts.
struct Registration {
  explicit Registration(const std::vector<Mutant>& mutants) { register_mutants(mutants); }
};

// A device array of zeros; the process ends soon, so it is not freed.
template <class T>
T* device_zeros(size_t count) {
  T* data = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&data), count * sizeof(T));
  cudaMemset(data, 0, count * sizeof(T));
  return data;
}
