// SPDX-License-Identifier: Apache-2.0
#include <exeunt/select.h>

#include "backends.h"
#include "base/args/select.h"

namespace exn {

namespace {

void check_args(const exn_select_params& p, Check& check, SelectArgs* a) {
  a->scores = check.matrix("scores", p.scores, kFloats, Role::kIn);
  check.at_least("heads", p.heads, 0);
  if (!check.ok()) return;
  if (p.heads > 1) a->heads = p.heads;
  if (a->scores.rows % a->heads != 0) {
    check.fail_argument("scores has %lld rows, which %lld heads do not divide",
                        static_cast<long long>(a->scores.rows), static_cast<long long>(a->heads));
  }
  a->limit = check.per_row<const int32_t>("limit", p.limit, kI32Only, Role::kIn, "the scores' rows",
                                          a->rows(), Need::kOptional);
  a->selection = check.selection(p.selection, a->rows(), a->scores.cols);
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(select, SelectArgs, check_args)
