/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elr: early-learning regularisation (Liu et al. 2020, and its code): cross-entropy that does not
 * come to memorise wrong labels, since each sample has a target of its own, a running mean of what
 * the network said of it. Targets, loss and gradient in one call.
 *
 *   p_j = softmax(z)_j    c_j = clamp(p_j, 1e-4, 1 - 1e-4)    t = targets[index[r], :]
 *
 *   t_j    <- beta t_j + (1 - beta) c_j / sum c
 *   loss_r =  -ln p_y + lambda ln(1 - <t, c>)
 *   dz_j   =  p_j - [j = y] + lambda p_j (sum_k u_k t_k p_k - u_j t_j) / (1 - <t, c>)
 *
 * with the new t, which is a constant to the gradient, and u_j = 1, but 0 where the clamp holds p_j:
 * there it passes nothing back, as in the code's automatic differentiation. Targets start as 0. The
 * authors' beta and lambda: .7 and 3 (CIFAR-10), .9 and 7 (CIFAR-100), .9 and 1 (asymmetric noise).
 *
 * MEAN divides loss and gradient by the number of labels that are not ignored (all ignored: loss
 * NaN, gradient 0); NONE gives each row's loss and the gradient of their sum. An ignored row has
 * loss 0 and gradient 0. Its target stays, and so does that of a row with a NaN or +inf, or with
 * nothing but -inf, whose loss and gradient are NaN. p = 0 for -inf.
 *
 * A label outside 0..V-1 that is not ignore_index, an index outside 0..N-1, and an index that an
 * earlier row has too, be one of them ignored or not: EXN_INVALID_ARGUMENT on the CPU, nothing
 * written; on CUDA, where the host cannot look, loss and gradient of that row are NaN (and so is the
 * mean) unless it is ignored, and its target stays.
 *
 * Arithmetic is f32: before it is rounded to its type, p_j is within 1e-6 + 2^-23 |ln p_j - ln
 * p_max| (relative), <t, c> within 2e-6, a target within 1e-6. ln(1 - <t, c>) and its gradient are
 * as good as 1 - <t, c>, which is above 1e-4 as long as the sum of a target is at most 1.
 * Deterministic; capture-safe.
 *
 * Bytes that must move: R * V logits read, 8 * R * V of targets, R labels and indices, and R * V
 * written if a gradient is asked for.
 */
#ifndef EXEUNT_ELR_H
#define EXEUNT_ELR_H

#include <exeunt/stablemax.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct exn_elr_params {
  uint64_t struct_size;    /**< sizeof(exn_elr_params) */
  const DLTensor* logits;  /**< in, [R,V], f32 | f16 | bf16, last stride 1; V >= 1, R may be 0.
                                The logits. */
  const DLTensor* labels;  /**< in, [R], i32 | i64, compact. The answers that the data give. */
  const DLTensor* index;   /**< in, [R], i32, compact, all different. The sample of each row. */
  const DLTensor* targets; /**< in-out, [N,V], f32, last stride 1. What the network has said of
                                each sample. */
  const DLTensor* loss;    /**< out, optional, [R] for NONE, [1] for MEAN; f32, compact. The
                                loss. */
  const DLTensor* grad;    /**< out, optional, [R,V], dtype of logits, last stride 1; may be
                                exactly `logits` (in place). The gradient of the loss. */
  int64_t ignore_index;    /**< any value, inside 0..V-1 or outside. The label that is left out:
                                loss 0, gradient 0, the target stays. */
  float beta;              /**< 0..1. How much of a target stays. */
  float lambda;            /**< >= 0 and finite. How much the regulariser weighs; 0 is plain
                                cross-entropy. */
  int32_t reduction;       /**< EXN_REDUCE_NONE or EXN_REDUCE_MEAN. How the rows' losses are
                                combined. */
  int32_t reserved;        /**< 0 */
} exn_elr_params;

EXN_API exn_status exn_elr_supported(const exn_elr_params* params);
EXN_API exn_status exn_elr_workspace_size(const exn_elr_params* params, size_t* bytes);
EXN_API exn_status exn_elr(const exn_elr_params* params, void* workspace, size_t workspace_bytes,
                           exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
