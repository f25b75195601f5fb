/* SPDX-License-Identifier: Apache-2.0 */
/*
 * draft_rule: decides, on the device, when each sequence of a batch stops drafting, and learns from
 * every verification which layer should draft (DEL).
 *
 * EXN_DRAFT_STEP runs after each drafted token; `first` begins a draft. In each sequence that still
 * drafts, the token becomes number t = 1, 2, ... of the draft. The sequence stops, the token
 * included, when t = max_steps, when the token is one of stop_tokens, or, from t = min_steps on:
 *
 *   EXN_DRAFT_FIXED       for no other reason
 *   EXN_DRAFT_CONFIDENCE  when score < threshold; score is the probability of the drafted token
 *   EXN_DRAFT_SPECDEC     when 1 - C > threshold, where C <- C score starts at 1; score is the
 *                         acceptance probability (gate.h) of the token drafted before, so that of
 *                         t = 1 is not looked at and counts as 1. Paper and code: .3, bounds 2, 20
 *   EXN_DRAFT_DEL         when score < tau = (Sm / M + Sx / X) / 2 of the candidate that drafts;
 *                         score is the probability of the drafted token. Without a match or a
 *                         mismatch so far tau is NaN, which stops nobody. A sequence that was never
 *                         updated drafts 1 token. DEL's code: max_steps 18, min_steps 0
 *
 * A NaN score stops nobody and leaves C as it is. Unlike in exit_rule.h its token counts all the
 * same: it is in the draft.
 *
 * EXN_DRAFT_UPDATE runs once after each verification, for DEL. Candidate k, of K, leaves the model
 * after candidate[k] layers (k + 1 without that tensor, as in DEL's code, whose K is L - 1). Its
 * statistics are M matches and X mismatches with the final layer, and the sums Sm and Sx of its
 * probabilities at each. Column j of a sequence is one of the rows that the whole model has just
 * run. shadow_token and shadow_prob are the token that candidate k would have given there, and its
 * probability: one exit_head over the hidden states that were kept behind each candidate, as rows
 * [S, K, N], gives both (argmax and p1).
 *
 *   columns behind the first one, from `context` on, where the candidate that drafted disagrees
 *     with final_token are dropped, unless d = 0: their context was not the final text
 *   M <- omega M + matches, X <- omega X + mismatches, Sm and Sx alike
 *   alpha_k = M / (M + X)
 *   TPL(k, d) = (1 + alpha_k + ... + alpha_k^d) / (L + d layers_k), d = 0 .. max_steps - 1: the
 *     tokens that a draft of d gives for each layer that is run. Its sum is s <- 1 + alpha s
 *   the plan becomes the (k, d) of the largest TPL; of equals the smaller k, then the smaller d
 *
 * A shadow whose probability is NaN or whose token is negative, as of rows that exit_head calls
 * invalid, is neither match nor mismatch, and so is any where final_token is negative; where the
 * drafter has one, the columns end, too. A candidate whose alpha is not within 0..1, for instance
 * for want of columns or for a NaN in its statistics, is not chosen; without any other the plan
 * stays. A sequence with 0 columns takes no part: its statistics and plan stay.
 *
 * EXN_FORM_CODE, DEL's published code, lets tau alone end a draft; the plan's d decides nothing but
 * the dropping above. EXN_FORM_PAPER bounds the draft by d, too: a sequence with d = 0 does not
 * draft, and its state says so from the first step on. An update says who drafts next.
 *
 * EXN_DRAFT_RESET forgets the statistics and the plan of those sequences where `mask` is not 0 (all
 * without it): statistics 0, candidate 0, d = 1, never updated.
 *
 * Arithmetic is f32 in the order written; decisions may differ from those of the float64 formulas
 * within a band of 1e-6 relative around a threshold, and between TPLs as close as that. A plan, a
 * candidate, `columns` or `context` out of range is EXN_INVALID_ARGUMENT on the CPU, with nothing
 * written; on CUDA that sequence does not draft (length -1), or its statistics and plan stay, and a
 * candidate out of range is not chosen.
 *
 * Deterministic, capture-safe, a decision never visits the host. Bytes that must move: about 30 per
 * sequence and step; of an update 8 for each shadow and 32 for each candidate of a sequence.
 */
#ifndef EXEUNT_DRAFT_RULE_H
#define EXEUNT_DRAFT_RULE_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EXN_DRAFT_STEP = 0, EXN_DRAFT_UPDATE = 1, EXN_DRAFT_RESET = 2 };

enum { EXN_DRAFT_FIXED = 0, EXN_DRAFT_CONFIDENCE = 1, EXN_DRAFT_SPECDEC = 2, EXN_DRAFT_DEL = 3 };

enum { EXN_FORM_CODE = 0, EXN_FORM_PAPER = 1 };

/** 32-bit words of state per sequence: the bits of C; t; 1 once the sequence has stopped. */
#define EXN_DRAFT_STATE_WORDS 3

/** 32-bit words of a sequence's plan: candidate; layers it runs; d; updates so far. */
#define EXN_DRAFT_PLAN_WORDS 4

