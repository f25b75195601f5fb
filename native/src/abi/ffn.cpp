// SPDX-License-Identifier: Apache-2.0
#include <exeunt/ffn.h>

#include "backends.h"
#include "base/args/ffn.h"

namespace exn {

namespace {

void check_weights(const exn_ffn_params& p, Check& check, FfnArgs* a) {
  const int64_t dim = a->hidden.cols;
  a->up_weight = check.weights("up_weight", p.up_weight, "up_blocks", p.up_blocks, "hidden", dim);
  const int64_t width = a->up_weight.rows;
  check.at_least("F (rows of up_weight)", width, 1);
  check.product_in_range(
      {{"R (rows of hidden)", a->hidden.rows}, {"F (rows of up_weight)", width}});
  a->up_bias = check.coefficients("up_bias", p.up_bias, "the rows of up_weight", width);
  if (p.gate_weight == nullptr) check.absent("gate_bias", p.gate_bias, "gate_weight is null");
  a->gate_weight = check.weights("gate_weight", p.gate_weight, "gate_blocks", p.gate_blocks,
                                 "hidden", dim, Need::kOptional);
  if (p.gate_weight != nullptr) {
    check.same("gate_weight", "rows", a->gate_weight.rows, "up_weight", width);
    check.same_dtype("gate_weight", a->gate_weight.dtype, "up_weight", a->up_weight.dtype);
  }
  a->gate_bias = check.coefficients("gate_bias", p.gate_bias, "the rows of gate_weight", width);
  a->down_weight = check.weights("down_weight", p.down_weight, "down_blocks", p.down_blocks,
                                 "the rows of up_weight", width);
  check.same("down_weight", "rows", a->down_weight.rows, "the columns of hidden", dim);
  check.same_dtype("down_weight", a->down_weight.dtype, "up_weight", a->up_weight.dtype);
  a->down_bias = check.coefficients("down_bias", p.down_bias, "the columns of hidden", dim);
  a->int8_input = check.int8_input(p.input_rounding, "up_blocks", a->up_weight.blocks);
  check.reserved(p.reserved);
}

void check_args(const exn_ffn_params& p, Check& check, FfnArgs* a) {
  a->hidden = check.matrix("hidden", p.hidden, kFloats, Role::kIn);
  const int64_t rows = a->hidden.rows, dim = a->hidden.cols;
  check.at_least("D (columns of hidden)", dim, 1);
  check.norm({}, p.norm_weight, p.norm_bias, p.norm, p.norm_eps, dim, &a->norm_weight,
             &a->norm_bias);
  check_weights(p, check, a);
  a->skip = check.per_row<const uint8_t>("skip", p.skip, kU8Only, Role::kIn, "the rows of hidden",
                                         rows, Need::kOptional);
  a->out = check.matrix("out", p.out, kFloats, Role::kOut);
  check.same("out", "rows", a->out.rows, "hidden", rows);
  check.same("out", "columns", a->out.cols, "hidden", dim);
  check.same_dtype("out", a->out.dtype, "hidden", a->hidden.dtype);
  check.may_alias("out", "hidden");
  a->cosine = check.per_row<float>("cosine", p.cosine, kF32Only, Role::kOut, "the rows of hidden",
                                   rows, Need::kOptional);
  a->branch_cosine = check.per_row<float>("branch_cosine", p.branch_cosine, kF32Only, Role::kOut,
                                          "the rows of hidden", rows, Need::kOptional);
  check.one_of("activation", p.activation, EXN_ACT_SILU, EXN_ACT_GELU_TANH);
  a->norm = p.norm;
  a->norm_eps = p.norm_eps;
  a->activation = p.activation;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(ffn, FfnArgs, check_args)
