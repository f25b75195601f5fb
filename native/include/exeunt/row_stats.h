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
 *   draw          an id that is drawn from softmax(z / draw_temperature), as below
 *
 * A row with a NaN or +inf, or with nothing but -inf, is invalid: valid 0, argmax and draw -1,
 * every other output NaN. Other rows are not affected. A -inf contributes exactly 0.
 *
 * A label outside -1..V-1: EXN_INVALID_ARGUMENT on the CPU; on CUDA, where a run cannot read it on
 * the host, its label_log_p is NaN.
 *
 * A draw is the smallest j with the largest z_j / t + g_j, t the row's draw_temperature, g_j Gumbel
 * noise of the row and of j alone (Gumbel 1954): over keys and counters each j comes with its
 * probability, to 2e-6 of it; and the same j comes wherever key, counter and z are the same bits,
 * in every batch, on every device. With t = 0 (or below 2^-126, or so low that the largest of these
 * sums is not finite) it is argmax. A negative t, a NaN or an infinity: EXN_INVALID_ARGUMENT on the
 * CPU; on CUDA the draw is -1. All 2^64 keys and counters are sound; a key for each sequence and
 * its position as the counter will do. Every operation is f32 and rounded to nearest by itself:
 *
 *   block   Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011) of the counter words
 *           {j / 128 * 32 + j % 32, 0, draw_counter % 2^32, draw_counter / 2^32} with the key words
 *           {draw_key % 2^32, draw_key / 2^32}, / rounding down and both taken for unsigned
 *   w       word j / 32 % 4 of the block
 *   share   share(w) = ((w / 65536) 65536 + (w % 65536 + .5)) 2^-32
 *   g_j     -ln(-ln(share(~w)))
 *   ln x    x = m 2^k, m from 0x3f3504f3 (.70710677) up to twice that, f = m - 1; but where
 *           share(~w) has k = 0, f = -share(w). s = f / (2 + f), y = s s,
 *           p = ((2/9 y + 2/7) y + 2/5) y + 2/3, ln x = k .69314718 + ((s + s) + s (y p))
 *   z_j / t z_j times 1 / t
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
 * Outputs of row_stats and exit_head, and what two of them depend on. Each is optional (NULL),
 * compact, rank 1, shape [R], on the device of the inputs; at least one output must be given. You
 * pay for what you ask: pow2_entropy, mean_log_p and draw add arithmetic per element.
 */
typedef struct exn_stats {
  const DLTensor* argmax;           /**< out, i32 */
  const DLTensor* max_logit;        /**< out, f32 */
  const DLTensor* lse;              /**< out, f32 */
  const DLTensor* p1;               /**< out, f32 */
  const DLTensor* p2;               /**< out, f32 */
  const DLTensor* margin;           /**< out, f32 */
  const DLTensor* entropy;          /**< out, f32 */
  const DLTensor* pow2_entropy;     /**< out, f32 */
  const DLTensor* mean_log_p;       /**< out, f32 */
  const DLTensor* valid;            /**< out, u8 */
  const DLTensor* labels;           /**< in, i32, -1..V-1; with label_log_p */
  const DLTensor* label_log_p;      /**< out, f32; with labels */
  const DLTensor* draw;             /**< out, i32; with draw_key and draw_counter; EXN_SOFTMAX */
  const DLTensor* draw_key;         /**< in, i64; with draw */
  const DLTensor* draw_counter;     /**< in, i64; with draw */
  const DLTensor* draw_temperature; /**< in, f32, >= 0 and finite; with draw, but NULL is 1 each */
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
