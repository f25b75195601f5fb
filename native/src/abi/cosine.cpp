// SPDX-License-Identifier: Apache-2.0
#include <exeunt/cosine.h>

#include "backends.h"
#include "base/args/cosine.h"

namespace exn {
namespace {

void check_args(const exn_cosine_params& p, Check& check, CosineArgs* a) {
  a->a = check.matrix("a", p.a, kFloats, Role::kIn);
  a->b = check.matrix("b", p.b, kFloats, Role::kIn);
  check.at_least("D (columns of a)", a->a.cols, 1);
  check.same("b", "rows", a->b.rows, "a", a->a.rows);
  check.same("b", "columns", a->b.cols, "a", a->a.cols);
  check.same_dtype("b", a->b.dtype, "a", a->a.dtype);
  const Vector out = check.vector("out", p.out, kF32Only, Role::kOut);
  check.same("out", "elements", out.size, "the rows of a", a->a.rows);
  a->out = static_cast<float*>(out.data);
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(cosine, CosineArgs, check_args)
