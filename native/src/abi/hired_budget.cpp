// SPDX-License-Identifier: Apache-2.0
#include <exeunt/hired_budget.h>

#include <algorithm>

#include "backends.h"
#include "base/args/hired_budget.h"

namespace exn {
namespace {

// The axis of the token grid must fall into equal parts.
void divides(const char* parts_name, int64_t parts, const char* whole_name, int64_t whole,
             Check& check) {
  if (check.ok() && whole % parts != 0) {
    check.fail_argument("%s is %lld, which does not divide %s (%lld)", parts_name,
                        static_cast<long long>(parts), whole_name, static_cast<long long>(whole));
  }
}

void check_grid(const exn_hired_budget_params& p, Check& check) {
  constexpr int64_t kMost = int64_t{1} << 24;  // products of two stay far from overflow
  check.at_least("patch_rows", p.patch_rows, 1);
  check.at_least("patch_cols", p.patch_cols, 1);
  check.at_most("patch_rows", p.patch_rows, kMost);
  check.at_most("patch_cols", p.patch_cols, kMost);
  if (!check.ok()) return;
  // A budget may be all tokens of a partition, and is i32.
  check.at_most("patch_rows * patch_cols", p.patch_rows * p.patch_cols, INT32_MAX);
  check.at_least("grid_rows", p.grid_rows, 0);
  check.at_least("grid_cols", p.grid_cols, 0);
  check.at_most("grid_rows", p.grid_rows, p.patch_rows * p.patch_cols);
  check.at_most("grid_cols", p.grid_cols, p.patch_rows * p.patch_cols);
  if (check.ok() && (p.grid_rows == 0) != (p.grid_cols == 0)) {
    check.fail_argument("grid_rows is %lld, but grid_cols is %lld",
                        static_cast<long long>(p.grid_rows), static_cast<long long>(p.grid_cols));
  }
  if (!check.ok() || p.grid_rows == 0) return;
  if (p.region == EXN_HIRED_GRID) {
    divides("grid_rows", p.grid_rows, "patch_rows", p.patch_rows, check);
    divides("grid_cols", p.grid_cols, "patch_cols", p.patch_cols, check);
  } else {
    divides("grid_rows * grid_cols", p.grid_rows * p.grid_cols, "patch_rows * patch_cols",
            p.patch_rows * p.patch_cols, check);
  }
}

void check_args(const exn_hired_budget_params& p, Check& check, HiredBudgetArgs* a) {
  check.reserved(p.reserved);
  check.one_of("score", p.score, EXN_HIRED_SUM, EXN_HIRED_TOP_COUNT);
  check.one_of("region", p.region, EXN_HIRED_GRID, EXN_HIRED_STRIP);
  check.one_of("remainder", p.remainder, EXN_HIRED_TRUNCATE, EXN_HIRED_LARGEST_REMAINDER);
  check.share("rate", p.rate);
  check.share("alpha", p.alpha);
  check_grid(p, check);
  a->attention = check.matrix("attention", p.attention, kF32Only, Role::kIn);
  if (!check.ok()) return;
  const int64_t patches = p.patch_rows * p.patch_cols, parts = p.grid_rows * p.grid_cols;
  const int64_t images = a->attention.rows;
  check.same("attention", "columns", a->attention.cols, "patch_rows * patch_cols", patches);
  const Vector budget = check.flat("budget", p.budget, {2, 2}, kI32Only, Role::kOut);
  check.shape("budget", p.budget, {images, 1 + parts});
  if (p.marks != nullptr && p.score != EXN_HIRED_TOP_COUNT) {
    check.absent("marks", p.marks, "score is not EXN_HIRED_TOP_COUNT (1)");
  }
  const Vector marks = check.flat("marks", p.marks, {2, 2}, kU8Only, Role::kOut, Need::kOptional);
  check.shape("marks", p.marks, {images, patches});
  a->valid = check.per_row<uint8_t>("valid", p.valid, kU8Only, Role::kOut, "the rows of attention",
                                    images, Need::kOptional);
  a->budget = static_cast<int32_t*>(budget.data);
  a->marks = static_cast<uint8_t*>(marks.data);
  a->patch_rows = p.patch_rows;
  a->patch_cols = p.patch_cols;
  a->grid_rows = p.grid_rows;
  a->grid_cols = p.grid_cols;
  a->score = p.score;
  a->region = p.region;
  a->remainder = p.remainder;
  // Truncated products of doubles, as in the official code: .9 of 100 may be
  // 89.99... and give one less.
  const int64_t total = static_cast<int64_t>(static_cast<double>((1 + parts) * patches) * p.rate);
  a->full_budget = std::min(static_cast<int64_t>(static_cast<double>(total) * p.alpha), patches);
  a->sub_budget = std::min(total - a->full_budget, parts * patches);
  a->mark_count = static_cast<int64_t>(static_cast<double>(patches) * (1 - p.alpha));
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(hired_budget, HiredBudgetArgs, check_args)
