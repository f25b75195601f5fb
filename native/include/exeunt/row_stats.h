/* SPDX-License-Identifier: Apache-2.0 */
/*
 * row_stats: confidence statistics of rows of logits, in one pass, without writing probabilities.
 *
 * For each row z of [R,V], after z <- softcap * tanh(z / softcap) (if softcap > 0; -inf stays -inf)
 * and z <- z / temperature:
 *
 *   softmax    p_j = exp(z_j - lse),  lse = ln sum exp(z_j)
 *   StableMax  p_j = s(z_j) / sum s,  lse = ln sum s,  s(x) = x + 1 for x >= 0, else 1 / (1 - x)
 *              (Prieto et al. 2025, "Grokking at the Edge of Numerical Stability"); for models that
 *              were trained with it: behind another head p1 is of the order of 1 / V
 *
 *   argmax        smallest j with the largest z_j
 *   max_logit     z_argmax (after softcap and temperature)
 *   p1, p2        largest and second largest p (p2 = 0 for V = 1 or when the rest is -inf). p1 is
 *                 EE-LLM's softmax confidence and t5x's softmax_max
 *   margin        p1 - p2 (1 for V = 1). FREE calls this softmax confidence; CALM softmax_diff
 *   entropy       -sum p ln p, nats. CNTP's code has ln(p + 1e-10), less by at most V * 1e-10
 *   pow2_entropy  entropy of p_j^2 / sum p^2 (JEI-DNN)
 *   mean_log_p    (1/V) sum ln p_j, so that KL(U||p) = -mean_log_p - ln V (self-certainty); -inf if
 *                 some z is -inf
 *   label_log_p   ln p_label of the row's label: z_label - lse, or ln s(z_label) - lse; -inf where
 *                 z_label is -inf. Of a label of -1 it is NaN: the row is not scored
 *
 * A row with a NaN or +inf, or with nothing but -inf, is invalid: valid 0, argmax -1, every other
 * output NaN. Other rows are not affected. A -inf contributes exactly 0.
 *
 * A label outside -1..V-1: EXN_INVALID_ARGUMENT on the CPU; on CUDA, where a run cannot read it on
 * the host, its label_log_p is NaN.
 *
 * Errors. Weights w_j are exp z_j or s(z_j) of the z_j as stored; sums of them, and with them p1,
 * p2 and margin, are within 1e-6 (relative; of the margin, to p1 + p2), lse within 1e-6 and 2^-23
 * of |lse| + |ln w_max|, both entropies H within 1e-6 (1 + H), mean_log_p within 1e-6 times 1, plus
 * |lse|, plus the means of |ln w_j| and |ln w_j - ln w_max|, label_log_p within 1e-6 and 2^-22 of
 * itself: for every V up to 2^20, however many of the z_j are equal, on every device. A softcap or
 * a temperature rounds z_j in f32 first, and with StableMax the logarithms are f32: what that moves
 * z_j or ln w_j by (2^-22 |z_j|, 2^-22 |ln w_j|) comes on top.
 *
 * Bytes that must move: R * V * sizeof(element) read, a few bytes per row read and written.
 */
#ifndef EXEUNT_ROW_STATS_H
#define EXEUNT_ROW_STATS_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/** How logits become probabilities. */
enum { EXN_SOFTMAX = 0, EXN_STABLEMAX = 1 };

/**
 * Outputs of row_stats and exit_head, and the labels that one of them is about. Each is optional
 * (NULL), compact, rank 1, shape [R], on the device of the inputs; at least one output must be
 * given. You pay for what you ask: pow2_entropy and mean_log_p add arithmetic per element.
 */
typedef struct exn_stats {
  const DLTensor* argmax;       /**< out, i32 */
  const DLTensor* max_logit;    /**< out, f32 */
  const DLTensor* lse;          /**< out, f32 */
  const DLTensor* p1;           /**< out, f32 */
  const DLTensor* p2;           /**< out, f32 */
  const DLTensor* margin;       /**< out, f32 */
  const DLTensor* entropy;      /**< out, f32 */
  const DLTensor* pow2_entropy; /**< out, f32 */
  const DLTensor* mean_log_p;   /**< out, f32 */
  const DLTensor* valid;        /**< out, u8 */
  const DLTensor* labels;       /**< in, i32, -1..V-1; with label_log_p */
  const DLTensor* label_log_p;  /**< out, f32; with labels */
} exn_stats;

typedef struct exn_row_stats_params {
  uint64_t struct_size;   /**< sizeof(exn_row_stats_params) */
  const DLTensor* logits; /**< in, [R,V], f32 | f16 | bf16, last stride 1; V >= 1, V < 2^31; R
                               may be 0. The logits. */
  exn_stats out;          /**< out, one or more of them. The statistics of each row. */
  int32_t normalizer;     /**< EXN_SOFTMAX or EXN_STABLEMAX. How logits become probabilities. */
  float temperature;      /**< > 0 and finite; 1 leaves the logits alone. What the logits are
                               divided by. */
  float softcap;          /**< >= 0 and finite; 0 = none. Soft cap of the logits, applied before the
                               temperature. */
  int32_t reserved;       /**< 0 */
} exn_row_stats_params;

EXN_API exn_status exn_row_stats_supported(const exn_row_stats_params* params);
EXN_API exn_status exn_row_stats_workspace_size(const exn_row_stats_params* params, size_t* bytes);
EXN_API exn_status exn_row_stats(const exn_row_stats_params* params, void* workspace,
                                 size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
