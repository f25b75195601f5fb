/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stop_rule: decides, on the device, which of S samples go on after each has drawn a token, and
 * which of those that ended is the answer; carries what that takes from step to step.
 *
 * One call per step. `state` remembers for each row whether it has ended; such a row takes no
 * further part, and its inputs are not looked at. Of a row that runs:
 *
 *   token y >= 0   counts it; adds log p(y), which is `log_p`, or logits[y] / temperature - lse (as
 *                  row_stats finds lse), and the certainty -mean_log_p - ln V = KL(U||p), each where
 *                  it is given. y < 0: the row drew none, nothing is counted or added
 *   it ends        by the first of these that holds:
 *     EXN_STOP_TOKEN      y is one of stop_ids
 *     EXN_STOP_CONFIDENT  confidence >= confident_at (ConCISE: what a probe's answer is given; the
 *                         authors published no threshold)
 *     EXN_STOP_ABSTAINED  confidence < abstain_below
 *     EXN_STOP_BUDGET     it counts `budget` tokens or more
 *
 * The confidence is given, or the probability of answer_ids, such as the words by which a probe's
 * answer says that it is sure: sum exp(logits[e] / temperature - lse) in f32, in their order. It may
 * differ by 1e-6 of itself for each id from device to device. One that is NaN is no evidence. A row
 * that ended by its token or its confidence is complete. `scope` says what that means to the others:
 *   EXN_STOP_EACH   nothing
 *   EXN_STOP_FIRST  once a row is complete all others end, EXN_STOP_CANCELLED (First Finish Search)
 *
 * The winner, -1 as long as there is none, is by `choice`, ties to the lower row:
 *   EXN_CHOOSE_FIRST       of the rows that were complete first
 *   EXN_CHOOSE_PERPLEXITY  of the rows that ended, but for those that abstained or were cancelled,
 *                          the one with the largest mean log p(y): the lowest perplexity
 *                          exp(-mean) (CNTP, whose trials end at stop_ids of punctuation)
 *   EXN_CHOOSE_CERTAINTY   of the same, the one with the largest mean certainty (self-certainty)
 * A score that is NaN loses to every number. A winner may change while rows run.
 *
 * `trials` are the branches that CNTP opens where a distribution of entropy H is to be drawn from
 * next, f32 in this order: share = (H - trials_low) / (trials_high - trials_low), clipped to
 * 0..1; trials = floor(1 + (most_trials - 1) share); 1 if H is NaN, 0 for a row that has ended.
 *
 * Arithmetic is f32, each operation rounded, so but for that sum all devices have the same bits. A
 * sum is a pair: s and the rest that its additions rounded off, exact as long as s is finite (Knuth's
 * two-sum); its mean is (s + rest) / tokens.
 *
 * A call behind the end of all rows (S >= 1) is refused on the CPU, as is a token of V and more, or a
 * stop id or answer id outside 0..V-1: EXN_INVALID_ARGUMENT, nothing written. A device, which the
 * host does not wait for, repeats its outputs, takes such a token for none, and knows no such id.
 *
 * Deterministic, capture-safe, one block on CUDA; a decision never visits the host.
 * Bytes that must move: about 80 per row, 4 per stop id.
 */
#ifndef EXEUNT_STOP_RULE_H
#define EXEUNT_STOP_RULE_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Why a row ended. */
enum {
  EXN_STOP_RUNNING = 0,
  EXN_STOP_TOKEN = 1,
  EXN_STOP_CONFIDENT = 2,
  EXN_STOP_ABSTAINED = 3,
  EXN_STOP_BUDGET = 4,
  EXN_STOP_CANCELLED = 5
};

/** What a complete row means to the others. */
enum { EXN_STOP_EACH = 0, EXN_STOP_FIRST = 1 };

/** Which row wins. */
enum { EXN_CHOOSE_FIRST = 0, EXN_CHOOSE_PERPLEXITY = 1, EXN_CHOOSE_CERTAINTY = 2 };

/**
 * 32-bit words of state per row. Word 0: why it ended, in its low 8 bits; bit 8: it was complete
 * first. Word 1: its tokens. Words 2 and 3, 4 and 5: the sums of log p and of certainties, f32.
 */
#define EXN_STOP_STATE_WORDS 6

