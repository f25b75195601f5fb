// SPDX-License-Identifier: Apache-2.0
#include "judge.h"

#include <algorithm>
#include <cmath>

namespace exn::test {

std::map<std::string, double>& worst_errors() {
  static std::map<std::string, double> worst;
  return worst;
}

std::map<std::string, Band>& bands() {
  static std::map<std::string, Band> all;
  return all;
}

void count_band(const std::string& what, int64_t hits, int64_t decisions) {
  Band& band = bands()[what];
  band.hits += hits;
  band.decisions += decisions;
}

Complaint compare(const std::string& what, const std::string& place, const Expected& expected,
                  double got) {
  if (!agrees(expected, got)) {
    std::ostringstream text;
    text.precision(9);
    text << what << place << ": got " << got << ", expected " << expected.value << " within "
         << expected.bound;
    return text.str();
  }
  if (std::isfinite(expected.bound) && expected.bound > 0 && std::isfinite(expected.value)) {
    double& worst = worst_errors()[what];
    worst = std::max(worst, std::fabs(got - expected.value) / expected.bound);
  }
  return "";
}

Complaint compare(const std::string& name, const std::vector<Expected>& expected,
                  const HostTensor& got) {
  if (static_cast<int64_t>(expected.size()) != got.size())
    return name + ": the oracle has another size";
  double& worst = worst_errors()[name];
  for (int64_t row = 0; row < got.rows; ++row) {
    for (int64_t col = 0; col < got.cols; ++col) {
      const Expected& e = expected[static_cast<size_t>(row * got.cols + col)];
      const double value = got.at(row, col);
      if (!agrees(e, value)) return compare(name, place(row, col), e, value);
      if (e.bound > 0 && std::isfinite(e.bound) && std::isfinite(e.value))
        worst = std::max(worst, std::fabs(value - e.value) / e.bound);
    }
  }
  return "";
}

Complaint compare_range(const std::string& name, double low, double high, const HostTensor& got) {
  for (int64_t row = 0; row < got.rows; ++row) {
    for (int64_t col = 0; col < got.cols; ++col) {
      const double value = got.at(row, col);
      if (value < low || value > high) {
        return name + place(row, col) + ": " + std::to_string(value) + " is out of range";
      }
    }
  }
  return "";
}

}  // namespace exn::test
