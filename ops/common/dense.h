// SPDX-License-Identifier: Apache-2.0
// What the ops over dense rows and weights share: words of their tables, inputs, and the parts of
// their oracles, in double with the errors that sums in f32 may have.
#pragma once

#include <vector>

#include "reals.h"

namespace exn::test {

extern const std::vector<const char*> kNorms;       // EXN_NORM_*
extern const std::vector<const char*> kRopeStyles;  // EXN_ROPE_*

// ---- inputs -------------------------------------------------------------------------------------

// Any numbers serve as cosines and sines: the ops read the table, whoever made it. `kind` is
// "normal", which halves, or "ones"; stream 2, one row.
HostTensor make_rope_table(int64_t positions, int64_t pairs, const std::string& kind,
                           uint64_t seed);

// ---- rows of values with their errors -----------------------------------------------------------

// A value with an error of its own and one that it shares with the others of its row, in one
// direction or the other.
struct Approximate {
  double x = 0;
  double own = 0;
  double shared = 0;

  double error() const { return own + shared; }
};

using Values = std::vector<Approximate>;
using Matrix = std::vector<std::vector<double>>;

Values exact_values(const HostTensor& t, int64_t row);
Matrix matrix_of(const HostTensor& t);

// The f32 normalisation of a row of exact values.
void normalise(Values* row, int32_t norm, float eps, const HostTensor& weight,
               const HostTensor& bias);

// One more sum in f32.
Approximate plus(Approximate v, double term);

// weight * x + bias in f32; without a bias if it is not given.
Values projected(const Matrix& weight, const HostTensor& bias, const Values& x);

// Rotates one head by the entries of a table at `position`.
void rotate(Approximate* head, const HostTensor& table, int64_t pairs, int64_t position,
            int32_t style);

// What `type` stores of a value: an exact one is rounded once.
Expected stored(Type type, const Approximate& v, bool exact = false);

}  // namespace exn::test
