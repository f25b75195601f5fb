/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token_bias: changes the logits of a few tokens where they lie, before row_stats or a draw:
 *
 *   z_e <- scale z_e + add   for each listed e, in f32, each operation rounded, then to the dtype of
 *                            the logits, to nearest even
 *
 * All others stay as they are. TLDR divides the logit of one token, that which ends the thinking, by
 * a temperature T: scale = 1 / T. What that does to a negative logit has the other sign, so most
 * will want add, which multiplies the token's odds by e^add whatever its logit is; -inf forbids it.
 * A logit of -inf stays so, NaN stays NaN.
 *
 * An id outside 0..V-1, or one that is listed twice, is refused on the CPU: EXN_INVALID_ARGUMENT,
 * nothing written. A device ignores such an id, and changes one that is listed twice once.
 *
 * Deterministic, capture-safe. Bytes that must move: 2 sizeof(element) per row and id, 4 per id.
 */
#ifndef EXEUNT_TOKEN_BIAS_H
#define EXEUNT_TOKEN_BIAS_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct exn_token_bias_params {
  uint64_t struct_size;   /**< sizeof(exn_token_bias_params) */
  const DLTensor* logits; /**< in-out, [R,V], f32 | f16 | bf16, last stride 1; V >= 1, V < 2^31;
                               R may be 0. The logits. */
  const DLTensor* ids;    /**< in, [K], i32, compact, entries in 0..V-1, none twice; K may be 0.
                               Which tokens. */
  const DLTensor* mask;   /**< in, optional, [R], u8, compact: 0 = the row stays as it is. Which
                               rows, such as those that still think. */
  float scale;            /**< > 0 and finite; 1 leaves the logits alone. What the logits are
                               multiplied by. */
  float add;              /**< finite, or -inf; 0 leaves the logits alone. What is added to the
                               logits. */
} exn_token_bias_params;

EXN_API exn_status exn_token_bias_supported(const exn_token_bias_params* params);
EXN_API exn_status exn_token_bias_workspace_size(const exn_token_bias_params* params,
                                                 size_t* bytes);
EXN_API exn_status exn_token_bias(const exn_token_bias_params* params, void* workspace,
                                  size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
