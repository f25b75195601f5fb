/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hired_budget: how many visual tokens each partition of an image may keep (HiRED).
 *
 * An image is encoded as P = 1 + k partitions of Nv = patch_rows * patch_cols tokens each: the full
 * image, then its k = grid_rows * grid_cols sub-images. `attention` is what the CLS token of the
 * full image pays to each of its tokens in an early layer, summed over heads (attention_scores.h).
 * With a = attention and all products in double, truncated to an integer:
 *
 *   B      = int(P * Nv * rate)
 *   B_full = min(int(B * alpha), Nv)
 *   B_sub  = min(B - B_full, k * Nv)
 *   s[i]   = sum of a over region i                    (EXN_HIRED_SUM, the paper)
 *          | how many of the top int(Nv * (1 - alpha))
 *            tokens of a lie in region i               (EXN_HIRED_TOP_COUNT, the code)
 *   q[i]   = float(s[i] / sum s) * B_sub in f32
 *   budget = B_full, int(q[0]), int(q[1]), ...                    each at least 0 and at most Nv
 *
 * Region i is the part of the full image that sub-image i shows: its cell of the grid
 * (EXN_HIRED_GRID), or the tokens [i * Nv / k, (i + 1) * Nv / k) in row-major order
 * (EXN_HIRED_STRIP, the code). What truncation leaves of B_sub is lost as in the code
 * (EXN_HIRED_TRUNCATE), or goes one by one to the largest fractions q - int(q), ties to the smaller
 * i, nobody above Nv, all over again while some is left (EXN_HIRED_LARGEST_REMAINDER; a q outside
 * 0..Nv has fraction 0). Equal attention is marked from the smaller index on. If sum s is not above
 * 0, every s[i] is 1 (where the code divides 0 by 0). An image with a NaN or an infinity in its
 * attention is invalid: valid 0, all budgets are Nv, no token is marked.
 *
 * The paper's form is SUM over GRID; TOP_COUNT over STRIP with TRUNCATE equals the code (HiRED,
 * hasanar1f/HiRED at 502d6dd). The budgets stay in device memory and are read there by select.
 *
 * Bytes that must move: 4 * Nv per image, 4 * P and, for marks, Nv written.
 */
#ifndef EXEUNT_HIRED_BUDGET_H
#define EXEUNT_HIRED_BUDGET_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EXN_HIRED_SUM = 0, EXN_HIRED_TOP_COUNT = 1 };
enum { EXN_HIRED_GRID = 0, EXN_HIRED_STRIP = 1 };
enum { EXN_HIRED_TRUNCATE = 0, EXN_HIRED_LARGEST_REMAINDER = 1 };

typedef struct exn_hired_budget_params {
  uint64_t struct_size;      /**< sizeof(exn_hired_budget_params) */
  const DLTensor* attention; /**< in, [I,Nv], f32, last stride 1: a row per image; I may be 0.
                                  What the CLS token of each full image pays to its tokens. */
  const DLTensor* budget;    /**< out, [I,P], i32, compact: the full image, then the sub-images
                                  by rows. How many tokens each partition may keep. */
  const DLTensor* marks;     /**< out, optional, TOP_COUNT: [I,Nv], u8, compact: 1 where a token
                                  was counted. Which tokens were counted; EXN_HIRED_TOP_COUNT
                                  only. */
  const DLTensor* valid;     /**< out, optional, [I], u8, compact. Which images could be judged. */
  double rate;               /**< 0 .. 1. The share of all tokens that is kept. */
  double alpha;              /**< 0 .. 1. The share of the kept tokens that the full image gets. */
  int64_t patch_rows;        /**< >= 1; GRID: grid_rows divides it. How many rows of tokens a
                                  partition has. */
  int64_t patch_cols;        /**< >= 1; GRID: grid_cols divides it; Nv < 2^31. How many tokens such
                                  a row has. */
  int64_t grid_rows;         /**< >= 0; 0 with grid_cols 0: no sub-images. How many rows of
                                  sub-images there are. */
  int64_t grid_cols;         /**< >= 0; STRIP: the number of sub-images divides Nv. How many
                                  sub-images such a row has. */
  int32_t score;             /**< EXN_HIRED_SUM or EXN_HIRED_TOP_COUNT. What a sub-image is
                                  worth. */
  int32_t region;            /**< EXN_HIRED_GRID or EXN_HIRED_STRIP. Which tokens of the full
                                  image show a sub-image. */
  int32_t remainder;         /**< EXN_HIRED_TRUNCATE or EXN_HIRED_LARGEST_REMAINDER. What becomes
                                  of the tokens that truncation leaves over. */
  int32_t reserved;          /**< 0 */
} exn_hired_budget_params;

EXN_API exn_status exn_hired_budget_supported(const exn_hired_budget_params* params);
EXN_API exn_status exn_hired_budget_workspace_size(const exn_hired_budget_params* params,
                                                   size_t* bytes);
EXN_API exn_status exn_hired_budget(const exn_hired_budget_params* params, void* workspace,
                                    size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
