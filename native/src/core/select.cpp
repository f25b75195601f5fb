// SPDX-License-Identifier: Apache-2.0
#include <exeunt/select.h>

#include "backends.h"

namespace exn {
namespace {

void check_args(const exn_select_params& p, Check& check, SelectArgs* a) {
  a->scores = check.matrix("scores", p.scores, kFloats, Role::kIn);
  a->limit = check.per_row<const int32_t>("limit", p.limit, kI32Only, Role::kIn, "the scores' rows",
                                          a->scores.rows, Need::kOptional);
  a->selection = check.selection(p.selection, a->scores.rows, a->scores.cols);
}

constexpr Op<exn_select_params, SelectArgs> kOp{"exn_select", check_args, &Backend::select};

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(select, exn::kOp)
