/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate: small learned exit heads, features [R,D] -> probability [R].
 *
 *   y = f                                           the features
 *   EXN_GATE_LINEAR    y as it is                   CALM's meta classifier, JEI-DNN
 *   EXN_GATE_RESIDUAL  y <- y + SiLU(H y + h),      SpecDec++, whose blocks share weights:
 *                      `repeats` times              one H and h for all
 *   EXN_GATE_TANH      y <- tanh(H_i y + h_i),      PALBERT, whose n counts the output layer too
 *                      i = 0 .. repeats-1
 *   o = W y + c,  O = 1 or 2 rows
 *   prob = sigmoid(o) for O = 1, softmax(o)[1] for O = 2
 *
 * Everything after loading is f32. A NaN in a row gives NaN for that row. Quantised weights
 * (blocks.h) meet a y that is rounded as linear.h says, whose bound holds for each product; an
 * infinity in such a y gives NaN, too. A scale that is NaN gives NaN, an infinite one any prob.
 *
 * Bytes that must move: weights once for each block of up to 64 rows, features once, 4 * R written.
 */
#ifndef EXEUNT_GATE_H
#define EXEUNT_GATE_H

#include <exeunt/blocks.h>
#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EXN_GATE_LINEAR = 0, EXN_GATE_RESIDUAL = 1, EXN_GATE_TANH = 2 };

typedef struct exn_gate_params {
  uint64_t struct_size;          /**< sizeof(exn_gate_params) */
  const DLTensor* features;      /**< in, [R,D], f32 | f16 | bf16, last stride 1; R may be 0,
                                      1 <= D. The features. */
  const DLTensor* hidden_weight; /**< in, RESIDUAL: [D,D]; TANH: [repeats,D,D]; compact, f32 | f16 |
                                      bf16, or blocks in place of the D columns (u8, hidden_blocks);
                                      LINEAR: NULL. The weights of the hidden layers, H. */
  const DLTensor* hidden_bias;   /**< in, optional, RESIDUAL: [D]; TANH: [repeats,D]; compact, f32.
                                      The biases of the hidden layers, h. */
  const DLTensor* out_weight;    /**< in, [O,D], O = 1 or 2, compact, f32 | f16 | bf16, or blocks
                                      (u8, out_blocks). The output layer's weight, W: one row for a
                                      sigmoid, two for a softmax. */
  const DLTensor* out_bias;      /**< in, optional, [O], compact, f32. The output layer's bias,
                                      c. */
  const DLTensor* prob;          /**< out, [R], compact, f32. The probabilities. */
  int32_t kind;                  /**< EXN_GATE_LINEAR, EXN_GATE_RESIDUAL or EXN_GATE_TANH. What lies
                                      between the features and the output layer. */
  int32_t repeats;               /**< 0..64; ignored for LINEAR; 0 leaves the hidden part out. How
                                      many hidden layers there are. */
  int32_t hidden_blocks;         /**< EXN_BLOCKS_*. What blocks the rows of hidden_weight are made
                                      of. */
  int32_t out_blocks;            /**< EXN_BLOCKS_*. What blocks the rows of out_weight are made
                                      of. */
} exn_gate_params;

EXN_API exn_status exn_gate_supported(const exn_gate_params* params);
EXN_API exn_status exn_gate_workspace_size(const exn_gate_params* params, size_t* bytes);
EXN_API exn_status exn_gate(const exn_gate_params* params, void* workspace, size_t workspace_bytes,
                            exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
