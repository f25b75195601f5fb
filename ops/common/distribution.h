// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <type_traits>

#include "reals.h"

namespace exn::test {

// What a softmax over x looks like: everything that the statistics and their bounds are made of.
template <typename Real>
struct Distribution {
  Real top = -static_cast<Real>(kInf);  // largest x
  Real lse = 0;
  std::vector<Real> p;
  Real spread = 0;  // sum p |x - top|
  Real entropy = 0;
  Real entropy_slope = 0;  // sum p |ln p + H|: how the entropy answers to errors of x
};

template <typename Real>
Distribution<Real> distribution_of(const std::vector<Real>& x, Real power = 1) {
  Distribution<Real> d;
  for (Real v : x) d.top = std::max(d.top, v);
  Real sum = 0;
  d.p.resize(x.size());
  for (size_t j = 0; j < x.size(); ++j) {
    d.p[j] = x[j] == -kInf ? 0 : std::exp(power * (x[j] - d.top));
    sum += d.p[j];
  }
  const Real log_sum = std::log(sum);
  d.lse = power * d.top + log_sum;
  for (size_t j = 0; j < x.size(); ++j) {
    d.p[j] /= sum;
    if (d.p[j] > 0) d.spread += d.p[j] * power * (d.top - x[j]);
  }
  d.entropy = log_sum + d.spread;
  for (size_t j = 0; j < x.size(); ++j) {
    if (d.p[j] > 0) {
      d.entropy_slope += d.p[j] * std::fabs(power * (x[j] - d.top) - log_sum + d.entropy);
    }
  }
  return d;
}

// x = z or ln s(z), with the error that computing it in `u` gives each element.
template <typename Real>
struct Scores {
  std::vector<Real> x;
  Real error = 0;  // largest, of a logarithm
  Distribution<Real> d;
  Real sum_bound = 0;  // relative, of sum exp
};

template <typename Real>
Scores<Real> scores_of(const std::vector<Real>& z, int32_t normalizer, Real u) {
  Scores<Real> s;
  s.x = z;
  if (normalizer == EXN_STABLEMAX) {
    for (Real& v : s.x) {
      if (v == -kInf) continue;
      v = log_s(v);
      s.error = std::max(s.error, 2 * u * (std::fabs(v) + 1));
    }
  }
  s.d = distribution_of(s.x);
  // In f64 the weights of StableMax are taken from their logarithms.
  s.sum_bound = std::is_same_v<Real, Wide>
                    ? u * (sum_error(static_cast<int64_t>(z.size())) + 2 * s.d.spread) + 2 * s.error
                    : static_cast<Real>(kStatsError);
  return s;
}

template <typename Real>
Real probability_bound(const Scores<Real>& s, size_t j, Real u) {
  if (s.x[j] == -kInf) return 0;
  const Real operations = std::is_same_v<Real, Wide> ? 4 : 0;  // of the promise, if there is one
  return s.d.p[j] * (s.sum_bound + u * (operations + 2 * (s.d.top - s.x[j])));
}

template <typename Real>
Real log_bound(const Scores<Real>& s, size_t j, Real u) {
  return s.sum_bound + 2 * s.error +
         u * 2 * (std::fabs(s.x[j] - s.d.top) + std::fabs(s.x[j] - s.d.lse));
}

}  // namespace exn::test
