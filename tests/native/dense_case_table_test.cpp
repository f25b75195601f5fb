// SPDX-License-Identifier: Apache-2.0
// The tables of the dense layer ops keep their own rules.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>
#include <utility>

#include "table.h"
#include "case_table_dense.h"
#include "harness.h"

namespace exn::test {
namespace {

template <class Case>
void check_sizes(const std::vector<Case>& cases) {
  EXPECT_FALSE(cases.empty());
  for (const Case& c : cases) {
    EXPECT_EQ(c.small, elements_of(c) <= 20000) << c.id << " has " << elements_of(c) << " elements";
    EXPECT_FALSE(c.small && c.big) << c.id;
  }
}

TEST(DenseCaseTable, SmallMeansSmall) {
  const std::string directory = cases_directory();
  check_sizes(norm_cases());
  check_sizes(rope_table_cases());
  check_sizes(rope_cases());
  check_sizes(linear_cases());
  check_sizes(ffn_cases());
  check_sizes(kv_propagate_cases());
}

// In an exact case no sum that f32 forms may need more than 24 bits, in whatever order.
TEST(DenseCaseTable, ExactSumsFit) {
  for (const LinearCase& c : linear_cases()) {
    if (!c.exact) continue;
    const LinearInputs in = make_inputs(c);
    double largest = 0;
    for (int64_t r = 0; r < in.input.rows; ++r) {
      double magnitude = 16;  // bias and residual
      for (int64_t i = 0; i < in.input.cols; ++i) {
        magnitude += std::fabs(in.input.at(r, i)) * 8 * static_cast<double>(c.weight.scale);
      }
      largest = std::max(largest, magnitude);
    }
    EXPECT_LT(largest, 0x1p24) << c.id;
  }
}

TEST(DenseCaseTable, SlotsOfASequenceDiffer) {
  for (const KvPropagateCase& c : kv_propagate_cases()) {
    if (c.big) continue;
    const KvPropagateInputs in = make_inputs(c);
    for (int64_t k = 0; k < (c.slot_per_layer ? c.layers : 1); ++k) {
      std::set<std::pair<int64_t, int64_t>> seen;
      for (int64_t r = 0; r < c.hidden.rows; ++r) {
        const int64_t slot = in.slot.integer_at(k * c.hidden.rows + r);
        ASSERT_LT(slot, c.slots) << c.id;
        if (slot < 0) continue;
        EXPECT_TRUE(seen.emplace(in.sequence.given() ? in.sequence.integer_at(r) : 0, slot).second)
            << c.id << " row " << r;
      }
    }
  }
}

// The table has rows that owe and rows that do not, in every state that a row can be in.
TEST(DenseCaseTable, RowsAreInEveryState) {
  int64_t stay = 0, owe = 0, passed = 0, off = 0;
  for (const KvPropagateCase& c : kv_propagate_cases()) {
    if (c.big) continue;
    const KvPropagateInputs in = make_inputs(c);
    for (size_t j = 0; j < in.layers.size(); ++j) {
      for (int64_t r = 0; r < c.hidden.rows; ++r) {
        const int64_t exit = in.exit_layer.integer_at(r);
        const int64_t slot =
            in.slot.integer_at(c.slot_per_layer ? static_cast<int64_t>(j) * c.hidden.rows + r : r);
        ++(exit < 0 ? stay : exit > in.layers[j].index ? passed : slot < 0 ? off : owe);
      }
    }
  }
  for (int64_t count : {stay, owe, passed, off}) EXPECT_GT(count, 20);
}

TEST(DenseCaseTable, HeadsAreCompactAndRowsPadded) {
  const HostTensor t = make_heads(Type::kF16, 3, 2, 5, 4, 1);
  EXPECT_EQ(t.shape, (std::vector<int64_t>{3, 2, 5}));
  EXPECT_EQ(t.stride, 14);
  const Placed placed(Target{}, t);
  EXPECT_EQ(placed.dl()->strides[0], 14);
  EXPECT_EQ(placed.dl()->strides[1], 5);
  EXPECT_EQ(placed.dl()->strides[2], 1);
}

}  // namespace
}  // namespace exn::test
