// SPDX-License-Identifier: Apache-2.0
#include <exeunt/ssm_step.h>

#include "backends.h"
#include "base/args/ssm_step.h"

namespace exn {
namespace {

void check_states(const exn_ssm_step_params& p, Check& check, SsmStepArgs* a) {
  const int64_t channels = a->x.cols;
  const Vector state = check.flat("state", p.state, {3, 3}, kF32Only, Role::kInOut);
  if (!check.ok()) return;
  a->states = p.state->shape[0];
  a->width = p.state->shape[2];
  check.at_least("S (axis 0 of state)", a->states, 1);
  check.size("state", p.state, 1, channels);
  check.at_least("N (axis 2 of state)", a->width, 1);
  check.at_most("N (axis 2 of state)", a->width, EXN_SSM_MOST_STATES);
  a->state = static_cast<float*>(state.data);
  const Vector weight = check.flat("weight", p.weight, {2, 2}, kF32Only, Role::kIn);
  check.shape("weight", p.weight, {channels, a->width});
  a->weight = static_cast<const float*>(weight.data);
  a->bias = check.coefficients("bias", p.bias, "x", channels);
}

Matrix check_rows(Check& check, const char* name, const DLTensor* t, Role role, const Matrix& x,
                  const char* because, int64_t columns, Need need = Need::kRequired) {
  const Matrix m = check.matrix(name, t, kFloats, role, need);
  if (t == nullptr) return m;
  check.same(name, "rows", m.rows, "x", x.rows);
  check.same(name, "columns", m.cols, because, columns);
  return m;
}

void check_args(const exn_ssm_step_params& p, Check& check, SsmStepArgs* a) {
  check.reserved(p.reserved);
  check.one_of("stage", p.stage, EXN_SSM_CONV, EXN_SSM_SCAN);
  a->x = check.matrix("x", p.x, kFloats, Role::kIn);
  check.at_least("Di (columns of x)", a->x.cols, 1);
  check_states(p, check, a);
  const int64_t channels = a->x.cols;
  const bool scans = p.stage == EXN_SSM_SCAN;
  if (scans) {
    a->dt = check_rows(check, "dt", p.dt, Role::kIn, a->x, "x", channels);
    a->b = check_rows(check, "b", p.b, Role::kIn, a->x, "axis 2 of state", a->width);
    a->c = check_rows(check, "c", p.c, Role::kIn, a->x, "axis 2 of state", a->width);
    a->skip = check.coefficients("skip", p.skip, "x", channels);
    a->z = check_rows(check, "z", p.z, Role::kIn, a->x, "x", channels, Need::kOptional);
  } else {
    const char* because = "stage is EXN_SSM_CONV (0)";
    check.absent("dt", p.dt, because);
    check.absent("b", p.b, because);
    check.absent("c", p.c, because);
    check.absent("skip", p.skip, because);
    check.absent("z", p.z, because);
  }
  a->out = check_rows(check, "out", p.out, Role::kOut, a->x, "x", channels,
                      scans ? Need::kOptional : Need::kRequired);
  if (a->out.dtype == a->x.dtype) check.may_alias("out", "x");
  a->sequence = check.per_row<const int32_t>("sequence", p.sequence, kI32Only, Role::kIn,
                                             "the rows of x", a->x.rows, Need::kOptional);
  a->active = check.per_row<const uint8_t>("active", p.active, kU8Only, Role::kIn, "the rows of x",
                                           a->x.rows, Need::kOptional);
  a->stage = p.stage;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(ssm_step, SsmStepArgs, check_args)
