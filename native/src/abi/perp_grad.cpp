// SPDX-License-Identifier: Apache-2.0
#include <exeunt/perp_grad.h>

#include "backends.h"
#include "base/args/perp_grad.h"

namespace exn {
namespace {

void same_shape(Check& check, const char* name, const DLTensor* t, const DLTensor* weight) {
  if (!check.ok()) return;
  check.same(name, "axes", t->ndim, "weight", weight->ndim);
  for (int32_t i = 0; check.ok() && i < weight->ndim; ++i) {
    if (t->shape[i] != weight->shape[i]) {
      check.fail_argument("%s has size %lld in axis %d, but weight has %lld", name,
                          static_cast<long long>(t->shape[i]), i,
                          static_cast<long long>(weight->shape[i]));
    }
  }
}

void check_args(const exn_perp_grad_params& p, Check& check, PerpGradArgs* a) {
  a->weight = check.flat("weight", p.weight, kAnyRank, kFloatsAndF64, Role::kIn);
  a->grad = check.flat("grad", p.grad, kAnyRank, kFloatsAndF64, Role::kIn);
  a->out = check.flat("out", p.out, kAnyRank, kFloatsAndF64, Role::kOut);
  same_shape(check, "grad", p.grad, p.weight);
  same_shape(check, "out", p.out, p.weight);
  check.same_dtype("grad", a->grad.dtype, "weight", a->weight.dtype);
  check.same_dtype("out", a->out.dtype, "weight", a->weight.dtype);
  check.may_alias("out", "grad");
  check.one_of("form", p.form, EXN_PERP_CODE, EXN_PERP_PAPER);
  check.one_of("reserved", p.reserved, 0, 0);
  a->form = p.form;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(perp_grad, PerpGradArgs, check_args)
