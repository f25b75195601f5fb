// SPDX-License-Identifier: Apache-2.0
#include <exeunt/linear.h>

#include "backends.h"
#include "base/args/linear.h"

namespace exn {

namespace {

void check_adapter(const exn_linear_params& p, Check& check, LinearArgs* a) {
  if (p.adapter_down == nullptr) {
    check.absent("adapter_up", p.adapter_up, "adapter_down is not");
    check.absent("adapter_scale", p.adapter_scale, "adapter_down is not");
    return;
  }
  a->adapter_down = check.matrix("adapter_down", p.adapter_down, kFloats, Role::kIn);
  const int64_t rank = a->adapter_down.rows;
  check.at_least("K (rows of adapter_down)", rank, 1);
  check.same("adapter_down", "columns", a->adapter_down.cols, "input", a->input.cols);
  a->adapter_up = check.matrix("adapter_up", p.adapter_up, kFloats, Role::kIn);
  check.same("adapter_up", "rows", a->adapter_up.rows, "adapter_down", rank);
  check.same("adapter_up", "columns", a->adapter_up.cols, "the rows of weight", a->weight.rows);
  check.same_dtype("adapter_up", a->adapter_up.dtype, "adapter_down", a->adapter_down.dtype);
  a->adapter_scale =
      check.matrix("adapter_scale", p.adapter_scale, kF32Only, Role::kIn, Need::kOptional);
  if (p.adapter_scale == nullptr) return;
  check.same("adapter_scale", "rows", a->adapter_scale.rows, "input", a->input.rows);
  check.same("adapter_scale", "columns", a->adapter_scale.cols, "adapter_down has rows:", rank);
}

void check_args(const exn_linear_params& p, Check& check, LinearArgs* a) {
  a->input = check.matrix("input", p.input, kFloats, Role::kIn);
  check.at_least("D (columns of input)", a->input.cols, 1);
  a->weight = check.weights("weight", p.weight, "weight_blocks", p.weight_blocks, "input",
                            a->input.cols, Need::kRequired, Panels::kTaken);
  check.at_least("N (rows of weight)", a->weight.rows, 1);
  a->int8_input = check.int8_input(p.input_rounding, "weight_blocks", a->weight.blocks);
  check_adapter(p, check, a);
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

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(linear, LinearArgs, check_args)
