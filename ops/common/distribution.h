// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "reals.h"

namespace exn::test {

// What a softmax over x looks like: everything that the statistics and their bounds are made of.
template <typename Real>
struct Distribution {
  Real top = -static_cast<Real>(kInf);  // largest x
  Real lse = 0;
  std::vector<Real> p;
  Real spread = 0;         // sum p |x - top|
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

}  // namespace exn::test
