/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ffn_skip_rule: decides, on the device, which rows skip the next feed-forward block (FFN-SkipLLM;
 * a reconstruction from its text, the authors published no code). Called once before layer 0 (layer
 * = -1) and once after the feed-forward block of every layer but the last, it writes the mask of
 * layer + 1:
 *
 *   layer = -1: the row's state is forgotten (a new token)
 *   layer >= 0, inside [cold_start, cold_end), cosine[r] >= threshold < 1: the row begins to skip
 *   skip[r] = 1 iff the row skips, layer + 1 is inside [cold_start, cold_end), its token index is
 *             >= warm_up, and it has skipped fewer than `budget` blocks of this token (budget -1:
 *             no limit)
 *
 * A threshold of 1 or more lets no row begin: a cosine that rounds to 1 proves nothing. Nor does one
 * of a skipped block, a NaN: a row that skips goes on to cold_end or to its budget. threshold,
 * cold_start, cold_end and warm_up have no known good values: calibrate them per model.
 *
 * Deterministic, capture-safe, a decision never visits the host. Bytes that must move: about 21 per
 * row.
 */
#ifndef EXEUNT_FFN_SKIP_RULE_H
#define EXEUNT_FFN_SKIP_RULE_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/** 32-bit words of state per row: word 0 is 1 while it skips, word 1 counts this token's skips. */
#define EXN_FFN_SKIP_STATE_WORDS 2

typedef struct exn_ffn_skip_rule_params {
  uint64_t struct_size;   /**< sizeof(exn_ffn_skip_rule_params) */
  const DLTensor* cosine; /**< in, [R], f32, compact: of `layer`, as exn_ffn gives it; R may be
                               0; not needed if layer = -1. The cosines of the block that has
                               just run, as `cosine` of `ffn` gives them. */
  const DLTensor* token;  /**< in, optional, [R], i32, compact; NULL: token_index. Each row's
                               token index, for the warm-up. */
  const DLTensor* state;  /**< in-out, [R, EXN_FFN_SKIP_STATE_WORDS], i32, compact. The rule's
                               memory. */
  const DLTensor* skip;   /**< out, [R], u8, compact: 1 for a row that skips. The mask of the
                               next layer. */
  int32_t layer;          /**< -1 .. L-2. The layer whose block has just run; -1 before the
                               first. */
  int32_t model_layers;   /**< L >= 1. How many layers the model has. */
  int32_t cold_start;     /**< 0 .. L. The first layer that may be skipped. */
  int32_t cold_end;       /**< cold_start .. L. The first layer after those that may be skipped. */
  int32_t warm_up;        /**< >= 0. Tokens that run in full. */
  int32_t token_index;    /**< >= 0. The token index of all rows, where `token` is left out. */
  int32_t budget;         /**< most blocks a token may skip, or -1. Most blocks that a token may
                               skip. */
  float threshold;        /**< not NaN; from 1 on nothing is skipped. From which cosine on a row
                               begins to skip. */
} exn_ffn_skip_rule_params;

EXN_API exn_status exn_ffn_skip_rule_supported(const exn_ffn_skip_rule_params* params);
EXN_API exn_status exn_ffn_skip_rule_workspace_size(const exn_ffn_skip_rule_params* params,
                                                    size_t* bytes);
EXN_API exn_status exn_ffn_skip_rule(const exn_ffn_skip_rule_params* params, void* workspace,
                                     size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
