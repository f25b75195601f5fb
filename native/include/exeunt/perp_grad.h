/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perp_grad: removes from a gradient its part along the weights (perpGrad, OrthoGrad), per tensor.
 *
 *   g_perp = g - (w.g) / (w.w + 1e-30) w
 *   EXN_PERP_CODE   out = g_perp |g| / (|g_perp| + 1e-30)   as the official code: norm restored
 *   EXN_PERP_PAPER  out = g_perp
 *
 * Prieto et al. 2025 and its code. Guard that the code lacks: when |g_perp| <= u |g|, with u the
 * unit roundoff of the storage dtype (8 of them for f64, where the sums round no finer), the
 * gradient cannot be told from a multiple of the weights, and out is 0 (the code scales that
 * rounding noise to full norm). w = 0 gives out = g; g = 0 gives 0. Dot products are f64 for f64
 * storage and at least f32 with fixed-order partial sums otherwise. A NaN or infinity in w or g, or
 * f64 whose squares add up to one, gives NaN everywhere.
 *
 * Bytes that must move: w and g read twice (dots, then projection) and out written once. They are
 * read up to twice more where f32 sums do not do: f64 storage, and gradients close to the weights.
 */
#ifndef EXEUNT_PERP_GRAD_H
#define EXEUNT_PERP_GRAD_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EXN_PERP_CODE = 0, EXN_PERP_PAPER = 1 };

typedef struct exn_perp_grad_params {
  uint64_t struct_size;   /**< sizeof(exn_perp_grad_params) */
  const DLTensor* weight; /**< in, any rank, compact, f64 | f32 | f16 | bf16; may be empty. The
                               weights. */
  const DLTensor* grad;   /**< in, shape and dtype of weight, compact. The gradient. */
  const DLTensor* out;    /**< out, shape and dtype of weight, compact; may be exactly `grad` (in
                               place). The result. */
  int32_t form;           /**< EXN_PERP_CODE or EXN_PERP_PAPER. Which of the two forms. */
  int32_t reserved;       /**< 0 */
} exn_perp_grad_params;

EXN_API exn_status exn_perp_grad_supported(const exn_perp_grad_params* params);
EXN_API exn_status exn_perp_grad_workspace_size(const exn_perp_grad_params* params, size_t* bytes);
EXN_API exn_status exn_perp_grad(const exn_perp_grad_params* params, void* workspace,
                                 size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
