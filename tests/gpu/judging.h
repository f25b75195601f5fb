// SPDX-License-Identifier: Apache-2.0
//
// What the judgements of all ops have in common.
#pragma once

#include <initializer_list>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "ops.h"
#include "oracle.h"

namespace exn::gpu {

inline std::string at(int64_t row, int64_t col) {
  return "[" + std::to_string(row) + "," + std::to_string(col) + "]";
}

inline Complaint differs(const std::string& what, const test::Expected& expected, double got) {
  std::ostringstream text;
  text.precision(9);
  text << what << ": got " << got << ", expected " << expected.value << " within "
       << expected.bound;
  return text.str();
}

inline Complaint compare(const std::string& name, const std::vector<test::Expected>& expected,
                         const test::HostTensor& got) {
  if (static_cast<int64_t>(expected.size()) != got.size())
    return name + ": the oracle has another size";
  for (int64_t row = 0; row < got.rows; ++row) {
    for (int64_t col = 0; col < got.cols; ++col) {
      const test::Expected& e = expected[static_cast<size_t>(row * got.cols + col)];
      if (!test::agrees(e, got.at(row, col)))
        return differs(name + at(row, col), e, got.at(row, col));
    }
  }
  return "";
}

inline Complaint compare_integers(const std::string& name, const std::vector<int64_t>& expected,
                                  const test::HostTensor& got) {
  for (size_t i = 0; i < expected.size(); ++i) {
    const int64_t value = got.integer_at(static_cast<int64_t>(i));
    if (value == expected[i]) continue;
    return name + "[" + std::to_string(i) + "]: got " + std::to_string(value) + ", expected " +
           std::to_string(expected[i]);
  }
  return "";
}

inline Complaint compare_bytes(const std::string& name, const test::HostTensor& expected,
                               const test::HostTensor& got) {
  for (size_t i = 0; i < expected.bytes.size(); ++i) {
    if (expected.bytes[i] == got.bytes[i]) continue;
    return name + ": byte " + std::to_string(i) + " is another";
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

inline double bytes_of(int64_t elements, test::Type type) {
  return static_cast<double>(elements) * static_cast<double>(test::size_of(type));
}

inline std::string text(int64_t value) { return std::to_string(value); }
inline std::string quoted(const std::string& text) { return "\"" + text + "\""; }

}  // namespace exn::gpu
