/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer_schedule: which layers each sequence position runs, tabulated once on the host. Copy the
 * table to a device and a captured decode step can look its layers up by position.
 *
 *   layers[t, 0 .. count[t]-1]   the layers position t runs, in the order of running; -1 beyond
 *   exit_test[t, l]              1 if position t asks its exit rule after layer l
 *   threshold[t]                 the exit threshold at position t
 *
 *   EXN_SCHEDULE_SKIPDECODE  layers 0 .. warm_up-1 and the top E(t) - warm_up. E(t) is `most` up to
 *                            t = prompt, falls linearly to `least` at `horizon` and stays there,
 *                            rounded to the nearest integer, halves away from zero. E never grows
 *                            and the layers hang from the top, so every K and V that a later
 *                            position needs is there. (SkipDecode; a reconstruction, its authors
 *                            published no code.)
 *   EXN_SCHEDULE_CALM        all layers; exit_test at first_exit, first_exit + interval, ... below
 *                            L - 1 and not before min_exit; threshold decayed over t - prompt as in
 *                            exit_rule.h (decay, tau; T = horizon)
 *   EXN_SCHEDULE_FIXED       the given ordered subset `order` at every position (SkipPipe)
 *   EXN_SCHEDULE_UNIFIED     `least` layers, evenly spaced, first and last included: layer i is
 *                            round(i (L-1) / (least-1)); least = 1 keeps the last layer (Unified
 *                            Layer Skipping)
 *
 * Positions 0 .. prompt-1 run every layer under UNIFIED too (they are prefill); FIXED holds for all
 * positions. CPU tensors only. Bytes that must move: the table's.
 */
#ifndef EXEUNT_LAYER_SCHEDULE_H
#define EXEUNT_LAYER_SCHEDULE_H

#include <exeunt/exit_rule.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  EXN_SCHEDULE_SKIPDECODE = 0,
  EXN_SCHEDULE_CALM = 1,
  EXN_SCHEDULE_FIXED = 2,
  EXN_SCHEDULE_UNIFIED = 3
};

typedef struct exn_layer_schedule_params {
  uint64_t struct_size;      /**< sizeof(exn_layer_schedule_params) */
  const DLTensor* order;     /**< in, FIXED: [K], i32, compact, 1 <= K <= L, distinct entries in
                                  0..L-1. The layers that every position runs, in this order. */
  const DLTensor* layers;    /**< out, [T,L], i32, compact; 1 <= L <= 2^20. The layers that each
                                  position runs, then -1. */
  const DLTensor* count;     /**< out, [T], i32, compact. How many layers each position runs. */
  const DLTensor* exit_test; /**< out, optional, [T,L], u8, compact. Whether a position asks its
                                  exit rule after a layer: 1 or 0. */
  const DLTensor* threshold; /**< out, optional, [T], f32, compact; CALM only. The exit threshold at
                                  each position. */
  int32_t kind;              /**< EXN_SCHEDULE_*. By which method the table is made. */
  int32_t prompt;            /**< >= 0. How many positions the prompt has. */
  int32_t horizon;           /**< SKIPDECODE: > prompt; CALM: > 0. The position at which the decay
                                  ends, or CALM's T, which it is scaled to. */
  int32_t most;              /**< SKIPDECODE: least .. L. How many layers the last position of the
                                  prompt runs. */
  int32_t least;             /**< SKIPDECODE: >= max(1, warm_up); UNIFIED: 1 .. L. How many layers
                                  run where the decay has ended, or at every position of UNIFIED. */
  int32_t warm_up;           /**< SKIPDECODE: 0 .. least. How many layers at the bottom always
                                  run. */
  int32_t first_exit;        /**< CALM: >= 0. The first layer after which a position may leave. */
  int32_t min_exit;          /**< CALM: >= 0. The layer before which no position leaves. */
  int32_t interval;          /**< CALM: >= 1. The distance of exits, in layers. */
  int32_t decay;             /**< CALM: EXN_DECAY_* of exit_rule.h. How the threshold changes with
                                  the position. */
  float start_threshold;     /**< CALM: finite. The threshold that the decay starts from. */
  float tau;                 /**< CALM: >= 0 and finite. How fast the threshold decays. */
} exn_layer_schedule_params;

EXN_API exn_status exn_layer_schedule_supported(const exn_layer_schedule_params* params);
EXN_API exn_status exn_layer_schedule_workspace_size(const exn_layer_schedule_params* params,
                                                     size_t* bytes);
EXN_API exn_status exn_layer_schedule(const exn_layer_schedule_params* params, void* workspace,
                                      size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
