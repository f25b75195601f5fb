// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.exn_draft_lookup_params;
import org.exeunt.jni.global.exeunt;

/**
 * Prompt lookup, drafts without a model: what followed the last few tokens of a text where they
 * stood before, decided on the device. Text s are the first {@code length[s]} tokens of row s of the
 * context.
 *
 * <p>First, where {@link Builder#append} is given, its row s goes behind the text, up to the first
 * id below 0, and {@code length[s]} grows: what {@link Verify} wrote to {@code out} is all that a
 * round has to hand on.
 *
 * <p>Then the longest run of tokens is looked for that are the last ones of the text and stood
 * before: of at least and at most so many as {@link Builder#ngram} says; of several as long the
 * latest. The draft is what followed it, and where the text runs out it goes on with itself. It has
 * up to K tokens, no more than {@code limit[s]}, and no more than leave room in the context for the
 * one that a round finds behind them; it ends before an id below 0. {@code drafted} is filled up with
 * -1; without a match {@code draftLength} is 0.
 *
 * <p>Of a sequence that is not active, context and length stay, drafted is -1, and draft length and
 * matched are 0. Nothing at and behind the length is read.
 *
 * <p>A length outside 0..T, an append count outside 0..A, tokens to append beyond T, a limit below 0:
 * an {@link IllegalArgumentException} on the CPU, with nothing written. On CUDA nothing is appended,
 * drafted is -1, matched 0, and the draft length -1, of which {@link Verify} makes an invalid round.
 *
 * <p>With a context of one slot more than the target's cache has, no draft is longer than {@link
 * Verify} takes. All that changes from round to round lies in tensors, so one op, or one captured
 * graph, serves a whole generation. Bytes that must move: 4 per token of the text, or of its end from
 * a match of the most tokens on; 8 per token appended or drafted, about 24 per sequence.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}.
 */
public final class DraftLookup extends Op {
  /** Most tokens that are compared. */
  public static final int MOST = exeunt.EXN_LOOKUP_MOST;

  private DraftLookup(Params params, Place place) {
    super(params, place);
  }

  /**
   * Starts building: nothing is appended, all sequences take part.
   *
   * @return a builder that needs context, length, drafted, draftLength and ngram
   */
  public static Builder builder() {
    return new Builder();
  }

  @Override
  int supported(long params) {
    return exeunt.exn_draft_lookup_supported(params);
  }

  @Override
  int workspaceSize(long params, long[] bytes) {
    return exeunt.exn_draft_lookup_workspace_size(params, bytes);
  }

  @Override
  int launch(long params, long workspace, long workspaceBytes, long stream) {
    return exeunt.exn_draft_lookup(params, workspace, workspaceBytes, stream);
  }

  /** Arguments of {@link DraftLookup}. */
  public static final class Builder extends Op.Builder<DraftLookup> {
    private Tensor context;
    private Tensor length;
    private Tensor append;
    private Tensor appendCount;
    private Tensor active;
    private Tensor limit;
    private Tensor drafted;
    private Tensor draftLength;
    private Tensor matched;
    private int minNgram;
    private int maxNgram;
    private int mostMatched;

    private Builder() {}

    /**
     * The texts, prompts and answers.
     *
     * @param tensor in and out, [S,T], I32, last stride 1; S and T may be 0
     * @return this
     */
    public Builder context(Tensor tensor) {
      context = tensor;
      return this;
    }

    /**
     * How many tokens each text has.
     *
     * @param tensor in and out, [S], I32, compact, 0 to T
     * @return this
     */
    public Builder length(Tensor tensor) {
      length = tensor;
      return this;
    }

    /**
     * Tokens that go behind the texts first, such as what a {@link Verify} has written.
     *
     * @param tensor in, optional, [S,A], I32, compact; an id below 0 ends a row before it
     * @return this
     */
    public Builder append(Tensor tensor) {
      append = tensor;
      return this;
    }

    /**
     * How many of them.
     *
     * @param tensor in, optional, [S], I32, compact, 0 to A; left out, A each
     * @return this
     */
    public Builder appendCount(Tensor tensor) {
      appendCount = tensor;
      return this;
    }

    /**
     * Which sequences take part.
     *
     * @param tensor in, optional, [S], U8, compact; left out, all do
     * @return this
     */
    public Builder active(Tensor tensor) {
      active = tensor;
      return this;
    }

    /**
     * The most tokens of each draft.
     *
     * @param tensor in, optional, [S], I32, compact, 0 or more; left out, K each
     * @return this
     */
    public Builder limit(Tensor tensor) {
      limit = tensor;
      return this;
    }

    /**
     * The drafts, filled up with -1.
     *
     * @param tensor out, [S,K], I32, compact; K may be 0
     * @return this
     */
    public Builder drafted(Tensor tensor) {
      drafted = tensor;
      return this;
    }

    /**
     * How many tokens each draft has.
     *
     * @param tensor out, [S], I32, compact
     * @return this
     */
    public Builder draftLength(Tensor tensor) {
      draftLength = tensor;
      return this;
    }

    /**
     * How many tokens before each draft's place are the last ones of the text: the more, the likelier
     * the draft is right.
     *
     * @param tensor out, optional, [S], I32, compact
     * @return this
     */
    public Builder matched(Tensor tensor) {
      matched = tensor;
      return this;
    }

    /**
     * How many tokens are to be those at the end of the text.
     *
     * @param least 1 to {@code most}
     * @param most 1 to {@link DraftLookup#MOST}; a longer match is as good
     * @return this
     */
    public Builder ngram(int least, int most) {
      minNgram = least;
      maxNgram = most;
      return this;
    }

    /**
     * How far {@link #matched} counts.
     *
     * @param tokens {@link #ngram}'s most to {@link DraftLookup#MOST}; 0: {@link #ngram}'s most
     * @return this
     */
    public Builder mostMatched(int tokens) {
      mostMatched = tokens;
      return this;
    }

    @Override
    DraftLookup create(Place place) {
      return new DraftLookup(
          new Params(exn_draft_lookup_params.class)
              .written("context", context)
              .written("length", length)
              .tensor("append", append)
              .tensor("append_count", appendCount)
              .tensor("active", active)
              .tensor("limit", limit)
              .written("drafted", drafted)
              .written("draft_length", draftLength)
              .written("matched", matched)
              .int32("min_ngram", minNgram)
              .int32("max_ngram", maxNgram)
              .int32("most_matched", mostMatched),
          place);
    }
  }
}
