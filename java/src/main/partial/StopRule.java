// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.jspecify.annotations.Nullable;

/**
 * Decides on the device which of S samples of an answer go on after each has drawn a token, and
 * which of those that ended is the answer; carries what that takes from step to step. Run it once
 * for each step, with {@code first} at an answer's first.
 *
 * <pre>
 *   rule.run(stream, step == 0);
 * </pre>
 *
 * <p>Of a row that runs:
 * <ul>
 *   <li>a token of 0 and more is counted; its log p, which is {@link Builder#logP} or {@code
 *       logits[token] / temperature - lse}, and the certainty {@code -meanLogP - ln V = KL(U||p)}
 *       are added, each where it is given. A negative token says that the row drew none;
 *   <li>the row ends by the first of these that holds: the token is one of {@link
 *       Builder#stopIds}; {@code confidence >= confidentAt} (ConCISE, where the confidence is the
 *       probability of a probe's answer, {@link Builder#answer}; its authors published no
 *       threshold); {@code confidence < abstainBelow}; it counts {@link Builder#budget} tokens.
 * </ul>
 * A row that ended by its token or its confidence is complete; {@link Finish} says what that means
 * to the others. A confidence that is NaN is no evidence. A row that has ended takes no further
 * part, and its inputs are not looked at.
 *
 * <p>The winner is by {@link Choice}, ties to the lower row, a NaN after every number; -1 as long
 * as there is none. It may change while rows run.
 *
 * <p>The trials are how many branches CNTP opens where a distribution of entropy H is to be drawn
 * from next: {@code floor(1 + (most - 1) clip((H - low) / (high - low), 0, 1))}, in f32 in this
 * order; 1 where H is NaN, 0 for a row that has ended. Each branch is a row of a rule that ends at
 * punctuation and chooses by {@link Choice#PERPLEXITY}.
 *
 * <p>Arithmetic is f32, each operation rounded; a sum is a pair of floats, exact as long as it is
 * finite. A run after the end of all rows, a token of V and more, and a stop id outside of 0 to V -
 * 1 are an {@link IllegalArgumentException} on the CPU, with nothing written; on CUDA, where a run
 * cannot read them, such a run repeats its outputs, such a token is none, and such an id stops
 * nothing.
 *
 * <p>Bytes that must move: about 80 for each row, 4 for each stop id.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}. Whether a run is the first is read when it is
 * called; runs queued before keep theirs (a captured graph keeps those of its capture).
 */
public final class StopRule extends Op {
  /** Why a row ended; its number in {@link Builder#reason} is its ordinal. */
  public enum Reason {
    /** It has not. */
    RUNNING(exeunt.EXN_STOP_RUNNING),
    /** It drew a stop id. */
    TOKEN(exeunt.EXN_STOP_TOKEN),
    /** Its confidence was large enough. */
    CONFIDENT(exeunt.EXN_STOP_CONFIDENT),
    /** Its confidence was too small. */
    ABSTAINED(exeunt.EXN_STOP_ABSTAINED),
    /** It has spent its tokens. */
    BUDGET(exeunt.EXN_STOP_BUDGET),
    /** Another was complete first. */
    CANCELLED(exeunt.EXN_STOP_CANCELLED);

    final int code;

    Reason(int code) {
      this.code = code;
    }
  }

  /** What a row that is complete means to the others. */
  public enum Finish {
    /** Nothing: each row ends for itself. */
    EACH(exeunt.EXN_STOP_EACH),
    /** They end, {@link Reason#CANCELLED} (First Finish Search). */
    FIRST(exeunt.EXN_STOP_FIRST);

    final int code;

    Finish(int code) {
      this.code = code;
    }
  }

  /** Which row wins. */
  public enum Choice {
    /** Of the rows that were complete first. */
    FIRST(exeunt.EXN_CHOOSE_FIRST),
    /**
     * Of the rows that ended, but for those that abstained or were cancelled, the one with the
     * largest mean log p, whose perplexity {@code exp(-mean)} is the lowest (CNTP).
     */
    PERPLEXITY(exeunt.EXN_CHOOSE_PERPLEXITY),
    /** Of the same, the one with the largest mean certainty (self-certainty). */
    CERTAINTY(exeunt.EXN_CHOOSE_CERTAINTY);

    final int code;

    Choice(int code) {
      this.code = code;
    }
  }

  /** 32-bit words of state for each row; the second counts its tokens. */
  public static final int STATE_WORDS = exeunt.EXN_STOP_STATE_WORDS;

  private final int firstOffset = Params.offset(exn_stop_rule_params.class, "first");