typedef struct exn_draft_rule_params {
  uint64_t struct_size;         /**< sizeof(exn_draft_rule_params) */
  const DLTensor* score;        /**< in, STEP: [S], f32, compact; FIXED: optional; S may be 0.
                                     What the rule compares. */
  const DLTensor* token;        /**< in, optional, STEP: [S], i32, compact. The token that each
                                     sequence has just drafted, which may be a stop token. */
  const DLTensor* stop_tokens;  /**< in, optional, STEP: [E], i32, compact; with token only. The
                                     tokens after which a draft ends. */
  const DLTensor* shadow_token; /**< in, UPDATE: [S,K,N], i32, compact. The token that each
                                     candidate would have given in each column. */
  const DLTensor* shadow_prob;  /**< in, UPDATE: [S,K,N], f32, compact. The probability that each
                                     candidate gives to that token. */
  const DLTensor* final_token;  /**< in, UPDATE: [S,N], i32, compact: the final layer's. What the
                                     final layer says of each column. */
  const DLTensor* columns;      /**< in, optional, UPDATE: [S], i32, compact: 0..N; NULL: N. How
                                     many columns each sequence has; one with 0 takes no part. */
  const DLTensor* context;      /**< in, optional, UPDATE: [S], i32, compact: 0..columns, leading
                                     columns of the prompt, in the first update (DEL's code: the
                                     last 32); NULL: 0. How many leading columns are of the
                                     prompt, in the first update; the drafter's mistakes drop
                                     nothing there. */
  const DLTensor* candidate;    /**< in, optional, UPDATE, RESET: [K], i32, compact, 1..L-1:
                                     layers that each candidate runs; NULL: 1, 2, ...,
                                     K <= L - 1. How many layers each candidate runs. */
  const DLTensor* mask;         /**< in, optional, RESET: [S], u8, compact; NULL: all. Which
                                     sequences a reset forgets. */
  const DLTensor* state;        /**< in-out, STEP: [S, EXN_DRAFT_STATE_WORDS], i32, compact. The
                                     memory of the drafts. */
  const DLTensor* statistics;   /**< in-out, UPDATE, RESET; STEP with DEL only reads it: [S,K,4],
                                     f32, compact, 1 <= K <= 2^20: M, X, Sm, Sx. What DEL knows
                                     of the candidates. */
  const DLTensor* plan;         /**< in-out, UPDATE, RESET; STEP with DEL only reads it: [S,
                                     EXN_DRAFT_PLAN_WORDS], i32, compact. Which candidate drafts,
                                     and what is known of its length. */
  const DLTensor* length;       /**< out, optional, STEP: [S], i32, compact. How many tokens each
                                     draft has. */
  const DLTensor* drafting;     /**< out, optional, STEP, UPDATE: [S], u8, compact: 1 = the
                                     sequence drafts a token next. Which sequences draft next. */
  const DLTensor* active_list;  /**< out, optional, STEP, UPDATE: [S], i32, compact: ascending
                                     sequences that draft next; entries past active_count are -1.
                                     Which sequences draft next, as a list. */
  const DLTensor* active_count; /**< out, optional, STEP, UPDATE: [1], i32. How many sequences
                                     draft next. */
  int32_t action;               /**< EXN_DRAFT_STEP, EXN_DRAFT_UPDATE or EXN_DRAFT_RESET. Whether
                                     drafts take a step, a verification is learnt from, or what was
                                     learnt is forgotten. */
  int32_t rule;                 /**< STEP: EXN_DRAFT_FIXED .. EXN_DRAFT_DEL. Which rule ends a
                                     draft. */
  int32_t form;                 /**< EXN_FORM_*: STEP with DEL, UPDATE. Whether DEL's threshold
                                     alone bounds a draft, as in its code, or its plan as well, as
                                     in the paper. */
  int32_t first;                /**< 1: a STEP begins a draft and forgets the old state. What a
                                     plain run does; a run may say so itself. */
  int32_t min_steps;            /**< STEP, but FIXED: 0 .. max_steps. How many tokens a draft has
                                     before the rule may end it. */
  int32_t max_steps;            /**< STEP, UPDATE: 1 .. 65536. The most tokens of a draft. */
  int32_t model_layers;         /**< UPDATE, RESET: L, 2 .. 2^20. How many layers the whole model
                                     has; for an update and a reset. */
  float threshold;              /**< CONFIDENCE, SPECDEC: not NaN. Below which probability, or above
                                     which risk of a rejection, a draft ends. */
  float omega;                  /**< UPDATE: 0..1 (DEL's code: .95). How much of the statistics
                                     an update keeps. */
  int32_t reserved;             /**< 0 */
} exn_draft_rule_params;

EXN_API exn_status exn_draft_rule_supported(const exn_draft_rule_params* params);
EXN_API exn_status exn_draft_rule_workspace_size(const exn_draft_rule_params* params,
                                                 size_t* bytes);
EXN_API exn_status exn_draft_rule(const exn_draft_rule_params* params, void* workspace,
                                  size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
