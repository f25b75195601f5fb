// SPDX-License-Identifier: Apache-2.0
// The small example of the paper's mathematics, and the budgets and masks of the official code
// (tests/golden/README.md).
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <numeric>

#include "cache_fixture.h"
#include "hired_budget/case.h"
#include "golden.h"
#include "safetensors.h"

namespace exn::test {
namespace {
const Op<exn_hired_budget_params> kOp = {"hired_budget", exn_hired_budget_supported,
                                         exn_hired_budget_workspace_size, exn_hired_budget};

// The bands of the oracle hide no case.
TEST(HiredBudgetTables, BudgetsAreCertain) {
  int images = 0, uncertain = 0;
  for (const HiredBudgetCase& c : hired_budget_cases()) {
    const HiredBudgetExpected e = hired_budget_oracle(c, make_attention(c));
    images += static_cast<int>(e.uncertain.size());
    uncertain += static_cast<int>(std::count(e.uncertain.begin(), e.uncertain.end(), true));
  }
  EXPECT_LE(uncertain * 50, images) << uncertain << " of " << images;
}

// ---- by hand ------------------------------------------------------------------------------------

HostTensor floats(const std::vector<float>& values) {
  HostTensor t = make_tensor(Type::kF32, {1, static_cast<int64_t>(values.size())});
  for (size_t i = 0; i < values.size(); ++i)
    t.set(0, static_cast<int64_t>(i), static_cast<double>(values[i]));
  return t;
}

struct Budgets {
  std::vector<int32_t> budget;
  std::vector<int32_t> marks;
};

// One image. `form`: score, region and remainder as in the params struct.
struct Form {
  int32_t score, region, remainder;
};

constexpr Form kCode = {EXN_HIRED_TOP_COUNT, EXN_HIRED_STRIP, EXN_HIRED_TRUNCATE};

Budgets budgets_of(const Target& target, const HostTensor& attention, int64_t patch_rows,
                   int64_t patch_cols, int64_t grid_rows, int64_t grid_cols, double rate,
                   double alpha, const Form& form) {
  Placed in(target, attention);
  Placed budget(target, poisoned(Type::kI32, {1, 1 + grid_rows * grid_cols}));
  const bool marked = form.score == EXN_HIRED_TOP_COUNT;
  Placed marks(target, marked ? poisoned(Type::kU8, {1, patch_rows * patch_cols}) : HostTensor{});
  const exn_hired_budget_params p = {sizeof p,  in.dl(),    budget.dl(), marks.dl(),     nullptr,
                                     rate,      alpha,      patch_rows,  patch_cols,     grid_rows,
                                     grid_cols, form.score, form.region, form.remainder, 0};
  EXPECT_EQ(run_once(target, kOp, p), EXN_OK) << exn_last_error();
  return {integers_of(budget.read()), marked ? integers_of(marks.read()) : std::vector<int32_t>{}};
}

TEST(HiredBudgetByHand, SmallExample) {
  const HostTensor a = floats({.4f, .1f, .3f, .2f});
  using Integers = std::vector<int32_t>;
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    // B = 6, half of it for the full image; two marks, one in each half; 1.5 is truncated.
    const Budgets code = budgets_of(target, a, 4, 1, 2, 1, .5, .5, kCode);
    EXPECT_EQ(code.marks, (Integers{1, 0, 1, 0}));
    EXPECT_EQ(code.budget, (Integers{3, 1, 1}));
    // The lost token goes to the smaller index.
    EXPECT_EQ(budgets_of(target, a, 4, 1, 2, 1, .5, .5,
                         {EXN_HIRED_TOP_COUNT, EXN_HIRED_STRIP, EXN_HIRED_LARGEST_REMAINDER})
                  .budget,
              (Integers{3, 2, 1}));
    // Columns of a 2x2 image: .7 and .3 of 3; strips of it: .5 and .5.
    EXPECT_EQ(budgets_of(target, a, 2, 2, 1, 2, .5, .5,
                         {EXN_HIRED_SUM, EXN_HIRED_GRID, EXN_HIRED_TRUNCATE})
                  .budget,
              (Integers{3, 2, 0}));
    EXPECT_EQ(budgets_of(target, a, 2, 2, 1, 2, .5, .5,
                         {EXN_HIRED_SUM, EXN_HIRED_GRID, EXN_HIRED_LARGEST_REMAINDER})
                  .budget,
              (Integers{3, 2, 1}));
    EXPECT_EQ(budgets_of(target, a, 2, 2, 1, 2, .5, .5,
                         {EXN_HIRED_SUM, EXN_HIRED_STRIP, EXN_HIRED_TRUNCATE})
                  .budget,
              (Integers{3, 1, 1}));
  }
}

// Doubles, truncated: .9 of 100 leaves nine marks, not ten. No marks at all: equal shares.
TEST(HiredBudgetByHand, TruncatesInDouble) {
  std::vector<float> falling(100);
  for (size_t i = 0; i < falling.size(); ++i) falling[i] = static_cast<float>(100 - i);
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name());
    const Budgets nine = budgets_of(target, floats(falling), 10, 10, 2, 1, .2, .9, kCode);
    EXPECT_EQ(std::accumulate(nine.marks.begin(), nine.marks.end(), 0), 9);
    const Budgets none = budgets_of(target, floats(falling), 10, 10, 2, 1, .9, 1, kCode);
    EXPECT_EQ(std::accumulate(none.marks.begin(), none.marks.end(), 0), 0);
    EXPECT_EQ(none.budget, (std::vector<int32_t>{100, 85, 85}));  // 270 in all
  }
}

