/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pruning of weights: a mask of the ones that count least, and zeros where it says so.
 *
 * prune_mask   score(i,j) = |weight[i,j]|                magnitude (lottery tickets, gradual pruning)
 *                         | |weight[i,j] * norm[j]|      Wanda and Antidote, where norm is given
 *
 *   The elements of a scope (each row, each tensor, or all tensors of the call) stand in one order:
 *   by score, equal ones by tensor and by place in their tensor, row by row. Of n elements
 *
 *     EXN_PRUNE_SMALLEST   the first k are pruned
 *     EXN_PRUNE_LARGEST    the last k are pruned: Antidote's harmful weights
 *
 *   and mask[i,j] is 0 where weight[i,j] is pruned, else 1. (Antidote's own mask is 1 where this one
 *   is 0.) Unless `first`, an element whose mask is 0 already stays pruned and counts for k: with
 *   ratios that grow from call to call, pruning is iterative. If there are more than k of those,
 *   no other is pruned. k is computed in f64:
 *
 *     EXN_PRUNE_DOWN       floor(ratio n), as Wanda's code does; of LARGEST n - floor((1 - ratio) n),
 *                          as Antidote's does
 *     EXN_PRUNE_NEAREST    ratio n to the nearest, half to even, as PyTorch's pruning does
 *
 *   Scores are f32: of f16 and bf16 exact, a product with norm rounded once. A NaN (also of infinity
 *   times 0) ranks above infinity, equal to others: pruned last, of LARGEST first. norm is the root
 *   of the mean of an input column's squares (column_norms.h); Antidote's divides by the number of
 *   sequences, which the order within a tensor does not show.
 *
 *   Cost does not grow with k: up to three counts of digits of the scores, as in a radix sort, then
 *   one pass that writes; on the CPU mostly one pass in all, since a sample, or the row before, tells
 *   about where the cut is. Masks are exact: the same on every device, instruction set and number of
 *   threads. Bytes that must move: each weight read once, a byte of mask written (unless `first`,
 *   read as well).
 *
 * prune_apply  weight, grad, momentum and variance become 0 where mask is 0, whatever they held: a
 *   NaN or an infinity too. Elsewhere they keep their bits. Bytes that must move: for each element
 *   1, and twice that of each tensor.
 */
#ifndef EXEUNT_PRUNE_H
#define EXEUNT_PRUNE_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EXN_PRUNE_MAX_TENSORS = 32 };
enum { EXN_PRUNE_ROW = 0, EXN_PRUNE_TENSOR = 1, EXN_PRUNE_GLOBAL = 2 };
enum { EXN_PRUNE_SMALLEST = 0, EXN_PRUNE_LARGEST = 1 };
enum { EXN_PRUNE_DOWN = 0, EXN_PRUNE_NEAREST = 1 };

typedef struct exn_prune_mask_tensor {
  const DLTensor* weight; /**< in, [rows,cols], f32 | f16 | bf16, row stride free; a filter's
                               weights are a row. The weights that are ranked. */
  const DLTensor* norm;   /**< in, optional, [cols], f32, compact. The norms of the input columns,
                               for Wanda's score. */
  const DLTensor* mask;   /**< in-out, [rows,cols], u8, row stride free: 0 pruned, else kept. Which
                               weights are kept. */
} exn_prune_mask_tensor;

typedef struct exn_prune_mask_params {
  uint64_t struct_size;                 /**< sizeof(exn_prune_mask_params) */
  const exn_prune_mask_tensor* tensors; /**< in, host memory, tensor_count of them. The tensors to
                                             prune, with their masks. */
  double ratio;                         /**< 0..1, the share of the elements that is pruned when
                                             the call is over. How many are pruned. */
  int32_t tensor_count;                 /**< 1 .. EXN_PRUNE_MAX_TENSORS. How many tensors there
                                             are. */
  int32_t scope;                        /**< EXN_PRUNE_ROW, _TENSOR or _GLOBAL; at most 2^31 - 1
                                             elements. Among which elements. */
  int32_t which;                        /**< EXN_PRUNE_SMALLEST or EXN_PRUNE_LARGEST. Which end
                                             of the order is pruned. */
  int32_t rounding;                     /**< EXN_PRUNE_DOWN or EXN_PRUNE_NEAREST. How k is
                                             rounded. */
  int32_t first;                        /**< 1: what the masks hold is not looked at. Starts anew,
                                             where else weights that were pruned before stay so. */
  int32_t reserved;                     /**< 0 */
} exn_prune_mask_params;

EXN_API exn_status exn_prune_mask_supported(const exn_prune_mask_params* params);
EXN_API exn_status exn_prune_mask_workspace_size(const exn_prune_mask_params* params,
                                                 size_t* bytes);
EXN_API exn_status exn_prune_mask(const exn_prune_mask_params* params, void* workspace,
                                  size_t workspace_bytes, exn_stream stream);

typedef struct exn_prune_apply_tensor {
  const DLTensor* mask;     /**< in, [rows,cols], u8, row stride free: 0 pruned, else kept. Which
                                 elements are kept. */
  const DLTensor* weight;   /**< in-out, optional, [rows,cols], f64 | f32 | f16 | bf16, row stride
                                 free. The weights. */
  const DLTensor* grad;     /**< in-out, optional, as weight, its dtype free. The gradients of the
                                 weights. */
  const DLTensor* momentum; /**< in-out, optional, as grad. The optimiser's first moment, as AdamW
                                 keeps it. */
  const DLTensor* variance; /**< in-out, optional, as grad. The optimiser's second moment, as AdamW
                                 keeps it. */
} exn_prune_apply_tensor;

typedef struct exn_prune_apply_params {
  uint64_t struct_size;                  /**< sizeof(exn_prune_apply_params) */
  const exn_prune_apply_tensor* tensors; /**< in, host memory, tensor_count of them. The masks, and
                                              what they are applied to. */
  int32_t tensor_count;                  /**< 1 .. EXN_PRUNE_MAX_TENSORS. How many masks there
                                              are. */
  int32_t reserved;                      /**< 0 */
} exn_prune_apply_params;

EXN_API exn_status exn_prune_apply_supported(const exn_prune_apply_params* params);
EXN_API exn_status exn_prune_apply_workspace_size(const exn_prune_apply_params* params,
                                                  size_t* bytes);
EXN_API exn_status exn_prune_apply(const exn_prune_apply_params* params, void* workspace,
                                   size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