typedef struct exn_stop_rule_params {
  uint64_t struct_size;         /**< sizeof(exn_stop_rule_params) */
  const DLTensor* token;        /**< in, [S], i32, compact; < 0: nothing; S may be 0. What each
                                     row has drawn. */
  const DLTensor* stop_ids;     /**< in, optional, [K], i32, compact, entries in 0..V-1. Which
                                     tokens end a row. */
  const DLTensor* log_p;        /**< in, optional, [S], f32, compact: log p of `token`. What the
                                     drawn tokens are given, as a sampler knows it. */
  const DLTensor* logits;       /**< in, optional, [S,V], f32 | f16 | bf16, last stride 1; instead
                                     of log_p. The logits that the tokens were drawn from, which the
                                     rule takes log p from. */
  const DLTensor* lse;          /**< in, [S], f32, compact; needed with logits. The log-sum-exp of
                                     each row of logits, at the temperature; `lse` of exn_stats
                                     fits. */
  const DLTensor* mean_log_p;   /**< in, optional, [S], f32, compact: of the token's
                                     distribution. How certain the drawn tokens' distributions
                                     are; `mean_log_p` of exn_stats fits. */
  const DLTensor* confidence;   /**< in, optional, [S], f32, compact. How sure each row's answer is,
                                     as a probe finds it. */
  const DLTensor* answer_ids;   /**< in, optional, [A], i32, compact; instead of confidence, with
                                     logits. The tokens whose probability together is the
                                     confidence. */
  const DLTensor* entropy;      /**< in, [S], f32, compact: if trials are asked for. The
                                     entropies that `trials` go by; `entropy` of exn_stats fits. */
  const DLTensor* state;        /**< in-out, [S, EXN_STOP_STATE_WORDS], i32, compact. The rule's
                                     memory. */
  const DLTensor* finished;     /**< out, optional, [S], u8, compact: 1 = the row has ended, now
                                     or before. Which rows have ended, in this run or before. */
  const DLTensor* reason;       /**< out, optional, [S], i32, compact: EXN_STOP_*. Why rows
                                     ended. */
  const DLTensor* score;        /**< out, optional, [S], f32, compact: the mean certainty
                                     (CERTAINTY), else the mean log p; NaN of no tokens. What the
                                     choice compares. */
  const DLTensor* trials;       /**< out, optional, [S], i32, compact. How many branches the next
                                     token wants. */
  const DLTensor* active_list;  /**< out, optional, [S], i32, compact: ascending rows that go on;
                                     entries past active_count are -1. Which rows go on. */
  const DLTensor* active_count; /**< out, optional, [1], i32. How many rows go on. */
  const DLTensor* winner;       /**< out, optional, [1], i32: its number, or -1. Which row wins. */
  int32_t vocabulary;           /**< V >= 1. How many tokens there are. */
  int32_t scope;                /**< EXN_STOP_EACH or EXN_STOP_FIRST. What a row that is complete
                                     means to the others. */
  int32_t choice;               /**< EXN_CHOOSE_*; PERPLEXITY needs log_p or logits, CERTAINTY
                                     mean_log_p. Which row wins. */
  int32_t budget;               /**< >= 0; 0: no limit. The most tokens of a row. */
  float temperature;            /**< > 0 and finite, if logits are given. What the logits were
                                     divided by when the tokens were drawn. */
  float confident_at;           /**< 0..1, if confidence or answer_ids are given; 0: no row ends by
                                     it. From which confidence on a row ends with its answer. */
  float abstain_below;          /**< 0..1, if confidence or answer_ids are given; not above
                                     confident_at, unless that is 0. Below which confidence a row
                                     ends without an answer. */
  float trials_low;             /**< >= 0 and finite, if trials are asked for (CNTP: 0.01). Up to
                                     which entropy one branch is wanted. */
  float trials_high;            /**< finite, above trials_low (CNTP: 1.5). From which entropy on
                                     most_trials branches are wanted. */
  int32_t most_trials;          /**< 1 .. 2^20, if trials are asked for (CNTP: 10). The most
                                     branches that a token may want. */
  int32_t first;                /**< 1: forget the old state first: all rows run, without tokens.
                                     What a plain run does; a run may say so itself. */
  int32_t reserved;             /**< 0 */
} exn_stop_rule_params;

EXN_API exn_status exn_stop_rule_supported(const exn_stop_rule_params* params);
EXN_API exn_status exn_stop_rule_workspace_size(const exn_stop_rule_params* params, size_t* bytes);
EXN_API exn_status exn_stop_rule(const exn_stop_rule_params* params, void* workspace,
                                 size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
