// SPDX-License-Identifier: Apache-2.0
// A screen that is being made: what the steps of screen.cpp hand on to each other.
#pragma once

#include <cmath>
#include <vector>

#include "base/screen.h"

namespace exn::cpu {

// Beyond what sums in double lose.
constexpr double kUp = 1 + 1e-9;

inline float float_up(double x) {
  const auto f = static_cast<float>(x);
  return static_cast<double>(f) >= x ? f : std::nextafterf(f, HUGE_VALF);
}

inline size_t size(int64_t n) { return static_cast<size_t>(n); }

struct ScreenDraft {
  explicit ScreenDraft(const ScreenArgs& args)
      : a(args),
        h(*args.header),
        dim(args.weight.cols),
        vocabulary(args.weight.rows),
        columns((dim + 31) / 32 * 32) {}

  const float* state(int64_t n) const {
    return static_cast<const float*>(a.states.data) + n * a.states.stride;
  }
  int32_t level(int64_t n) const { return a.levels == nullptr ? 0 : a.levels[n]; }
  float* floats(int64_t offset) const { return reinterpret_cast<float*>(a.image + offset); }

  const ScreenArgs& a;
  ScreenHeader h;
  const int64_t dim, vocabulary, columns;
  ScreenLayout at{};
  std::vector<float> means;        // [levels, D]
  std::vector<double> directions;  // [D, D], as rows
  std::vector<float> sigma;        // [columns]
  std::vector<double> worth;       // [columns]: mean squares of what columns contribute
  std::vector<double> lengths;     // [groups]: |(s_i |P_i|)_g|
  std::vector<float> norms;        // [V, groups + 1]
};

}  // namespace exn::cpu
