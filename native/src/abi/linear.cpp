// SPDX-License-Identifier: Apache-2.0
#include <exeunt/linear.h>

#include <cstddef>

#include "backends.h"
#include "base/args/linear.h"

namespace exn {

template <>
constexpr uint64_t kFirstSize<exn_linear_params> = offsetof(exn_linear_params, weight_blocks);

namespace {

void check_args(const exn_linear_params& p, Check& check, LinearArgs* a) {
  a->input = check.matrix("input", p.input, kFloats, Role::kIn);
  check.at_least("D (columns of input)", a->input.cols, 1);
  a->weight = check.weights("weight", p.weight, "weight_blocks", p.weight_blocks, "input",
                            a->input.cols, Need::kRequired, Panels::kTaken);
  check.at_least("N (rows of weight)", a->weight.rows, 1);
  check.reserved(p.reserved);
  a->bias = check.coefficients("bias", p.bias, "the rows of weight", a->weight.rows);
  a->out = check.matrix("out", p.out, kFloats, Role::kOut);
  check.same("out", "rows", a->out.rows, "input", a->input.rows);
  check.same("out", "columns", a->out.cols, "the rows of weight", a->weight.rows);
  a->residual = check.matrix("residual", p.residual, kFloats, Role::kIn, Need::kOptional);
  if (p.residual == nullptr) return;
  check.same("residual", "rows", a->residual.rows, "out", a->out.rows);
  check.same("residual", "columns", a->residual.cols, "out", a->out.cols);
  check.same_dtype("residual", a->residual.dtype, "out", a->out.dtype);
  check.may_alias("out", "residual");
}

constexpr Op<exn_linear_params, LinearArgs> kOp{"exn_linear", check_args, &Backend::linear};

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(linear, exn::kOp)
