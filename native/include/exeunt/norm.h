/* SPDX-License-Identifier: Apache-2.0 */
/*
 * norm: RMSNorm (Zhang & Sennrich 2019) or LayerNorm (Ba et al. 2016) of each row.
 *
 *   EXN_NORM_RMS    y = x / sqrt(mean x^2 + eps) * weight
 *   EXN_NORM_LAYER  y = (x - mean x) / sqrt(var x + eps) * weight + bias
 *   EXN_NORM_NONE   y = x (a copy, or a change of dtype)
 *
 * Sums and products are f32. A row with a NaN or an infinity gives what the formula gives.
 *
 * Bytes that must move: R * D * (sizeof(input element) + sizeof(out element)), and 4 * D for weight
 * and for bias.
 */
#ifndef EXEUNT_NORM_H
#define EXEUNT_NORM_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EXN_NORM_NONE = 0, EXN_NORM_RMS = 1, EXN_NORM_LAYER = 2 };

typedef struct exn_norm_params {
  uint64_t struct_size;   /**< sizeof(exn_norm_params) */
  const DLTensor* input;  /**< in, [R,D], f32 | f16 | bf16, last stride 1; R may be 0, D >= 1.
                               The rows. */
  const DLTensor* weight; /**< in, [D], f32, compact; needed unless norm is EXN_NORM_NONE. A factor
                               of each column. */
  const DLTensor* bias;   /**< in, optional, [D], f32, compact; EXN_NORM_LAYER only. What is added
                               to each column. */
  const DLTensor* out;    /**< out, [R,D], f32 | f16 | bf16, last stride 1; may be exactly
                               `input`. The normed rows. */
  int32_t norm;           /**< EXN_NORM_NONE, EXN_NORM_RMS or EXN_NORM_LAYER. Which norm. */
  float eps;              /**< >= 0 and finite. What is added under the root, against a division by
                               0. */
} exn_norm_params;

EXN_API exn_status exn_norm_supported(const exn_norm_params* params);
EXN_API exn_status exn_norm_workspace_size(const exn_norm_params* params, size_t* bytes);
EXN_API exn_status exn_norm(const exn_norm_params* params, void* workspace, size_t workspace_bytes,
                            exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
