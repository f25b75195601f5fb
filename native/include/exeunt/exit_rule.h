/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exit_rule: decides, on the device, which rows leave after a layer; carries the rules' state from
 * layer to layer.
 *
 * One call per exit point. `state` remembers for each row whether it has left already; such a row
 * takes no further part. Verdict of an active row with score c (and label y):
 *
 *   EXN_RULE_THRESHOLD  leave when c <comparator> theta, where at token step t `decay` makes theta
 *                         EXN_DECAY_NONE        threshold
 *                         EXN_DECAY_CALM_CODE   9/10 threshold + 1/10 threshold exp(-tau t / T)
 *                                               (t5x, FREE)
 *                         EXN_DECAY_CALM_PAPER  clip(9/10 threshold + 1/10 exp(-tau t / T), 0, 1)
 *   EXN_RULE_PATIENCE   count +1 if the label equals the previous layer's, else 0; leave when the
 *                       count reaches `patience` (0: never). Without labels |c - previous c| <
 *                       threshold takes the place of equality (PABEE, and its form for regression)
 *   EXN_RULE_QUANTILE   lambda = c; leave when 1 - prod (1 - lambda_j) > threshold (PALBERT, which
 *                       takes .5; its code runs all layers for 0, here 0 leaves at once)
 *   EXN_RULE_JEI        g = c, p = max(0, min(g, 1 - sum of earlier g)),
 *                       a = clip(p / prod (1 - earlier a), 0, 1); leave when a >= threshold
 *                       (JEI-DNN, which takes .5)
 *   EXN_RULE_SPECDEC    c is the acceptance probability of the token drafted before; the first call
 *                       ignores it and counts it as 1. C <- C c; stop when 1 - C > threshold, never
 *                       before `min_steps` calls, always at `max_steps` (SpecDec++; `max_steps` 0:
 *                       no upper bound)
 *
 * A row with a NaN score, or an invalid one (valid = 0), takes no part in a call: its verdict is to
 * stay, and its state stays as well, so that the call counts neither for PATIENCE nor for SPECDEC.
 * Then, over the active rows, `scope`:
 *   EXN_SCOPE_EACH  each row follows its own verdict
 *   EXN_SCOPE_ALL   all leave if every active row's verdict says so, else none (CALM's minimum)
 *   EXN_SCOPE_LAST  all follow the last row R-1 (EE-LLM); if that row has left before, none leaves
 * and with `force` every active row leaves (the last layer).
 *
 * Arithmetic is f32 in the order written above, products of (1 - x) taken left to right.
 * The float64 formulas of the papers may differ within a band of 1e-6 relative around the
 * threshold.
 *
 * Deterministic, capture-safe, one block on CUDA; a decision never visits the host.
 * Bytes that must move: about 40 per row.
 */
#ifndef EXEUNT_EXIT_RULE_H
#define EXEUNT_EXIT_RULE_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  EXN_RULE_THRESHOLD = 0,
  EXN_RULE_PATIENCE = 1,
  EXN_RULE_QUANTILE = 2,
  EXN_RULE_JEI = 3,
  EXN_RULE_SPECDEC = 4
};

/** Comparators of EXN_RULE_THRESHOLD: score <comparator> threshold. */
enum { EXN_COMPARE_GE = 0, EXN_COMPARE_GT = 1, EXN_COMPARE_LE = 2 };

enum { EXN_DECAY_NONE = 0, EXN_DECAY_CALM_CODE = 1, EXN_DECAY_CALM_PAPER = 2 };

enum { EXN_SCOPE_EACH = 0, EXN_SCOPE_ALL = 1, EXN_SCOPE_LAST = 2 };

/** 32-bit words of state per row. Bit 0 of word 3: the row has left. The rest is the rule's own. */
#define EXN_EXIT_STATE_WORDS 4

typedef struct exn_exit_rule_params {
  uint64_t struct_size;         /**< sizeof(exn_exit_rule_params) */
  const DLTensor* score;        /**< in, [R], f32, compact; PATIENCE with labels: optional; R may
                                     be 0. The scores. */
  const DLTensor* label;        /**< in, optional, [R], i32, compact; PATIENCE. The predictions
                                     that patience compares. */
  const DLTensor* valid;        /**< in, optional, [R], u8, compact; 0 = the row may only leave
                                     by `force`. Which rows' scores can be believed; `valid` of
                                     exn_stats fits. */
  const DLTensor* step;         /**< in, optional, [R], i32, compact; NULL: `step_index`. Each
                                     row's token step, for the decay. */
  const DLTensor* state;        /**< in-out, [R, EXN_EXIT_STATE_WORDS], i32, compact. The rule's
                                     memory. */
  const DLTensor* exit_mask;    /**< out, optional, [R], u8, compact: 1 = the row leaves in this
                                     call. Which rows leave in this run. */
  const DLTensor* active_list;  /**< out, optional, [R], i32, compact: ascending rows that stay;
                                     entries past active_count are -1. Which rows stay. */
  const DLTensor* active_count; /**< out, optional, [1], i32. How many rows stay. */
  const DLTensor* exit_layer;   /**< in-out, optional, [R], i32, compact: set to `layer` for rows
                                     that leave; -1 for all others if `first`. After which layer
                                     each row left. */
  int32_t rule;                 /**< EXN_RULE_*. By which rule a row leaves. */
  int32_t comparator;           /**< EXN_COMPARE_*, THRESHOLD only. How a score and the threshold
                                     are compared. */
  int32_t decay;                /**< EXN_DECAY_*, THRESHOLD only. How the threshold changes with the
                                     token step. */
  int32_t scope;                /**< EXN_SCOPE_*. Which active rows follow which verdict. */
  float threshold;              /**< not NaN; finite if decay is not NONE. What a score, or what the
                                     rule makes of several, is compared with. */
  float decay_tau;              /**< tau, >= 0 and finite (CALM: 4). How fast the threshold
                                     decays. */
  float decay_horizon;          /**< T, > 0 and finite if decay is not NONE. The number of token
                                     steps that the decay is scaled to. */
  int32_t step_index;           /**< >= 0. The token step of all rows, where `step` is left out. */
  int32_t patience;             /**< >= 0. How many times in a row a label must equal that of the
                                     layer before, for its row to leave; 0: it never does. */
  int32_t min_steps;            /**< SPECDEC, >= 0. The calls before which SpecDec++ never stops. */
  int32_t max_steps;            /**< SPECDEC, 0 or >= min_steps. The call at which SpecDec++ stops
                                     in any case; 0: none. */
  int32_t layer;                /**< any value. The layer that has just run, which exit_layer
                                     records for rows that leave. */
  int32_t first;                /**< 1: all rows are active again. Forgets the old state first, for
                                     a new token. */
  int32_t force;                /**< 1: every active row leaves. Lets all rows leave, after the last
                                     layer. */
} exn_exit_rule_params;

EXN_API exn_status exn_exit_rule_supported(const exn_exit_rule_params* params);
EXN_API exn_status exn_exit_rule_workspace_size(const exn_exit_rule_params* params, size_t* bytes);
EXN_API exn_status exn_exit_rule(const exn_exit_rule_params* params, void* workspace,
                                 size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
