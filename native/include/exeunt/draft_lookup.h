/* SPDX-License-Identifier: Apache-2.0 */
/*
 * draft_lookup: prompt lookup, drafts without a model: what followed the last few tokens of a text
 * where they stood before (Saxena 2023, prompt-lookup-decoding). For each sequence s its text
 * t_0 .. t_(L-1), L = length[s], is row s of `context`.
 *
 *   First, where `append` is given, row s of it goes behind the text, and length[s] grows: its first
 *   append_count[s] tokens (A without that), up to the first id below 0. So what verify wrote to
 *   `out` (and `out_count`) is all that a round has to hand on.
 *
 *   m(j) = how many tokens before t_j are the last ones of the text, for 1 <= j < L: the largest
 *          m <= min(j, max_ngram) with t_(j-i) = t_(L-i) for all 1 <= i <= m
 *   J    = of all j with m(j) >= min_ngram those with the largest m(j), and of them the latest
 *
 *   The draft is t_J, t_(J+1), ..., and where the text runs out it goes on with itself:
 *   x_i = t_(J + i mod (L - J)), 0 <= i < n. It has n = min(K, limit[s], T - 1 - L) tokens, for as
 *   many and the one behind them come out of a round and are to find room; it ends before an id below
 *   0. Without a J, n = 0.
 *
 *   drafted[s,:]  x_0 .. x_(n-1), then -1
 *   draft_length  n
 *   matched       m(J), but counted up to most_matched in place of max_ngram; 0 without a J. The
 *                 longer, the likelier the draft is right
 *
 * Of a sequence that is not active, context and length stay, drafted is -1, draft_length and matched
 * are 0. Nothing at and behind length[s] is read. Ids are compared as they are.
 *
 * What an active sequence must not have: a length outside 0..T, an append_count outside 0..A, tokens
 * to append beyond T, a limit below 0. EXN_INVALID_ARGUMENT on the CPU with nothing written. On CUDA,
 * where a run cannot read them on the host, nothing is appended, drafted is -1, matched 0 and
 * draft_length -1, of which verify makes EXN_VERIFY_INVALID.
 *
 * With a context of one slot more than the target's cache has, no draft is longer than verify takes.
 *
 * Exact, deterministic and capture-safe; one launch on CUDA. Bytes that must move: 4 per token of the
 * text, or of its end from a match of max_ngram tokens on; 8 per token appended, 8 per token drafted,
 * about 24 per sequence.
 */
#ifndef EXEUNT_DRAFT_LOOKUP_H
#define EXEUNT_DRAFT_LOOKUP_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Most tokens that are compared: of max_ngram and most_matched. */
enum { EXN_LOOKUP_MOST = 64 };

typedef struct exn_draft_lookup_params {
  uint64_t struct_size;         /**< sizeof(exn_draft_lookup_params) */
  const DLTensor* context;      /**< in-out, [S,T], i32, last stride 1; S and T may be 0,
                                     T < 2^31. The texts, prompts and answers. */
  const DLTensor* length;       /**< in-out, [S], i32, compact, 0 .. T. How many tokens each text
                                     has. */
  const DLTensor* append;       /**< in, optional, [S,A], i32, compact; an id below 0 ends a row
                                     before it; A may be 0, A < 2^31. Tokens that go after the
                                     texts first, such as what a `verify` has written. */
  const DLTensor* append_count; /**< in, optional, [S], i32, compact, 0 .. A; with append; NULL:
                                     A each. How many of them. */
  const DLTensor* active;       /**< in, optional, [S], u8, compact; 0: the sequence has
                                     finished; NULL: none has. Which sequences take part. */
  const DLTensor* limit;        /**< in, optional, [S], i32, compact, entries >= 0; NULL: K each.
                                     The most tokens of each draft. */
  const DLTensor* drafted;      /**< out, [S,K], i32, compact; K may be 0, K < 2^31. The drafts,
                                     filled up with -1. */
  const DLTensor* draft_length; /**< out, [S], i32, compact. How many tokens each draft has. */
  const DLTensor* matched;      /**< out, optional, [S], i32, compact. How many tokens before
                                     each draft's place are the last ones of the text: the more,
                                     the likelier the draft is right. */
  int32_t min_ngram;            /**< 1 .. max_ngram. The fewest tokens that must match for a
                                     draft. */
  int32_t max_ngram;            /**< 1 .. EXN_LOOKUP_MOST. The most tokens that are compared to
                                     choose a place. */
  int32_t most_matched;         /**< max_ngram .. EXN_LOOKUP_MOST; 0: max_ngram. How far
                                     `matched` counts. */
  int32_t reserved;             /**< 0 */
} exn_draft_lookup_params;

EXN_API exn_status exn_draft_lookup_supported(const exn_draft_lookup_params* params);
EXN_API exn_status exn_draft_lookup_workspace_size(const exn_draft_lookup_params* params,
                                                   size_t* bytes);
EXN_API exn_status exn_draft_lookup(const exn_draft_lookup_params* params, void* workspace,
                                    size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
