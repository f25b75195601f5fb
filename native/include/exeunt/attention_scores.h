/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention_scores: how much attention a few queries pay to each token of a prompt, and, in the
 * same run, which tokens to keep for it.
 *
 * Prompt s has W query rows, (s, i) = query[s * W + i]: the CLS row, the last row, the last W rows,
 * or all of them. Row (s, i) sees the leading visible[s * W + i] slots of its sequence: causality
 * is the caller's. Column j is slot first + j.
 *
 *   z[s,i,h,t] = scale * <query[s * W + i, h], K[h / G, t]>,  t in [0, visible),  G = H / Hkv
 *   a[s,i,h,t] = z (EXN_SCORE_RAW) or softmax_t(z) over all visible slots (EXN_SCORE_SOFTMAX)
 *   c[s,h,j]   = sum over the rows i that see slot first + j of a[s,i,h,first + j]
 *   b[s,g,j]   = c[s,g,j] (EXN_HEADS_EACH, H of them) | sum_h c (SUM, 1) | sum_h c / H (MEAN, 1)
 *                | sum over the G query heads of KV head g (GROUP_SUM, Hkv)
 *   score      = b, pooled over the columns
 *
 * Columns are scored below limit[s] and where a row of the prompt sees them; the others get -inf.
 * Pooling takes pool_width columns centred at j: EXN_POOL_AVG divides their sum by pool_width,
 * whatever lies outside the scored columns counting as 0; EXN_POOL_MAX ignores what lies outside.
 * With `accumulate` the score is added to what `scores` holds, and columns that are not scored keep
 * what they hold (H2O, or a prompt in pieces). The selection is what select makes of the scores as
 * they are handed out, its limit[r] being the number of scored columns.
 *
 * Everything after loading is f32; neither z nor the maxima and sums of the softmax leave the op.
 * Where query and keys are both bf16, the CPU may sum their exact products in pairs (VDPBF16PS):
 * each addition rounds to nearest, and subnormal bf16 elements, products and sums count as 0. A NaN
 * in a query or in a key that it sees makes the scores it enters NaN, and with them the row of the
 * selection invalid (select.h), which then keeps everything. A softmax row with +inf, or with
 * nothing but -inf, is NaN.
 *
 *   HiRED               CLS row, softmax, SUM, first = 1 (the CLS column is seen but not scored)
 *   PromptDistill       last row, raw, MEAN, average pooling of 5, limit = the last row's slot
 *   GemFilter           last row, raw, scale 1, SUM, average pooling of 5
 *   SnapKV              last W rows, softmax, EACH (GROUP_SUM keeps a GQA cache), pooling of 5,
 *                       limit = N - W
 *   H2O                 all rows, softmax, EACH or GROUP_SUM, accumulate
 *   FastV, PyramidDrop  last row, softmax, MEAN
 *
 * visible outside 0..T, limit outside 0..N, a sequence outside 0..S-1, a page outside 0..P-1:
 * EXN_INVALID_ARGUMENT on the CPU with nothing written; on CUDA such values are clamped, and a
 * prompt whose sequence or page does not exist has NaN scores.
 *
 * Bytes that must move: visible * Hkv * dh elements of K per prompt (once for as many rows as have
 * 2^20 scores with all heads, which bounds the workspace), the queries, and 4 * N per row of scores
 * handed out. Of the selection, what select.h says but for the scores.
 */
#ifndef EXEUNT_ATTENTION_SCORES_H
#define EXEUNT_ATTENTION_SCORES_H

#include <exeunt/kv_cache.h>
#include <exeunt/select.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EXN_SCORE_RAW = 0, EXN_SCORE_SOFTMAX = 1 };
enum { EXN_HEADS_EACH = 0, EXN_HEADS_SUM = 1, EXN_HEADS_MEAN = 2, EXN_HEADS_GROUP_SUM = 3 };
enum { EXN_POOL_NONE = 0, EXN_POOL_AVG = 1, EXN_POOL_MAX = 2 };

typedef struct exn_attention_scores_params {
  uint64_t struct_size;     /**< sizeof(exn_attention_scores_params) */
  const DLTensor* query;    /**< in, [S*W,H,dh], f32 | f16 | bf16, heads compact, row stride
                                 free; H a multiple of Hkv; S may be 0. The queries, the W rows
                                 of prompt 0 first. */
  exn_kv_cache keys;        /**< in; only K is read, v may be NULL. The keys; values are not read
                                 and may be missing. */
  const DLTensor* sequence; /**< in, optional, [S], i32, compact; NULL: prompt s is sequence s of
                                 the cache. The sequence of each prompt. */
  const DLTensor* visible;  /**< in, [S*W], i32, compact, entries in 0..T. How many leading slots
                                 each row sees. */
  const DLTensor* limit;    /**< in, optional, [S], i32, compact, entries in 0..N; NULL: N. How
                                 many leading columns of each prompt are scored. */
  const DLTensor* scores;   /**< out (in-out with accumulate), [S,B,N], f32, compact, B = H, 1 or
                                 Hkv as reduction says; may be NULL with a selection. The scores. */
  exn_selection selection; /**< indices NULL: none is made; R = S * B rows. Which tokens to keep. */
  int64_t columns;         /**< N >= 0; first + N <= T. How many columns the scores have. */
  int64_t first;           /**< >= 0; first + N <= T. The slot of column 0. */
  int64_t window;          /**< W >= 1, divides the rows of query. How many query rows each
                                 prompt has. */
  float scale;             /**< > 0 and finite, usually 1 / sqrt(dh). Factor of the products. */
  int32_t kind;            /**< EXN_SCORE_RAW or EXN_SCORE_SOFTMAX. What a query pays to a slot. */
  int32_t reduction;       /**< EXN_HEADS_*. What becomes of the heads. */
  int32_t pool;            /**< EXN_POOL_*; EXN_POOL_NONE with accumulate. How the scores of
                                neighbouring columns are joined. */
  int32_t pool_width;      /**< odd, 1 .. 255; 0 with EXN_POOL_NONE. How many columns are pooled,
                                centred at each. */
  int32_t accumulate;      /**< 0 or 1; 1 needs scores, and no pooling. Adds to what the scores
                                 hold: for a prompt in pieces. */
} exn_attention_scores_params;

EXN_API exn_status exn_attention_scores_supported(const exn_attention_scores_params* params);
EXN_API exn_status exn_attention_scores_workspace_size(const exn_attention_scores_params* params,
                                                       size_t* bytes);
EXN_API exn_status exn_attention_scores(const exn_attention_scores_params* params, void* workspace,
                                        size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
