// SPDX-License-Identifier: Apache-2.0
// What an oracle says of a value, and how far a result may be from it. Oracles are scalar: plain
// loops over the stored inputs, independent of the library, in double, and in long double where
// results are f64. Three tiers of bounds:
//
//  1. exact: indices, flags, masks, lists, copies, and sums of small integers;
//  2. derived: statistics of logits as the headers promise them, and a sum of n terms may be off by
//     sum_error(n) * u * sum |x|, with u the unit roundoff of the precision that the contract asks
//     for; the oracles carry such bounds through their formulas;
//  3. table: what storing a result in a narrow type may add, rounding(type) and smallest(type).
#pragma once

#include <cmath>
#include <cstdint>

#include "tensor.h"

namespace exn::test {

// |got - value| <= bound; a NaN value asks for NaN, an infinite one for itself.
struct Expected {
  double value = 0;
  double bound = 0;
};

// How far results may be off where something else than exeunt is judged: so many times the bound,
// and so much more.
struct Leeway {
  double factor = 1;
  double more = 0;
};
Leeway& leeway();

bool agrees(const Expected& expected, double got);

bool is_16_bit(Type type);

// Unit roundoff (half a unit in the last place) of a storage type.
inline double rounding(Type type) {
  switch (type) {
    case Type::kF64:
      return 0x1p-53;
    case Type::kF16:
      return 0x1p-11;
    case Type::kBF16:
      return 0x1p-8;
    default:
      return 0x1p-24;
  }
}

// Below this a result may be flushed to zero: denormals are not part of the contract.
inline double smallest(Type type) {
  switch (type) {
    case Type::kF64:
      return 0x1p-1022;
    case Type::kF16:
      return 0x1p-24;
    default:
      return 0x1p-126;
  }
}

// Precision of arithmetic for a storage type: f64 for f64, else f32.
inline double arithmetic(Type type) { return type == Type::kF64 ? 0x1p-53 : 0x1p-24; }

// Rounding errors of a sum of n terms in units of u * sum |x|. The worst case, n, needs every error
// to have one sign; errors that do not conspire grow with the root. The constant covers exp, log
// and the last few operations around the sum.
inline double sum_error(int64_t n) { return 8 + 0.5 * std::sqrt(static_cast<double>(n)); }

// What the headers promise of a sum of weights over a row of f32, f16 or bf16 logits, and of the
// statistics made of it, however many terms it has and whatever they have in common.
constexpr double kStatsError = 1e-6;

// Independent errors add as the root of their squares; four times that is
// never reached in practice.
constexpr double kIndependent = 4;

}  // namespace exn::test
