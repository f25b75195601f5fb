// SPDX-License-Identifier: Apache-2.0
// What limits an op: the bytes that must move, or the arithmetic that its definition needs.
#pragma once

#include <map>
#include <string>

namespace exn::gpu {

struct Arithmetic {
  double operations = 0;  // a product and a sum are two; 0: next to none for each byte
  // What a device does them with at best: tensor cores ("mma") where all factors are 16 bits wide,
  // else "fma".
  std::string unit = "fma";
};

// From the op's name and a case's description (`Case::description`).
Arithmetic arithmetic_of(const std::string& op, const std::map<std::string, std::string>& shape);

}  // namespace exn::gpu
