// SPDX-License-Identifier: Apache-2.0
#include <exeunt/column_norms.h>

#include "backends.h"
#include "base/args/column_norms.h"

namespace exn {
namespace {

void check_args(const exn_column_norms_params& p, Check& check, ColumnNormsArgs* a) {
  a->x = check.matrix("x", p.x, kFloats, Role::kIn);
  // Rows that are one in memory, without end: no output is as long as they are many.
  if (check.ok() && a->x.stride < a->x.cols) {
    check.fail_argument("x has row stride %lld, expected at least %lld: rows that do not overlap",
                        static_cast<long long>(a->x.stride), static_cast<long long>(a->x.cols));
  }
  a->active = check.per_row<const uint8_t>("active", p.active, kU8Only, Role::kIn, "the rows of x",
                                           a->x.rows, Need::kOptional);
  a->sums =
      check.per_row<float>("sums", p.sums, kF32Only, Role::kInOut, "the columns of x", a->x.cols);
  a->norms = check.per_row<float>("norms", p.norms, kF32Only, Role::kOut, "the columns of x",
                                  a->x.cols, Need::kOptional);
  check.positive("scale", static_cast<double>(p.scale));
  check.one_of("accumulate", p.accumulate, 0, 1);
  a->root = static_cast<float>(std::sqrt(static_cast<double>(p.scale)));
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(column_norms, ColumnNormsArgs, check_args)
