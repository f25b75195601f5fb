/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify: how much of a draft the target model keeps, decided on the device: the tokens of a round
 * of speculative decoding, and the counters that the next round begins with.
 *
 * A round of sequence s: the target was fed the newest token, then the n drafted tokens
 * x_1 .. x_n (n = draft_length[s] or K; a negative id in `drafted` ends the draft before it). Row
 * s * (K + 1) + i of argmax or logits scores what follows the first i of them, 0 <= i <= n. Rows and
 * entries beyond n may hold anything.
 *
 *   Greedy (`argmax`, as exit_head and row_stats give it). a = how many drafted tokens equal the
 *   argmax of their row, up to the first that does not; behind them comes the argmax of row a.
 *
 *   Sampled (`logits`). p = softmax(logits / temperature) of row i, q = what x_(i+1) was drawn from:
 *   softmax(draft / draft_temperature), the probabilities in `draft`, or, without `draft`, 1 at
 *   x_(i+1) (a draft that was not drawn, such as a prompt lookup's or an argmax). x_(i+1) is kept
 *   if uniform[s,i] < min(1, p(x) / q(x)), computed as u q(x) < p(x). Behind a kept ones comes, if
 *   a < n, a token drawn from the residual r = max(0, p - q) / sum max(0, p - q) of row a, else one
 *   drawn from p of row n: the smallest id whose share, added to those of all smaller ids, is more
 *   than uniform[s,K] of the sum. So uniforms i < n are read up to the first rejection, and the last
 *   one; they are from 0 to 1, and independent of each other and of the draft.
 *
 *   This keeps the target's distribution. Row by row, given the tokens before, with y the token
 *   that comes out:
 *     P(y) = q(y) min(1, p(y) / q(y)) + (1 - sum min(p, q)) r(y)
 *          = min(p(y), q(y)) + max(0, p(y) - q(y)) = p(y),
 *   since x is rejected with 1 - sum min(p, q) = sum max(0, p - q), which r divides by. Where
 *   nothing is drafted, y is drawn from p itself.
 *
 * The tokens that come out, c of them, are the a kept ones and the one behind them; if one is in
 * `stop`, the first such is the last, and c counts it. From it all else follows:
 *   out[s,:]   they, then -1; out_count = c
 *   accepted   how many of them were drafted: c or c - 1
 *   token      out[s,c-1], the newest one, which the target is fed next
 *   last_row   s * (K + 1) + c - 1, the row that scored it, for gather of hidden states
 *   length     grows by c: slots of the cache that stay. It counts those before the newest token
 *              was fed, so it is what EXN_KV_CROP takes for `limit` where the counters of layers
 *              went ahead (LayerSkip's crop: prompt + generated - 1)
 *   position   grows by c: of the newest token
 *   outcome    EXN_VERIFY_GOES_ON, or why not
 *   active     0 unless outcome is EXN_VERIFY_GOES_ON
 *
 * A row that is needed is invalid if its argmax is negative, if its logits or its draft's are as
 * row_stats.h says (a NaN, a +inf, nothing but -inf), if a probability that is needed (of the
 * drafted token; behind a rejection, of each id) is NaN, negative or infinite, or if its uniform is
 * NaN or not in 0..1. What was kept before it comes out, and nothing behind: EXN_VERIFY_INVALID,
 * where c may be 0. With c = 0, and of a sequence that is not active, token, length and position
 * stay, out is -1, last_row -1, the counts 0.
 *
 * What an active sequence must not have: a draft_length outside 0..K, length or position below 0,
 * length + n + 1 above the capacity, position + n + 1 above 2^31 - 1, a drafted or stop id beyond
 * the vocabulary, a stop id below 0. EXN_INVALID_ARGUMENT on the CPU with nothing written. On CUDA,
 * where a run cannot read them on the host, such an id is never equal to a token and has p = 0, and
 * for all else the outcome is EXN_VERIFY_INVALID with c = 0.
 *
 * Arithmetic is f32: exp to 1e-6, sums within 1e-6 relative. u q(x) and p(x), and the shares of
 * ids, so differ from those of double precision by 4e-6 of p(x) and q(x), and of the sum. An id with
 * no share is never drawn. Where rounding leaves nothing of the residual (p and q equal, and x
 * rejected), p takes its place: that happens with a probability of 1e-6 at most. A uniform of 24
 * bits, as others make them, cannot tell shares apart that are smaller than 2^-24.
 *
 * Deterministic and capture-safe; on CUDA the greedy form is one launch, the other one four or five.
 * Bytes that must move: greedy, about 12 per drafted token and 40 per sequence. Sampled, moreover V
 * elements of logits for each row up to the first rejection, a + 1 of them, and of draft, if given,
 * a + 1 rows of logits, or one of probabilities behind a rejection. (CUDA reads the rows of whole
 * drafts, all at once.)
 */
#ifndef EXEUNT_VERIFY_H
#define EXEUNT_VERIFY_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What `draft` holds. */
enum { EXN_DRAFT_LOGITS = 0, EXN_DRAFT_PROBABILITIES = 1 };

/** How a round ended for a sequence. */
enum {
  EXN_VERIFY_OFF = 0,     /**< it was not active */
  EXN_VERIFY_GOES_ON = 1, /**< it takes part in the next round */
  EXN_VERIFY_STOPPED = 2, /**< its newest token is in `stop` */
  EXN_VERIFY_FULL = 3,    /**< length is the capacity: the newest token cannot be fed */
  EXN_VERIFY_INVALID = 4  /**< a row or a count that cannot be used */
};

typedef struct exn_verify_params {
  uint64_t struct_size;         /**< sizeof(exn_verify_params) */
  const DLTensor* drafted;      /**< in, [S,K], i32, compact; S and K may be 0; a negative id
                                     ends a draft before it. The drafted tokens. */
  const DLTensor* draft_length; /**< in, optional, [S], i32, compact, 0 .. K; NULL: K each. How
                                     many tokens each sequence was drafted. */
  const DLTensor* active;       /**< in-out, optional, [S], u8, compact; 0: the sequence has
                                     finished; NULL: none has. Which sequences take part; those
                                     that end in this round are set to 0. */
  const DLTensor* argmax;       /**< in, [S*(K+1)], i32, compact; this or logits. The target's
                                     best token of each row, for greedy decoding; `argmax` of
                                     exn_stats fits. */
  const DLTensor* logits;       /**< in, [S*(K+1),V], f32 | f16 | bf16, last stride 1; 1 <= V <
                                     2^31. What the target gives for each row, for sampled
                                     decoding. */
  const DLTensor* draft;        /**< in, optional, [S*K,V], f32 | f16 | bf16, last stride 1; with
                                     logits. The logits or probabilities that the drafted tokens
                                     were drawn from. */
  const DLTensor* uniform;      /**< in, [S,K+1], f32, compact; with logits, else NULL.
                                     Independent random numbers from 0 to 1, new ones for each
                                     round; with logits only. */
  const DLTensor* stop;         /**< in, optional, [N], i32, compact, entries 0 .. V - 1. The
                                     tokens after which a sequence ends. */
  const DLTensor* accepted;     /**< out, [S], i32, compact. How many of the tokens that come out
                                     were drafted. */
  const DLTensor* token;        /**< in-out, [S], i32, compact; that of a sequence with no new
                                     token stays. The newest token of each sequence, which the
                                     target is fed next. */
  const DLTensor* out;          /**< out, optional, [S,K+1], i32, compact. The tokens that come
                                     out, then -1. */
  const DLTensor* out_count;    /**< out, optional, [S], i32, compact. How many tokens come out. */
  const DLTensor* last_row;     /**< out, optional, [S], i32, compact. The row that scored the
                                     newest token, for a `gather` of hidden states; -1 where none
                                     did. */
  const DLTensor* outcome;      /**< out, optional, [S], i32, compact: EXN_VERIFY_*. How the
                                     round ended, in numbers. */
  const DLTensor* length;       /**< in-out, optional, [S], i32, compact, entries >= 0: before
                                     the newest token was fed, and after the crop. Slots of the
                                     cache that each sequence has, the newest token's not among
                                     them. */
  const DLTensor* position;     /**< in-out, optional, [S], i32, compact, entries >= 0. Where the
                                     newest token stands, which is what `rope` turns it by. */
  int64_t capacity;             /**< K + 1 .. 2^31 - 1; 0: no bound. How many slots a sequence
                                     may have; only with `length`. */
  int64_t vocabulary;           /**< V; 0: that of logits, or unknown. 0 .. 2^31 - 1. How many
                                     tokens there are, for those who give no logits and want ids
                                     to be checked. */
  float temperature;            /**< > 0 and finite; not read with argmax. What the target's logits
                                     are divided by. */
  float draft_temperature;      /**< > 0 and finite with EXN_DRAFT_LOGITS. What the draft's logits
                                     were divided by when the tokens were drawn. */
  int32_t draft_kind;           /**< EXN_DRAFT_LOGITS or EXN_DRAFT_PROBABILITIES. What `draft`
                                     holds. */
  int32_t reserved;             /**< 0 */
} exn_verify_params;

EXN_API exn_status exn_verify_supported(const exn_verify_params* params);
EXN_API exn_status exn_verify_workspace_size(const exn_verify_params* params, size_t* bytes);
EXN_API exn_status exn_verify(const exn_verify_params* params, void* workspace,
                              size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
