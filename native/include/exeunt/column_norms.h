/* SPDX-License-Identifier: Apache-2.0 */
/*
 * column_norms: norms of columns, of rows that come in batches: Wanda's and Antidote's weights of the
 * inputs of a layer, which prune_mask takes as its norm.
 *
 *   sums[j]  <- (accumulate ? sums[j] : 0) + sum over r of x[r,j]^2    rows with active[r] = 0 left out
 *   norms[j] =  sqrt(scale) * sqrt(sums[j])
 *
 * With scale = 1 / n the norm is the root of the mean over n: Wanda and Antidote take the number of
 * sequences for n, which the order within a matrix of weights does not show.
 *
 * What x holds in rows that are left out does not matter; a NaN elsewhere makes the sum of its column
 * NaN, an infinity, or a square beyond f32, makes it infinite. Other columns do not notice.
 *
 * Arithmetic is f32: what a call of R rows adds is, relative, within (136 + R / 4096) 2^-24 and within
 * (R + 1) 2^-24, but for squares below the normal numbers, R 2^-149 together; each call rounds the
 * sums once more. A norm is within 2^-22 of the root of its sum. Deterministic; capture-safe.
 *
 * Bytes that must move: R * D read, R of active, 4 * D of sums written, and read to accumulate, 4 * D
 * of norms.
 */
#ifndef EXEUNT_COLUMN_NORMS_H
#define EXEUNT_COLUMN_NORMS_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct exn_column_norms_params {
  uint64_t struct_size;   /**< sizeof(exn_column_norms_params) */
  const DLTensor* x;      /**< in, [R,D], f32 | f16 | bf16, row stride free, at least D; R and D
                               may be 0. The rows, such as the inputs of a layer for the tokens
                               of a batch. */
  const DLTensor* active; /**< in, optional, [R], u8, compact: 0 = the row is left out. Which
                               rows, such as those that are no padding. */
  const DLTensor* sums;   /**< in-out, [D], f32, compact. Sums of squares. */
  const DLTensor* norms;  /**< out, optional, [D], f32, compact. The roots of the sums. */
  float scale;            /**< > 0 and finite. What the sums are multiplied by under the root. */
  int32_t accumulate;     /**< 0: sums begin at 0, whatever they hold; 1: at what they hold.
                               Whether sums go on from what they hold. */
} exn_column_norms_params;

EXN_API exn_status exn_column_norms_supported(const exn_column_norms_params* params);
EXN_API exn_status exn_column_norms_workspace_size(const exn_column_norms_params* params,
                                                   size_t* bytes);
EXN_API exn_status exn_column_norms(const exn_column_norms_params* params, void* workspace,
                                    size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
