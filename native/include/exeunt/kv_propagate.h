/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv_propagate: the keys and values that rows which left early still owe the layers above, in one
 * launch.
 *
 * A row that ran the layers 0 .. e-1 and left with hidden state h owes K and V to every layer j >=
 * e. For each listed layer j and each row r with 0 <= exit_layer[r] <= j:
 *
 *   x = norm_j(h),  K = RoPE(Wk_j x + bk_j, position[r]),  V = Wv_j x + bv_j
 *   cache_j[sequence[r], slot[j, r]] = K, V
 *
 * and nothing else: no query, softmax, output projection or feed-forward block (CALM's and FREE's
 * state propagation; t5x passes the state of the first exit instead, against its own comment: we
 * follow the comment). Rows with exit_layer -1 have not left and are untouched, as are a row that
 * ran all L layers (exit_layer L: it owes nothing) and one whose slot is -1. The other
 * ids of a row that owes a layer nothing may be anything.
 *
 * Products are accumulated in f32; the result of a row does not depend on the others. When hidden
 * and weights are both bf16 (or both f16), x is rounded to that type before the products, as in
 * exit_head; otherwise x stays f32. Where they are bf16, the CPU may sum the exact products in
 * pairs (VDPBF16PS): each addition rounds to nearest, and subnormal bf16 elements, products and
 * sums count as 0. Quantised weights (blocks.h) meet an f32 x that is rounded as linear.h says,
 * whose bound holds for each product.
 *
 * Rows that write one slot of a layer, be it through a page that their sequences share, and ids out
 * of range: as for kv_append (kv_cache.h). A position outside the table: EXN_INVALID_ARGUMENT on the
 * CPU; on CUDA the row is switched off. An exit_layer outside -1..L: EXN_INVALID_ARGUMENT on the
 * CPU; on CUDA the row is switched off.
 *
 * Bytes that must move: sizeof Wk_j and Wv_j of each listed layer that some row owes, once for each
 * block of up to 64 rows; per owed (layer, row) 2 * Hkv * dh elements written. On CUDA one launch
 * serves all layers and up to 256 rows. Where layers are few it cuts D into parts, whose products
 * meet in the workspace: there the last bits depend on how many layers a call lists.
 */
#ifndef EXEUNT_KV_PROPAGATE_H
#define EXEUNT_KV_PROPAGATE_H

#include <exeunt/blocks.h>
#include <exeunt/kv_cache.h>
#include <exeunt/norm.h>
#include <exeunt/rope.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A layer that rows may owe. All layers share dtypes, D, Hkv, dh and the cache's layout and S;
 * formats of blocks may differ.
 */
typedef struct exn_kv_layer {
  const DLTensor* norm_weight; /**< in, [D], f32, compact; needed unless norm is EXN_NORM_NONE. The
                                    norm's weight, a factor of each column. */
  const DLTensor* norm_bias;   /**< in, optional, [D], f32, compact; EXN_NORM_LAYER only. The norm's
                                    bias, added to each column. */
  const DLTensor* k_weight;    /**< in, [Hkv*dh,D], f32 | f16 | bf16, or blocks (u8, k_blocks), last
                                    stride 1. The projection to the keys, Wk. */
  const DLTensor* k_bias;      /**< in, optional, [Hkv*dh], f32, compact. The bias of the keys. */
  const DLTensor* v_weight;    /**< in, [Hkv*dh,D], as k_weight, or blocks if it is. The projection
                                    to the values, Wv. */
  const DLTensor* v_bias;      /**< in, optional, [Hkv*dh], f32, compact. The bias of the values. */
  exn_kv_cache cache;          /**< in-out. The layer's cache, which the keys and values are written
                                    to. */
  int32_t index;               /**< 0..L-1; ascending in the list. The layer's number in the model,
                                    j. */
  int32_t k_blocks;            /**< EXN_BLOCKS_*; the weights of all layers have blocks, or none.
                                    What blocks the rows of k_weight are made of. */
  int32_t v_blocks;            /**< EXN_BLOCKS_*. What blocks the rows of v_weight are made of. */
} exn_kv_layer;

#define EXN_KV_PROPAGATE_MAX_LAYERS 128

typedef struct exn_kv_propagate_params {
  uint64_t struct_size;       /**< sizeof(exn_kv_propagate_params) */
  const DLTensor* hidden;     /**< in, [R,D], f32 | f16 | bf16, last stride 1; R may be 0,
                                   D >= 1. The states that rows left with. */
  const DLTensor* exit_layer; /**< in, [R], i32, compact, entries in 0..L; -1: it has not left.
                                   How many layers each row ran. A rule whose exit_layer records
                                   the last layer that ran is one behind: run it with `layer +
                                   1`. */
  const DLTensor* sequence;   /**< in, optional, [R], i32, compact; NULL: all rows belong to
                                   sequence 0. The sequence of each row. */
  const DLTensor* slot;       /**< in, [J,R] or [R] (the same in every layer), i32, compact; -1:
                                   off. The slot of each row in each listed layer. */
  const DLTensor* position;   /**< in, [R], i32, compact; needed with rope_table. The position that
                                   RoPE turns each row's keys by. */
  const DLTensor* rope_table; /**< in, optional, [T, n/2, 2], f32, compact, as in rope.h; NULL: no
                                   RoPE. The cosines and sines of RoPE. */
  const exn_kv_layer* layers; /**< in, J entries in host memory. The layers that rows may owe keys
                                   and values. */
  int32_t layer_count;        /**< J, 1 .. EXN_KV_PROPAGATE_MAX_LAYERS. How many layers are
                                   listed. */
  int32_t model_layers;       /**< L >= 1. How many layers the model has. */
  int32_t rope_style;         /**< EXN_ROPE_INTERLEAVED or EXN_ROPE_HALF. Which elements of a head
                                   RoPE turns together. */
  int32_t norm;               /**< EXN_NORM_NONE, EXN_NORM_RMS or EXN_NORM_LAYER. The norm before
                                   the projections. */
  float norm_eps;             /**< >= 0 and finite. What the norm adds under the root, against a
                                   division by 0. */
  int32_t reserved;           /**< 0 */
} exn_kv_propagate_params;

EXN_API exn_status exn_kv_propagate_supported(const exn_kv_propagate_params* params);
EXN_API exn_status exn_kv_propagate_workspace_size(const exn_kv_propagate_params* params,
                                                   size_t* bytes);
EXN_API exn_status exn_kv_propagate(const exn_kv_propagate_params* params, void* workspace,
                                    size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