  /**
   * First Finish Search (Agarwal et al. 2025): the first complete answer is the answer, and ends the
   * others.
   *
   * @param vocabulary V, 1 or more
   * @param stopIds tokens that end a row; see {@link Builder#stopIds}
   * @return a builder with these
   */
  public static Builder firstFinish(int vocabulary, Tensor stopIds) {
    return builder().vocabulary(vocabulary).stopIds(stopIds).finish(Finish.FIRST);
  }

  /**
   * CNTP's trials of one token (Wang et al. 2025): each ends at punctuation or an end of sequence,
   * the lowest perplexity wins.
   *
   * @param vocabulary V, 1 or more
   * @param stopIds tokens that end a trial; see {@link Builder#stopIds}
   * @return a builder with these
   */
  public static Builder trials(int vocabulary, Tensor stopIds) {
    return builder().vocabulary(vocabulary).stopIds(stopIds).choice(Choice.PERPLEXITY);
  }

  /**
   * Allocates the state of a rule; its contents do not matter before a run with {@code first}.
   *
   * @param scope owns the memory
   * @param device device of the other tensors
   * @param rows S
   * @return [S, {@value #STATE_WORDS}], I32
   */
  public static Tensor allocateState(Scope scope, Device device, long rows) {
    return Named.present("scope", scope).allocate(device, DType.I32, rows, STATE_WORDS);
  }

  /**
   * Runs the rule after a step; does not synchronise.
   *
   * @param stream where to queue the work; ignored on the CPU
   * @param first true at an answer's first step: the old state is forgotten, all rows run
   */
  public void run(Stream stream, boolean first) {
    long handle = enter(stream);
    try {
      int before = paramsBlock().getInt(firstOffset);
      paramsBlock().putInt(firstOffset, first ? 1 : 0);
      try {
        launch(handle);
      } catch (Throwable e) {
        paramsBlock().putInt(firstOffset, before);
        throw e;
      }
    } finally {
      leave(stream);
    }
  }

  /**
   * Runs the rule after a step on {@link Stream#DEFAULT}; see {@link #run(Stream, boolean)}.
   *
   * @param first true at an answer's first step
   */
  public void run(boolean first) {
    run(Stream.DEFAULT, first);
  }

  public static final class Builder extends Op.Builder<StopRule> {
    private Integer vocabulary;
    private Finish finish = Finish.EACH; // scope
    private Choice choice = Choice.FIRST;
    private float temperature = 1;
    private float trialsLow = .01f;
    private float trialsHigh = 1.5f;
    private int mostTrials = 10;

    /**
     * Where the drawn tokens' log p comes from, instead of {@link #logP}.
     *
     * @param tensor in, optional, [S,V], F32, F16 or BF16, last stride 1
     * @param lseTensor in, [S], F32, compact: as {@link RowStats} finds it at this temperature
     * @param value the temperature, positive and finite
     * @return this
     */
    public Builder logits(@Nullable Tensor tensor, Tensor lseTensor, float value) {
      logits = tensor;
      lse = lseTensor;
      temperature = value;
      return this;
    }

    /**
     * How sure each row's answer is, a probability; NaN where it is not known.
     *
     * @param tensor in, optional, [S], F32, compact
     * @param confident from here on a row is complete, 0 to 1; 0: none is by this
     * @param abstain below this a row ends without an answer, 0 to 1, not above {@code confident}
     *     unless that is 0; 0: none does
     * @return this
     */
    public Builder confidence(@Nullable Tensor tensor, float confident, float abstain) {
      confidence = tensor;
      confidentAt = confident;
      abstainBelow = abstain;
      return this;
    }

    /**
     * What says that an answer is sure, instead of {@link #confidence}; needs {@link #logits}. The
     * confidence is their probability, such as that of a probe's words.
     *
     * @param tensor in, optional, [A], I32, compact, entries from 0 to V - 1
     * @param confident from here on a row is complete; see {@link #confidence}
     * @param abstain below this a row ends without an answer; see {@link #confidence}
     * @return this
     */
    public Builder answer(@Nullable Tensor tensor, float confident, float abstain) {
      answerIds = tensor;
      confidentAt = confident;
      abstainBelow = abstain;
      return this;
    }

    /**
     * How entropies become trials; left out, CNTP's 0.01, 1.5 and 10.
     *
     * @param low the entropy up to which there is one, in nats, 0 or more
     * @param high the entropy from which there are {@code most}, above {@code low}, finite
     * @param most the most trials, 1 to 2^20
     * @return this
     */
    public Builder trialRange(float low, float high, int most) {
      trialsLow = low;
      trialsHigh = high;
      mostTrials = most;
      return this;
    }
  }
}
