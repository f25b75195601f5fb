// SPDX-License-Identifier: Apache-2.0
#include <exeunt/row_compaction.h>

#include "backends.h"
#include "base/args/row_compaction.h"

namespace exn {
namespace {

void check_args(const exn_row_compaction_params& p, Check& check, RowCompactionArgs* a) {
  check.reserved(p.reserved);
  check.one_of("direction", p.direction, EXN_ROWS_GATHER, EXN_ROWS_SCATTER);
  a->input = check.matrix("input", p.input, kAnything, Role::kIn);
  a->out = check.matrix("out", p.out, kAnything, Role::kOut);
  check.same("out", "columns", a->out.cols, "input", a->input.cols);
  check.same_dtype("out", a->out.dtype, "input", a->input.dtype);
  const Vector list = check.vector("list", p.list, kI32Only, Role::kIn);
  a->list = static_cast<const int32_t*>(list.data);
  a->listed = list.size;
  if (p.direction == EXN_ROWS_GATHER) {
    check.at_least("rows of out", a->out.rows, a->listed);
  } else {
    check.at_least("rows of input", a->input.rows, a->listed);
  }
  a->direction = p.direction;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(row_compaction, RowCompactionArgs, check_args)
