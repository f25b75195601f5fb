/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cosine: similarity of the rows of two matrices, out_r = <a_r, b_r> / (|a_r| |b_r|).
 *
 * CALM's state saturation (an exit's state with that of the exit before; a token's first exit has
 * none, and CALM never leaves there) and FFN-SkipLLM's block similarity; per row, unlike CALM's
 * code, which takes norms over the whole batch. A row of zeros on either side gives 0; a NaN or
 * infinity gives NaN. Results are clamped to [-1, 1]. Sums are f32.
 *
 * Bytes that must move: 2 * R * D * sizeof(element) read, 4 * R written.
 */
#ifndef EXEUNT_COSINE_H
#define EXEUNT_COSINE_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct exn_cosine_params {
  uint64_t struct_size; /**< sizeof(exn_cosine_params) */
  const DLTensor* a;    /**< in, [R,D], f32 | f16 | bf16, last stride 1; R may be 0, D >= 1.
                             First matrix. */
  const DLTensor* b;    /**< in, [R,D], dtype of a, last stride 1; may be `a`. Second matrix. */
  const DLTensor* out;  /**< out, [R], f32, compact. The similarities. */
} exn_cosine_params;

EXN_API exn_status exn_cosine_supported(const exn_cosine_params* params);
EXN_API exn_status exn_cosine_workspace_size(const exn_cosine_params* params, size_t* bytes);
EXN_API exn_status exn_cosine(const exn_cosine_params* params, void* workspace,
                              size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
