/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exit_head: hidden state -> [translator] -> [norm] -> LM head -> statistics of the logits, which
 * are never written.
 *
 *   x = hidden                                                       [R,D]
 *   x = T x' + t,  x' = x or x / rms(x)                              optional translator
 *   x = x / sqrt(mean x^2 + eps) * norm_weight                       EXN_NORM_RMS
 *   x = (x - mean x) / sqrt(var x + eps) * norm_weight + norm_bias   EXN_NORM_LAYER
 *   z = W x + bias                                                   [R,V], on the fly
 *   statistics of z as in row_stats.h
 *
 * Used for LM exits in the manner of CALM, LayerSkip, DEL, FREE, EE-LLM. When hidden and weight are
 * both bf16 (or both f16), x is rounded to that type before the product, as a framework's bf16 norm
 * would; otherwise x stays f32. Products are accumulated in f32. Where both are bf16, the CPU may
 * sum the exact products of W and x in pairs (VDPBF16PS): each addition rounds to nearest, and
 * subnormal bf16 elements, products and sums count as 0. The result of a row does not depend on the
 * other rows of the batch.
 *
 * Quantised weights (blocks.h), of the head or of the translator, meet an f32 x that is rounded as
 * linear.h says, whose bound holds for each logit; a row of x with an element that is not finite
 * makes its logits NaN, a block with a scale that is not finite those of its row of W NaN or
 * infinite.
 *
 * The statistics are as near to those of the computed z as row_stats.h says; logits that are equal,
 * as those of equal rows of W are, tie exactly, whatever their order in a shortlist.
 *
 * With a shortlist only the listed vocabulary rows are read and take part: the statistics are those
 * of the distribution renormalised over the list, and argmax is the vocabulary id. A list entry
 * outside 0..V-1: EXN_INVALID_ARGUMENT on the CPU; on CUDA, where a run cannot read the list on the
 * host, every row of the call is invalid (nothing is read out of bounds). Labels are vocabulary
 * ids, too; label_log_p of one that is not listed is -inf. A draw is one of the listed ids, by the
 * noise of its vocabulary id; one that is listed twice counts once.
 *
 * With a screen (screen.h) the head is not read, but a form of it that is several times smaller,
 * then those rows of the head that may hold the largest logit: argmax, max_logit and valid are the
 * full head's, bit for bit (with EXN_SCREEN_CALIBRATED unless a bound fails). lse and p1 are
 * estimates: p1 lies in [p1_low, p1_high], which holds the full head's, with proven bounds; on the
 * CPU, where these two are asked for and would be more than 1/64 apart, the rest of screen_budget
 * is spent on the rows that make them so. Other statistics need all logits and are refused, as are
 * labels, a draw, a shortlist and EXN_STABLEMAX. Of a row whose candidates are more than
 * screen_budget, whose input is not finite or beyond 2^96, or whose bounds are not finite, the full
 * head is read, and all outputs are its own. On the CPU all three functions read the screen's
 * header; whether it belongs to this head is for exn_screen_check. A header that is damaged, or of
 * another V, D or size, and a level that it has not: EXN_INVALID_ARGUMENT on the CPU; on CUDA,
 * where the host cannot read the image, the full head is read for all rows (nothing is read out of
 * bounds). There rows_read may be another number than on the CPU.
 *
 * Bytes that must move: V * D * sizeof(weight element), or V rows of blocks, once for each block of
 * up to 64 rows, R * D * sizeof(hidden element). Without a screen the workspace is at most 32 MB,
 * or what 64 rows take, whatever R is.
 */
#ifndef EXEUNT_EXIT_HEAD_H
#define EXEUNT_EXIT_HEAD_H

#include <exeunt/blocks.h>
#include <exeunt/norm.h>
#include <exeunt/row_stats.h>
#include <exeunt/screen.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What the translator is fed. */
enum {
  EXN_TRANSLATE_RAW = 0, /**< the hidden state as it is */
  EXN_TRANSLATE_RMS = 1  /**< hidden / sqrt(mean hidden^2 + norm_eps), without norm_weight */
};

