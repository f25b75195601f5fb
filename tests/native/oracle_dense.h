// SPDX-License-Identifier: Apache-2.0
// Scalar oracles in double of norm, rope_table, rope, linear, ffn and kv_propagate, over the stored
// inputs.
#pragma once

#include <vector>

#include "case_table_dense.h"
#include "expected.h"

namespace exn::test {

// All row-major over the elements of the output.
std::vector<Expected> norm_oracle(const NormCase& c, const NormInputs& in);
std::vector<Expected> rope_table_oracle(const RopeTableCase& c);
std::vector<Expected> rope_oracle(const RopeCase& c, const RopeInputs& in);
std::vector<Expected> linear_oracle(const LinearCase& c, const LinearInputs& in);

struct FfnExpected {
  std::vector<Expected> out;  // [R,D]
  std::vector<Expected> cosine;
  std::vector<Expected> branch_cosine;
};

FfnExpected ffn_oracle(const FfnCase& c, const FfnInputs& in);

// The caches of one layer after the call, flat; what no row writes keeps its value with bound 0.
struct KvLayerExpected {
  std::vector<Expected> k;
  std::vector<Expected> v;
};

std::vector<KvLayerExpected> kv_propagate_oracle(const KvPropagateCase& c,
                                                 const KvPropagateInputs& in);

}  // namespace exn::test