// ---- the official code --------------------------------------------------------------------------

// The parameters of the cases: a line for each, like "case01": {"rate": 0.1, ...}.
class CaseParameters {
 public:
  explicit CaseParameters(const std::string& path) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) lines_.push_back(line);
  }

  double number(const std::string& group, const std::string& key) const {
    const std::string& line = of(group);
    const size_t at = line.find("\"" + key + "\": ");
    EXPECT_NE(at, std::string::npos) << group << " has no " << key;
    return at == std::string::npos ? 0 : std::strtod(line.c_str() + at + key.size() + 4, nullptr);
  }

  bool says(const std::string& group, const std::string& text) const {
    return of(group).find(text) != std::string::npos;
  }

 private:
  const std::string& of(const std::string& group) const {
    static const std::string kNone;
    for (const std::string& line : lines_) {
      if (line.find("\"" + group + "\": {") != std::string::npos) return line;
    }
    ADD_FAILURE() << "no parameters of " << group;
    return kNone;
  }

  std::vector<std::string> lines_;
};

HostTensor as_row(const HostTensor& t) {
  HostTensor row = make_tensor(Type::kF32, {1, t.size()});
  for (int64_t i = 0; i < t.size(); ++i) row.set(0, i, t.at(i / t.cols, i % t.cols));
  return row;
}

// The tokens that the budgets keep, higher score first, then lower index.
std::vector<int32_t> mask_of(const HostTensor& scores, const std::vector<int32_t>& budget) {
  std::vector<int32_t> mask;
  for (int64_t p = 0; p < scores.rows; ++p) {
    std::vector<int64_t> order(static_cast<size_t>(scores.cols));
    std::iota(order.begin(), order.end(), int64_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return scores.at(p, a) > scores.at(p, b); });
    std::vector<int32_t> row(order.size(), 0);
    for (int32_t i = 0; i < budget[static_cast<size_t>(p)]; ++i)
      row[static_cast<size_t>(order[static_cast<size_t>(i)])] = 1;
    mask.insert(mask.end(), row.begin(), row.end());
  }
  return mask;
}

TEST(HiredBudgetGolden, OfficialCode) {
  const std::string path = golden_path("official/hired");
  const Safetensors file = Safetensors::read(path + ".safetensors");
  ASSERT_FALSE(file.empty()) << path << ".safetensors is missing or empty";
  const CaseParameters parameters(path + ".json");
  int checked = 0, scored = 0;
  for (const std::string& group : file.groups()) {
    const auto tensor = [&](const char* name) { return file.tensor(group + "/" + name); };
    if (!file.has(group + "/sub_budgets")) continue;  // other functions, or no sub-images
    const auto number = [&](const char* key) { return parameters.number(group, key); };
    const int64_t side = static_cast<int64_t>(number("side"));
    const int64_t parts = static_cast<int64_t>(number("sub_images"));
    std::vector<int32_t> expected = {static_cast<int32_t>(number("budget_full"))};
    for (int32_t n : integers_of(tensor("sub_budgets"))) expected.push_back(n);
    const HostTensor marks = tensor("marks");
    // Equal attention, and such as was summed in half precision, is marked in another order there.
    const bool tied = parameters.says(group, "\"kind\": \"ties\"") ||
                      parameters.says(group, "\"kind\": \"uniform\"") ||
                      parameters.says(group, "\"dtype\": \"f16\"");
    for (const Target& target : targets()) {
      SCOPED_TRACE(group + " on " + target.name());
      const auto run = [&](const HostTensor& attention) {
        return budgets_of(target, as_row(attention), side, side, parts, 1, number("rate"),
                          number("alpha"), kCode);
      };
      const Budgets given = run(marks);
      EXPECT_EQ(given.budget, expected);
      EXPECT_EQ(given.marks, integers_of(marks));
      EXPECT_EQ(mask_of(tensor("score_block22"), given.budget),
                integers_of(tensor("contract_mask")));
      if (tied) continue;
      const Budgets own = run(tensor("score_block0_full"));
      EXPECT_EQ(own.budget, expected);
      EXPECT_EQ(own.marks, integers_of(marks));
      EXPECT_EQ(mask_of(tensor("score_block22"), own.budget), integers_of(tensor("expected_mask")));
    }
    ++checked;
    scored += tied ? 0 : 1;
  }
  EXPECT_GT(checked, 0);
  EXPECT_GT(scored, 0);
}

// ---- misuse -------------------------------------------------------------------------------------

TEST(HiredBudgetMisuse, IsRefused) {
  if (!on_cpu()) GTEST_SKIP() << "no CPU target";
  using P = exn_hired_budget_params;
  Placed attention(kCpu, normal(Type::kF32, {2, 24})), budget(kCpu, poisoned(Type::kI32, {2, 7}));
  Placed marks(kCpu, poisoned(Type::kU8, {2, 24})), valid(kCpu, poisoned(Type::kU8, {2}));
  P p = {sizeof p,
         attention.dl(),
         budget.dl(),
         marks.dl(),
         valid.dl(),
         .2,
         .5,
         4,
         6,
         2,
         3,
         EXN_HIRED_TOP_COUNT,
         EXN_HIRED_GRID,
         EXN_HIRED_TRUNCATE,
         0};
  const std::vector<Placed*> written = {&budget, &marks, &valid};
  // A budget of all its tokens would not fit into i32.
  p.patch_rows = p.patch_cols = int64_t{1} << 16;
  expect_refused(kOp, p, written, EXN_INVALID_ARGUMENT,
                 {"patch_rows * patch_cols", "4294967296", "2147483647"});
}

}  // namespace
}  // namespace exn::test
