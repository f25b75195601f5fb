// SPDX-License-Identifier: Apache-2.0
#include <exeunt/norm.h>

#include "backends.h"
#include "base/args/norm.h"

namespace exn {
namespace {

void check_args(const exn_norm_params& p, Check& check, NormArgs* a) {
  a->input = check.matrix("input", p.input, kFloats, Role::kIn);
  const int64_t dim = a->input.cols;
  check.at_least("D (columns of input)", dim, 1);
  check.norm({"weight", "bias", "eps"}, p.weight, p.bias, p.norm, p.eps, dim, &a->weight, &a->bias);
  a->out = check.matrix("out", p.out, kFloats, Role::kOut);
  check.same("out", "rows", a->out.rows, "input", a->input.rows);
  check.same("out", "columns", a->out.cols, "input", dim);
  if (a->out.dtype == a->input.dtype) check.may_alias("out", "input");
  a->norm = p.norm;
  a->eps = p.eps;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(norm, NormArgs, check_args)
