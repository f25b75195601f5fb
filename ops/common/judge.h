// SPDX-License-Identifier: Apache-2.0
//
// What the judgements of all ops have in common.
#pragma once

#include <initializer_list>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "case.h"
#include "expected.h"

namespace exn::test {

inline std::string place(int64_t row, int64_t col) {
  return "[" + std::to_string(row) + "," + std::to_string(col) + "]";
}

// The largest error / bound seen so far of each output of each op, for summaries.
std::map<std::string, double>& worst_errors();

// Decisions so near to their threshold that rounding may tip them, and decisions in all, for
// summaries.
struct Band {
  int64_t hits = 0;
  int64_t decisions = 0;
};
std::map<std::string, Band>& bands();
void count_band(const std::string& what, int64_t hits, int64_t decisions);

// Empty if `got` agrees with what was expected. `what` names the output, `place` its element.
Complaint compare(const std::string& what, const std::string& place, const Expected& expected,
                  double got);

// All elements of a matrix (or of a vector), expected in row-major order.
Complaint compare(const std::string& name, const std::vector<Expected>& expected,
                  const HostTensor& got);

// Whatever the rounding: no element lies outside of low ... high. NaN is none's concern here.
Complaint compare_range(const std::string& name, double low, double high, const HostTensor& got);

inline Complaint compare_integers(const std::string& name, const std::vector<int64_t>& expected,
                                  const HostTensor& got) {
  for (size_t i = 0; i < expected.size(); ++i) {
    const int64_t value = got.integer_at(static_cast<int64_t>(i));
    if (value == expected[i]) continue;
    return name + "[" + std::to_string(i) + "]: got " + std::to_string(value) + ", expected " +
           std::to_string(expected[i]);
  }
  return "";
}

inline Complaint compare_bytes(const std::string& name, const HostTensor& expected,
                               const HostTensor& got) {
  const bool integers = expected.type == Type::kI32 || expected.type == Type::kU8;
  for (size_t i = 0; i < expected.bytes.size(); ++i) {
    if (expected.bytes[i] == got.bytes[i]) continue;
    if (!integers) return name + ": byte " + std::to_string(i) + " is another";
    const int64_t element = static_cast<int64_t>(i) / size_of(expected.type);
    return name + "[" + std::to_string(element) + "]: got " +
           std::to_string(got.integer_at(element)) + ", expected " +
           std::to_string(expected.integer_at(element));
  }
  return "";
}

// Outputs that are exact to the bit, padding and what stays untouched included, with their names.
using ExactOutputs = std::vector<std::pair<std::string, HostTensor>>;

inline Complaint compare_bytes(const ExactOutputs& expected, const Outputs& got) {
  if (expected.size() != got.size()) return "the oracle has other outputs";
  for (size_t i = 0; i < got.size(); ++i) {
    const Complaint complaint = compare_bytes(expected[i].first, expected[i].second, got[i]);
    if (!complaint.empty()) return complaint;
  }
  return "";
}

template <class Integer>
std::vector<int64_t> widened(const std::vector<Integer>& values) {
  return {values.begin(), values.end()};
}

// The first complaint, if any.
inline Complaint first_of(std::initializer_list<Complaint> complaints) {
  for (const Complaint& complaint : complaints) {
    if (!complaint.empty()) return complaint;
  }
  return "";
}

// Computes an oracle when it is first asked for, and keeps it.
template <class Make>
auto lazily(Make make) {
  using Value = decltype(make());
  auto kept = std::make_shared<std::unique_ptr<Value>>();
  return [make, kept]() -> const Value& {
    if (*kept == nullptr) *kept = std::make_unique<Value>(make());
    return **kept;
  };
}

inline double bytes_of(int64_t elements, Type type) {
  return static_cast<double>(elements) * static_cast<double>(size_of(type));
}

// Weights are read once for each block of up to 64 rows.
inline double passes_over_weights(int64_t rows) { return static_cast<double>((rows + 63) / 64); }

inline std::string text(int64_t value) { return std::to_string(value); }
inline std::string quoted(const std::string& text) { return "\"" + text + "\""; }

}  // namespace exn::test
