/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ssm_step: what is no product in a step of a Mamba block (Gu & Dao 2023, and the step of its code),
 * for any number of tokens. The states stay in f32.
 *
 *   EXN_SSM_CONV  the last N inputs of each channel, in conv[s, d, :]: they move down by one, x comes
 *                 last, and
 *                   out_d = SiLU(sum_k conv[s, d, k] weight[d, k] + bias_d)
 *   EXN_SSM_SCAN  dt_d = softplus(dt_d + bias_d), ln(1 + e^v), and of h = state[s, d, :]
 *                   h_i <- h_i exp(dt_d weight[d, i]) + dt_d b_i x_d
 *                   out_d = (sum_i h_i c_i + skip_d x_d) SiLU(z_d)
 *                 with weight = A = -exp(A_log), which whoever loads a model makes once. Left out,
 *                 skip is 0, and without z there is no gate.
 *
 * SiLU(v) = v / (1 + e^-v). The projections around are `linear` (or `gate`, for a block that ends in
 * an exit's probability), from whatever storage their weights have:
 *
 *   (x, z) = W_in h;  x <- CONV;  (dt_r, b, c) = W_x x;  dt = W_dt dt_r;  y = SCAN;  h + W_out y
 *
 * dt, b, c and z may be columns of what linear wrote. Row r is a token of sequence[r], whose state
 * is state[sequence[r]]; several rows of one sequence are its tokens, in ascending order: so a
 * prompt is a call, too. An inactive row changes no state, and its row of `out` is 0, so that it
 * passes a block with a residual connection unchanged (DYNAMAX's skipped layers); nothing of it is
 * read but its sequence, which must be one all the same. SCAN without `out` moves states on and
 * nothing else.
 *
 * Arithmetic is f32. e^v is within 5e-7 + 2e-8 |v| (relative) for v <= 0, twice that above, and 0
 * below -88; sums run over N terms. A NaN or an infinity in a channel gives what the formula gives,
 * in that channel and, in b or c, in that row.
 *
 * A sequence outside 0..S-1 is EXN_INVALID_ARGUMENT on the CPU, nothing written; on CUDA, where the
 * host cannot look, such a row is inactive. Deterministic; capture-safe.
 *
 * Bytes that must move: 8 * Di * N for each sequence that has an active row, 4 * Di * N for the
 * weight, 4 * Di for bias and for skip, and the elements of the rows.
 */
#ifndef EXEUNT_SSM_STEP_H
#define EXEUNT_SSM_STEP_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EXN_SSM_CONV = 0, EXN_SSM_SCAN = 1 };

/** Most values of a channel's state. */
#define EXN_SSM_MOST_STATES 256

typedef struct exn_ssm_step_params {
  uint64_t struct_size;     /**< sizeof(exn_ssm_step_params) */
  const DLTensor* x;        /**< in, [R,Di], f32 | f16 | bf16, last stride 1; R may be 0,
                                 Di >= 1. The inputs of the channels. */
  const DLTensor* state;    /**< in-out, [S,Di,N], f32, compact; S >= 1, N in
                                 1..EXN_SSM_MOST_STATES (Mamba: 4 for CONV, 16 for SCAN). What
                                 each sequence remembers: the last inputs, or h. */
  const DLTensor* weight;   /**< in, [Di,N], f32, compact. The convolution's weight, or A of the
                                 scan. */
  const DLTensor* bias;     /**< in, optional, [Di], f32, compact. The convolution's bias, or
                                 that of dt. */
  const DLTensor* dt;       /**< in, SCAN: [R,Di], f32 | f16 | bf16, last stride 1. The step of
                                 each channel, before softplus; scan only. */
  const DLTensor* b;        /**< in, SCAN: [R,N], f32 | f16 | bf16, last stride 1. How the input
                                 enters the state; scan only. */
  const DLTensor* c;        /**< in, SCAN: [R,N], f32 | f16 | bf16, last stride 1. How the state
                                 is read; scan only. */
  const DLTensor* skip;     /**< in, optional, SCAN: [Di], f32, compact. What passes the state
                                 by, D of Mamba; scan only. */
  const DLTensor* z;        /**< in, optional, SCAN: [R,Di], f32 | f16 | bf16, last stride 1. The
                                 gate; scan only. */
  const DLTensor* sequence; /**< in, optional, [R], i32, compact; NULL: all rows belong to
                                 sequence 0. The sequence of each row. */
  const DLTensor* active;   /**< in, optional, [R], u8, compact; NULL: all rows are active. Which
                                 rows take part. */
  const DLTensor* out;      /**< out, [R,Di], f32 | f16 | bf16, last stride 1; SCAN: optional;
                                 may be exactly `x`. The result. */
  int32_t stage;            /**< EXN_SSM_CONV or EXN_SSM_SCAN. Which half of the step: the
                                 convolution or the scan. */
  int32_t reserved;         /**< 0 */
} exn_ssm_step_params;

EXN_API exn_status exn_ssm_step_supported(const exn_ssm_step_params* params);
EXN_API exn_status exn_ssm_step_workspace_size(const exn_ssm_step_params* params, size_t* bytes);
EXN_API exn_status exn_ssm_step(const exn_ssm_step_params* params, void* workspace,
                                size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
