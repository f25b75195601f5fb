// SPDX-License-Identifier: Apache-2.0
#include "expected.h"

namespace exn::test {

bool is_16_bit(Type type) { return type == Type::kF16 || type == Type::kBF16; }

Leeway& leeway() {
  static Leeway current;
  return current;
}

bool agrees(const Expected& expected, double got) {
  if (std::isinf(expected.bound)) return true;
  if (std::isnan(expected.value)) return std::isnan(got);
  if (std::isinf(expected.value)) return got == expected.value;
  return std::fabs(got - expected.value) <= expected.bound * leeway().factor + leeway().more;
}

}  // namespace exn::test
