/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linear: out = input W^T + bias + residual, for one row (GEMV), a batch, or a whole prompt; with an
 * adapter of rank K, out = input W^T + t U + bias + residual, t = s * (input V^T).
 *
 * Products are accumulated in f32; bias, then residual are added in f32 before the result is
 * rounded to the dtype of `out`. Where input and weight are both bf16, the CPU may sum their exact
 * products in pairs (VDPBF16PS): each addition rounds to nearest, and subnormal bf16 elements,
 * products and sums count as 0. The result of a row does not depend on the other rows of the batch,
 * with one exception: on processors with AMX (instruction set "amx") more than 64 rows meet bf16
 * weights in tiles, whose sums go in another order than those of fewer rows, and in which subnormal
 * bf16 weights count as 0 whatever the input is. EXEUNT_ISA=avx512 keeps to one order.
 *
 * On CUDA tensor cores multiply bf16 weights, which an f32 element meets as the sum of three bf16.
 * Their products are exact, their sums are cut instead of rounded, how much NVIDIA does not say. If
 * of eight products and the sum so far each keeps one bit more than the largest of them has in f32,
 * then before bias and residual, and to first order in 2^-24,
 *
 *   |out - W x| <= (96 + D / 64) * 2^-24 * sum |W x|
 *
 * What is below 2^-126 of an element, or of a weight, may count as 0 there.
 *
 * Quantised weights (blocks.h) meet an input whose every 32 elements, from the first on, were
 * rounded to multiples of 2^(e - 14), e the exponent of the largest magnitude among them and at
 * least -88, or one more where that magnitude is at least 32639.5 / 32768 of 2^(e + 1); so bf16
 * elements of at least 2^(e - 6) are kept exactly. Their products with the integers of a block are
 * summed exactly, and scaled and added up in f32. So
 *
 *   |out - W x| <= (2^-15 + 2^-22) * sum over 32s of (max(|x|, 2^-88) * sum |w|)
 *                  + what sums of D terms in f32 lose
 *
 * With EXN_INPUT_INT8 the input is rounded to 8 bits instead, and 1/254 stands for 2^-15.
 *
 * A block whose d, m or dmin is NaN or infinite, or d (times s) times 2^(e - 14) too large for f32,
 * makes outputs of its weight row NaN or infinite; an input element that is NaN or infinite makes
 * its row of out NaN. Weights without blocks take such elements as f32 arithmetic does.
 *
 * Weights in panels (pack.h) meet the input as f32. The columns are parted into P = D / 512, rounded
 * up, runs of D / P, rounded up; the products of a run are added up column after column from 0 on,
 * fused where the set has such an operation, and the runs in ascending order: for any number of rows.
 * Before bias and residual, and to first order in 2^-24,
 *
 *   |out - W x| <= min(512 + D / 512, D) * 2^-24 * sum |W x|
 *
 * There are no pairs nor tiles, and no subnormal counts as 0: where input and weight are both bf16,
 * processors that multiply bf16 natively are faster with weights that are not packed.
 *
 * An adapter adds V = adapter_down and U = adapter_up, what LoRA calls A and the transpose of B, and
 * the one-dimensional adapter of SPM (Lyu et al., CVPR 2024; K concepts, or K = 1) v and u; s =
 * adapter_scale, a factor for each row and component, is alpha / rank there, or gamma, and 0 for a
 * row that does without, whatever U and V hold. t is summed in f32 and not rounded; the components
 * are added to the product in f32 in ascending order, before the bias, fused where the processor can;
 * one whose t is 0 is not added. (SPM's published inference code multiplies u and v by gamma each,
 * which makes gamma^2, and mixes concepts: (sum g_k u_k)(sum g_k v_k x). What is here is the paper's
 * sum.)
 *
 * Bytes that must move: N * D * sizeof(weight element), or N rows of blocks, once for each block of
 * up to 64 rows, of up to 448 with panels; R * D * sizeof(input element), R * N * sizeof(out
 * element), and as much again for a residual; K * (D + N) elements of an adapter.
 */
#ifndef EXEUNT_LINEAR_H
#define EXEUNT_LINEAR_H

#include <exeunt/blocks.h>
#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct exn_linear_params {
  uint64_t struct_size;          /**< sizeof(exn_linear_params) */
  const DLTensor* input;         /**< in, [R,D], f32 | f16 | bf16, last stride 1; R may be 0,
                                      D >= 1. The rows. */
  const DLTensor* weight;        /**< in, [N,D], f32 | f16 | bf16, or blocks (u8, weight_blocks),
                                      last stride 1; N >= 1; panels: u8, compact, aligned to an
                                      element. The weight. */
  const DLTensor* bias;          /**< in, optional, [N], f32, compact. What is added to each row. */
  const DLTensor* residual;      /**< in, optional, [R,N], dtype of out, last stride 1. What the
                                      product is added to. */
  const DLTensor* adapter_down;  /**< in, optional, [K,D], f32 | f16 | bf16, last stride 1; K >= 1.
                                      The adapter's projection to its K components, V. */
  const DLTensor* adapter_up;    /**< in, optional, [K,N], dtype of adapter_down, last stride 1;
                                      given with it and not without. The adapter's projection from
                                      its components to the outputs, U. */
  const DLTensor* adapter_scale; /**< in, optional, [R,K], f32, last stride 1; NULL: all 1; with
                                      adapter_down only. How much of each component a row gets. */
  const DLTensor* out;           /**< out, [R,N], f32 | f16 | bf16, last stride 1; may be exactly
                                      `residual`. The result. */
  int32_t weight_blocks;         /**< EXN_BLOCKS_*. What blocks the rows of the weight are made
                                      of, or what panels they are in. */
  int32_t input_rounding;        /**< EXN_INPUT_INT16 or EXN_INPUT_INT8. How the input is rounded to
                                      meet blocks (blocks.h). */
} exn_linear_params;

EXN_API exn_status exn_linear_supported(const exn_linear_params* params);
EXN_API exn_status exn_linear_workspace_size(const exn_linear_params* params, size_t* bytes);
EXN_API exn_status exn_linear(const exn_linear_params* params, void* workspace,
                              size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
