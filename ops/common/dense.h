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

// Any numbers serve as cosines and sines: the ops read the table, whatever made it. `kind` is
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

struct Matrix {
  std::vector<std::vector<double>> rows;
  bool quantised = false;
};

Values exact_values(const HostTensor& t, int64_t row);
Matrix matrix_of(const HostTensor& t);

// A row of weights, of elements or of blocks.
std::vector<double> weight_row(const HostTensor& t, int64_t row);

// An input that is rounded to meet quantised weights (linear.h).
class RoundedInput {
 public:
  explicit RoundedInput(const Values& x);
  RoundedInput(const std::vector<double>& x, const std::vector<double>& error);

  // What rounding may change <w, x> by is added to its error: `share`, and what f32 loses, of the
  // largest magnitude of each 32. Of an element that is not finite, of the input or of w, comes NaN.
  void meet(const std::vector<double>& w, double* product, double* error,
            double share = 0x1p-15) const;

 private:
  void add(size_t i, double x, double error);

  std::vector<double> largest_;  // of each 32
  bool finite_ = true;
};

// x as EXN_INPUT_INT8 has it (blocks.h). An element with an error may be a step off.
Values rounded_to_int8(Values x);

// `got` with NaN where NaN was expected and an infinity came: of quantised weights with a scale
// that is not finite comes either.
HostTensor without_infinities(const std::vector<Expected>& expected, HostTensor got);

// The f32 normalisation of a row of exact values.
void normalise(Values* row, int32_t norm, float eps, const HostTensor& weight,
               const HostTensor& bias);

// One more sum in f32.
Approximate plus(Approximate v, double term);

// weight * x + bias in f32, x rounded for quantised weights, as EXN_INPUT_* says; without a bias if it
// is not given.
Values projected(const Matrix& weight, const HostTensor& bias, const Values& x,
                 int32_t rounding = EXN_INPUT_INT16);

// Rotates one head by the entries of a table at `position`.
void rotate(Approximate* head, const HostTensor& table, int64_t pairs, int64_t position,
            int32_t style);

// What `type` stores of a value: an exact one is rounded once.
Expected stored(Type type, const Approximate& v, bool exact = false);

}  // namespace exn::test
