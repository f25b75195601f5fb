/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stablemax: StableMax and softmax over rows, plain or logarithmic, and their cross-entropy with
 * gradient.
 *
 *   s(x) = x + 1 for x >= 0, else 1 / (1 - x)     StableMax(z)_i = s(z_i) / sum_j s(z_j)
 *   g(x) = ln s(x) = sign(x) log1p|x|             log StableMax(z)_i = g(z_i) - ln sum_j s(z_j)
 *   g'(x) = 1 / (1 + |x|)  (softmax: 1)           dL/dz_i = g'(z_i) (p_i - [i = y])
 *
 * Prieto et al. 2025, "Grokking at the Edge of Numerical Stability", and its code; here in the g
 * form, which branches before dividing and therefore needs no epsilon and stays finite where that
 * code does not. Reductions are f32 for f32, f16, bf16 storage and f64 for f64 storage.
 *
 * A row with a NaN or +inf, or with nothing but -inf, gives NaN in the whole row (loss and gradient
 * too). -inf gives p = 0.
 *
 * Errors of f32, f16 and bf16 before the result is rounded to its type: the sum of a row is within
 * 1e-6 (relative) for every V up to 2^20, however many logits are equal, on every device; p_i within
 * 1e-6 + 2^-23 |ln p_i - ln p_max| (relative), ln p_i and a loss within 1e-6 + 2^-22 |ln p_i|, to
 * which StableMax adds 2^-22 (|g| + 1) for the largest |g|.
 *
 * Bytes that must move: forward R*V*(read + write). Loss: R*V read, and R*V written if a gradient
 * is asked for.
 */
#ifndef EXEUNT_STABLEMAX_H
#define EXEUNT_STABLEMAX_H

#include <exeunt/row_stats.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct exn_stablemax_params {
  uint64_t struct_size;   /**< sizeof(exn_stablemax_params) */
  const DLTensor* logits; /**< in, [R,V], f64 | f32 | f16 | bf16, last stride 1; V >= 1,
                               V < 2^31; R may be 0. The logits. */
  const DLTensor* out;    /**< out, [R,V], dtype of logits, last stride 1; may be exactly
                               `logits` (in place). The probabilities or log-probabilities. */
  int32_t normalizer;     /**< EXN_SOFTMAX or EXN_STABLEMAX. How logits become probabilities. */
  int32_t log;            /**< 0 or 1. Whether the result is log-probabilities. */
} exn_stablemax_params;

EXN_API exn_status exn_stablemax_supported(const exn_stablemax_params* params);
EXN_API exn_status exn_stablemax_workspace_size(const exn_stablemax_params* params, size_t* bytes);
EXN_API exn_status exn_stablemax(const exn_stablemax_params* params, void* workspace,
                                 size_t workspace_bytes, exn_stream stream);

enum { EXN_REDUCE_NONE = 0, EXN_REDUCE_MEAN = 1 };

/**
 * Cross-entropy -ln p_y, with the gradient in the same pass. MEAN divides loss and gradient by the
 * number of labels that are not ignored (all ignored: loss NaN, gradient 0, as the field's
 * frameworks do); NONE gives each row's loss and the gradient of their sum. A label outside 0..V-1
 * that is not ignore_index: EXN_INVALID_ARGUMENT on the CPU, nothing written; on CUDA, where the
 * host cannot look, loss and gradient of that row are NaN (and so is the mean).
 */
typedef struct exn_cross_entropy_params {
  uint64_t struct_size;   /**< sizeof(exn_cross_entropy_params) */
  const DLTensor* logits; /**< in, [R,V], f64 | f32 | f16 | bf16, last stride 1; V >= 1; R may be
                               0. The logits. */
  const DLTensor* labels; /**< in, [R], i32 | i64, compact. The right answers. */
  const DLTensor* loss;   /**< out, optional, [R] for NONE, [1] for MEAN; f64 for f64 logits,
                               else f32; compact. The loss. */
  const DLTensor* grad;   /**< out, optional, [R,V], dtype of logits, last stride 1; may be
                               exactly `logits` (in place). The gradient of the loss. */
  int64_t ignore_index;   /**< any value, inside 0..V-1 or outside. The label that is left out:
                               loss 0, gradient 0. */
  int32_t normalizer;     /**< EXN_SOFTMAX or EXN_STABLEMAX. How logits become probabilities. */
  int32_t reduction;      /**< EXN_REDUCE_NONE or EXN_REDUCE_MEAN. How the rows' losses are
                               combined. */
} exn_cross_entropy_params;

EXN_API exn_status exn_cross_entropy_supported(const exn_cross_entropy_params* params);
EXN_API exn_status exn_cross_entropy_workspace_size(const exn_cross_entropy_params* params,
                                                    size_t* bytes);
EXN_API exn_status exn_cross_entropy(const exn_cross_entropy_params* params, void* workspace,
                                     size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
