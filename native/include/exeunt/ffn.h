/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ffn: a whole feed-forward block that rows may skip, and how far it turned the residual stream.
 *
 *   x = norm(hidden)
 *   a = act(Wg x + bg) * (Wu x + bu)     with gate_weight (SwiGLU, GEGLU)
 *   a = act(Wu x + bu)                   without
 *   f = Wd a + bd
 *   out = hidden + f
 *   cosine = <hidden, out> / (|hidden| |out|),  branch_cosine = <hidden, f> / (|hidden| |f|)
 *
 * act: EXN_ACT_SILU z / (1 + exp(-z)); EXN_ACT_GELU z/2 (1 + erf(z / sqrt 2)); EXN_ACT_GELU_TANH
 * its tanh form. A row with skip[r] != 0 passes: out = hidden, both cosines NaN. Rows that do not
 * skip are compacted first, so a block of rows that all skip reads no weights. The cosines
 * (FFN-SkipLLM compares block input with residual output) come out of the down projection: no
 * second pass. Zero norm: 0.
 *
 * Products are accumulated in f32, x and a stay f32, the cosine is taken of `out` before it is
 * rounded to its dtype. The result of a row does not depend on the others, but for more than 64
 * running rows on processors with AMX, as in linear.h: their sums go in another order, and
 * subnormal bf16 weights count as 0.
 *
 * Quantised weights (blocks.h) meet an x and an a that are rounded as linear.h says, to 8 bits with
 * EXN_INPUT_INT8; its bound holds for each of the three products; a row with an element that is not
 * finite becomes NaN. So do all with a scale of gate or up that is not; one of down makes a column of
 * out NaN or infinite.
 *
 * Bytes that must move: the three weights once for each block of up to 64 rows that run; hidden and
 * out once.
 */
#ifndef EXEUNT_FFN_H
#define EXEUNT_FFN_H

#include <exeunt/blocks.h>
#include <exeunt/norm.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EXN_ACT_SILU = 0, EXN_ACT_GELU = 1, EXN_ACT_GELU_TANH = 2 };

typedef struct exn_ffn_params {
  uint64_t struct_size;          /**< sizeof(exn_ffn_params) */
  const DLTensor* hidden;        /**< in, [R,D], f32 | f16 | bf16, last stride 1; R may be 0,
                                      D >= 1. The residual stream. */
  const DLTensor* norm_weight;   /**< in, [D], f32, compact; needed unless norm is EXN_NORM_NONE.
                                      The norm's weight, a factor of each column. */
  const DLTensor* norm_bias;     /**< in, optional, [D], f32, compact; EXN_NORM_LAYER only. The
                                      norm's bias, added to each column. */
  const DLTensor* gate_weight;   /**< in, optional, [F,D], dtype of up_weight, or blocks
                                      (gate_blocks) if that has some, last stride 1. The gate's
                                      projection, Wg: its activation multiplies what up_weight
                                      gives. */
  const DLTensor* gate_bias;     /**< in, optional, [F], f32, compact; with gate_weight only. The
                                      gate's bias. */
  const DLTensor* up_weight;     /**< in, [F,D], f32 | f16 | bf16, or blocks (u8, up_blocks), last
                                      stride 1; F >= 1. The projection from D to F columns, Wu. */
  const DLTensor* up_bias;       /**< in, optional, [F], f32, compact. The bias of the projection
                                      up. */
  const DLTensor* down_weight;   /**< in, [D,F], dtype of up_weight, or blocks (down_blocks) if that
                                      has some, last stride 1. The projection from F back to D
                                      columns, Wd. */
  const DLTensor* down_bias;     /**< in, optional, [D], f32, compact. The bias of the projection
                                      down. */
  const DLTensor* skip;          /**< in, optional, [R], u8, compact; not 0: the row passes.
                                      Which rows pass by; `ffn_skip_rule` writes it. */
  const DLTensor* out;           /**< out, [R,D], dtype of hidden, last stride 1; may be exactly
                                      `hidden`. The residual stream after the block. */
  const DLTensor* cosine;        /**< out, optional, [R], f32, compact. How much the block left
                                      the residual stream's direction alone. */
  const DLTensor* branch_cosine; /**< out, optional, [R], f32, compact. The direction of what the
                                      block adds. */
  int32_t norm;                  /**< EXN_NORM_NONE, EXN_NORM_RMS or EXN_NORM_LAYER. The norm before
                                      the block. */
  float norm_eps;                /**< >= 0 and finite. What the norm adds under the root, against a
                                      division by 0. */
  int32_t activation;            /**< EXN_ACT_*. The non-linear function. */
  int32_t gate_blocks;           /**< EXN_BLOCKS_*; formats of the three weights may differ. What
                                      blocks the rows of gate_weight are made of. */
  int32_t up_blocks;             /**< EXN_BLOCKS_*. What blocks the rows of up_weight are made
                                      of. */
  int32_t down_blocks;           /**< EXN_BLOCKS_*. What blocks the rows of down_weight are made
                                      of. */
  int32_t input_rounding;        /**< EXN_INPUT_INT16 or EXN_INPUT_INT8. How what meets blocks is
                                      rounded (blocks.h). */
  int32_t reserved;              /**< 0 */
} exn_ffn_params;

EXN_API exn_status exn_ffn_supported(const exn_ffn_params* params);
EXN_API exn_status exn_ffn_workspace_size(const exn_ffn_params* params, size_t* bytes);
EXN_API exn_status exn_ffn(const exn_ffn_params* params, void* workspace, size_t workspace_bytes,
                           exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
