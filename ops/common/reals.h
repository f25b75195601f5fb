// SPDX-License-Identifier: Apache-2.0
// What the oracles over rows of numbers share.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "expected.h"

namespace exn::test {

// Results of f64 have their oracle in long double; of all others in double, which leaves every
// bound 29 bits of margin. long double is done in software on ARM, where an oracle in it takes
// longer than all the rest.
using Wide = long double;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
// Of f32, the precision of every reduction but those of f64 storage.
constexpr double kUnit = 0x1p-24;

inline double as_double(Wide value) { return static_cast<double>(value); }
inline double as_double(double value) { return value; }

inline size_t at(int64_t i) { return static_cast<size_t>(i); }

template <typename Real>
std::vector<Real> row_of(const HostTensor& t, int64_t row) {
  std::vector<Real> values(at(t.cols));
  for (int64_t c = 0; c < t.cols; ++c) values[at(c)] = static_cast<Real>(t.at(row, c));
  return values;
}

// ln s(x) of StableMax.
template <typename Real>
Real log_s(Real x) {
  return x >= 0 ? std::log1p(x) : -std::log1p(-x);
}

template <typename Real>
bool valid_logits(const std::vector<Real>& z) {
  bool finite = false;
  for (Real v : z) {
    if (std::isnan(v) || v == kInf) return false;
    finite = finite || std::isfinite(v);
  }
  return finite;
}

template <typename Real>
bool all_finite(const std::vector<Real>& x) {
  return std::all_of(x.begin(), x.end(), [](Real v) { return std::isfinite(v); });
}

// The result after it was stored as `type`, on top of the error it had.
template <typename Real>
Expected stored(Type type, Real value, Real error) {
  const double kept = rounded_to(type, as_double(value));
  if (!std::isfinite(kept)) return {kept, 0};
  const Real rounding_error = static_cast<Real>(rounding(type) * 1.01) * std::fabs(value) +
                              static_cast<Real>(smallest(type));
  return {as_double(value), as_double(error + rounding_error)};
}

inline Expected nan() { return {kNaN, 0}; }

}  // namespace exn::test