typedef struct exn_exit_head_params {
  uint64_t struct_size;              /**< sizeof(exn_exit_head_params) */
  const DLTensor* hidden;            /**< in, [R,D], f32 | f16 | bf16, last stride 1; R may be 0,
                                          D >= 1. The hidden states. */
  const DLTensor* weight;            /**< in, [V,D], f32 | f16 | bf16, or blocks (u8,
                                          weight_blocks), last stride 1; 1 <= V < 2^31. The LM
                                          head. */
  const DLTensor* bias;              /**< in, optional, [V], f32, compact. The LM head's bias. */
  const DLTensor* norm_weight;       /**< in, [D], f32, compact; needed unless norm is
                                          EXN_NORM_NONE. The norm's weight, a factor of each
                                          column. */
  const DLTensor* norm_bias;         /**< in, optional, [D], f32, compact; EXN_NORM_LAYER only. The
                                          norm's bias, added to each column. */
  const DLTensor* translator_weight; /**< in, optional, [D,D] (out, in), f32 | f16 | bf16, or blocks
                                          (u8, translator_blocks), last stride 1. The translator's
                                          weight, T, which is applied before the norm. */
  const DLTensor* translator_bias;   /**< in, optional, [D], f32, compact; only with
                                          translator_weight. The translator's bias, t. */
  const DLTensor* shortlist;         /**< in, optional, [N], i32, compact, N >= 1, entries in
                                          0..V-1. The vocabulary rows to look at. */
  const DLTensor* screen;    /**< in, optional, [bytes], u8, compact, at a multiple of 64. An image
                                  that exn_screen_build made of weight: a smaller form of the head,
                                  which is read in its place. */
  exn_stats out;             /**< out, one or more of them. The statistics of each row. */
  const DLTensor* certified; /**< out, optional, [R], u8, compact: EXN_CERTIFIED_*; with
                                          screen. How the result of a row is known: 0, the full
                                          head was read; 1, by proven bounds without it; 2, by
                                          calibrated bounds without it, which is likely, not
                                          proven. */
  const DLTensor* p1_low;    /**< out, optional, [R], f32, compact; with screen, and with
                                          p1_high. The lower end of an interval that p1 is in. */
  const DLTensor* p1_high;   /**< out, optional, [R], f32, compact; with screen, and with
                                          p1_low. The upper end of an interval that p1 is in. */
  const DLTensor* rows_read; /**< out, optional, [R], i32, compact; with screen. How many
                                          rows of the head were read for a hidden state; V if the
                                          full head was. */
  int32_t norm;              /**< EXN_NORM_NONE, EXN_NORM_RMS or EXN_NORM_LAYER. The norm
                                          before the LM head. */
  float norm_eps;            /**< >= 0 and finite. What the norm adds under the root,
                                          against a division by 0. */
  int32_t translate;         /**< EXN_TRANSLATE_RAW or EXN_TRANSLATE_RMS. What the
                                          translator is fed. */
  int32_t normalizer;        /**< EXN_SOFTMAX or EXN_STABLEMAX. How logits become
                                          probabilities. */
  float temperature;         /**< > 0 and finite. What the logits are divided by. */
  float softcap;             /**< >= 0 and finite; 0 = none. Soft cap of the logits, applied
                                          before the temperature. */
  int32_t weight_blocks;     /**< EXN_BLOCKS_*. What blocks the rows of the LM head are
                                          made of. */
  int32_t translator_blocks; /**< EXN_BLOCKS_*. What blocks the rows of the translator
                                          are made of. */
  int32_t screen_level;      /**< a level of the screen, from 0 on. Where the hidden
                                          states come from. */
  int32_t screen_mode;       /**< EXN_SCREEN_PROVEN or EXN_SCREEN_CALIBRATED. How the
                                          errors of the screen are bounded. */
  int32_t screen_budget;     /**< 1 up to V; 0 means V / 50 + 64, at most V. Most rows of
                                          the head that are read one by one for a hidden state;
                                          where more are candidates, the full head is read. */
  float screen_factor;       /**< c of EXN_SCREEN_CALIBRATED, > 0 and finite; 0 means 8.
                                          Standard deviations of calibrated bounds. */
} exn_exit_head_params;

EXN_API exn_status exn_exit_head_supported(const exn_exit_head_params* params);
EXN_API exn_status exn_exit_head_workspace_size(const exn_exit_head_params* params, size_t* bytes);
EXN_API exn_status exn_exit_head(const exn_exit_head_params* params, void* workspace,
                                 size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
