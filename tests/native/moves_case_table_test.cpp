// SPDX-License-Identifier: Apache-2.0
// The tables of gather, kv_compact and hired_budget keep their own rules.
#include <gtest/gtest.h>

#include <algorithm>

#include "harness.h"
#include "oracle_moves.h"

namespace exn::test {
namespace {

template <class Case>
void check_sizes(const std::vector<Case>& cases) {
  EXPECT_FALSE(cases.empty());
  for (const Case& c : cases)
    EXPECT_EQ(c.small, elements_of(c) <= 20000) << c.id << " has " << elements_of(c) << " elements";
}

TEST(MovesCaseTable, SmallMeansSmall) {
  check_sizes(gather_cases());
  check_sizes(kv_compact_cases());
  check_sizes(hired_budget_cases());
}

// A hostile case is refused, and only a hostile one is.
TEST(MovesCaseTable, HostileCasesAreRefused) {
  int gathers = 0, compactions = 0;
  for (const GatherCase& c : gather_cases()) {
    if (c.big) continue;
    const bool unsorted = c.list == "swapped" || c.list == "twice" || c.list == "gap";
    const bool in_place = c.position_in_place || (!c.tensors.empty() && c.tensors[0].in_place);
    const bool bad_list = c.list == "over" || (unsorted && in_place);
    const bool hidden = c.counted && c.count >= 0 && c.count <= c.listed / 2;
    const bool bad_count = c.counted && (c.count < 0 || c.count > c.listed);
    EXPECT_EQ(gather_oracle(c, make_inputs(c)).refused, bad_count || (bad_list && !hidden)) << c.id;
    gathers += bad_count || (bad_list && !hidden) ? 1 : 0;
  }
  for (const KvCompactCase& c : kv_compact_cases()) {
    if (c.big) continue;
    const auto one_of = [](const std::string& word, std::initializer_list<const char*> words) {
      return std::find(words.begin(), words.end(), word) != words.end();
    };
    bool bad = one_of(c.list, {"over", "negative"}) ||
               (c.in_place && one_of(c.list, {"swapped", "twice"})) || c.length == "over" ||
               one_of(c.sequence, {"twice", "over"}) ||
               !one_of(c.form, {"packed", "gaps", "padded"}) ||
               one_of(c.pages, {"to_over", "to_minus", "to_shared"}) ||
               c.id.rfind("longer", 0) == 0;
    if (one_of(c.pages, {"from_over", "from_minus", "from_shared"})) {
      bad = c.list == "identity";
    }
    EXPECT_EQ(kv_compact_oracle(c, make_inputs(c)).refused, bad) << c.id;
    compactions += bad ? 1 : 0;
  }
  EXPECT_GE(gathers, 10);
  EXPECT_GE(compactions, 30);
}

// The bands of the oracle hide no case.
TEST(MovesCaseTable, BudgetsAreCertain) {
  int images = 0, uncertain = 0;
  for (const HiredBudgetCase& c : hired_budget_cases()) {
    const HiredBudgetExpected e = hired_budget_oracle(c, make_inputs(c));
    images += static_cast<int>(e.uncertain.size());
    uncertain += static_cast<int>(std::count(e.uncertain.begin(), e.uncertain.end(), true));
  }
  EXPECT_LE(uncertain * 50, images) << uncertain << " of " << images;
}

}  // namespace
}  // namespace exn::test
