// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.nio.ByteBuffer;
import org.jspecify.annotations.Nullable;

/**
 * Decides on the device when each sequence of a batch stops drafting, and learns from every
 * verification which layer should draft (DEL).
 *
 * <p>A {@link #step} runs after each drafted token, {@code first} at a draft's first:
 *
 * <pre>
 *   rule.run(stream, drafted == 0);
 * </pre>
 *
 * In each sequence that still drafts, the token becomes number t = 1, 2, ... of the draft. The
 * sequence stops, the token included, when t reaches the most, when the token is one of the stop
 * tokens, or, from the least on:
 * <ul>
 *   <li>fixed: for no other reason;
 *   <li>confidence: when {@code score < threshold}, where the score is the probability of the
 *       drafted token;
 *   <li>specDec: when {@code 1 - C > threshold}, where {@code C = C score} starts at 1 and the score
 *       is the acceptance probability (a head that {@link Gate} runs) of the token drafted
 *       before; that of t = 1 is not looked at (SpecDec++: 0.3, at least 2, at most 20);
 *   <li>del: when {@code score < tau}, {@code tau = (Sm / M + Sx / X) / 2} of the candidate that
 *       drafts, where the score is the probability of the drafted token. Without a match or a
 *       mismatch so far tau is NaN, which stops no sequence. A sequence that was never updated drafts
 *       1 token (DEL's code: at most 18).
 * </ul>
 * A NaN score stops no sequence; its token counts all the same.
 *
 * <p>An {@link #update} runs once after each verification, for DEL. A candidate leaves the model
 * after so many layers, and has for its statistics M matches and X mismatches with the final layer
 * and the sums Sm and Sx of its probabilities at each. A column is a row that the whole model has
 * just run; shadows are the tokens that the candidates would have given there, and their
 * probabilities: one {@link ExitHead} over the hidden states that were kept after each candidate,
 * as rows [S,K,N], gives both. Columns after the first, after the context, where the candidate
 * that drafted was wrong are dropped; {@code M = omega M + matches} and so on; then the plan becomes
 * the candidate k and the draft of d tokens with the largest
 *
 * <pre>
 *   (1 + alpha_k + ... + alpha_k^d) / (L + d layers_k),   alpha_k = M / (M + X),   d below the most
 * </pre>
 *
 * of equals the smaller k, then the smaller d. Unknown shadows (a negative token, a NaN
 * probability) are neither match nor mismatch, and a candidate without an alpha within 0 to 1 is not
 * chosen.
 *
 * <p>{@link Form} says whether d bounds the next draft. A {@link #reset} forgets what was learned of
 * a sequence.
 *
 * <p>A plan, a candidate, columns or a context out of range is an {@link IllegalArgumentException}
 * on the CPU; on CUDA that sequence does not draft (length -1), or is not updated. Arithmetic is
 * f32; the formulas in f64 may differ within 1e-6 relative around a threshold. Bytes that must move:
 * about 30 for each sequence and step; of an update 8 for each shadow and 32 for each candidate of a
 * sequence.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}. First is read when the run is called; runs
 * queued before keep theirs (a captured graph keeps those of its capture).
 */
public final class DraftRule extends Op {
  /** What DEL's plan decides. */
  public enum Form {
    /** Its published code: the layer alone, and tau ends the draft. */
    CODE(exeunt.EXN_FORM_CODE),
    /** The paper: d bounds the draft, too, and a sequence with d = 0 does not draft. */
    PAPER(exeunt.EXN_FORM_PAPER);

    final int code;

    Form(int code) {
      this.code = code;
    }
  }

  /** 32-bit words of state for each sequence. */
  public static final int STATE_WORDS = exeunt.EXN_DRAFT_STATE_WORDS;

  /**
   * 32-bit words of a sequence's plan: the candidate that drafts, the layers it runs, d, and the
   * updates so far.
   */
  public static final int PLAN_WORDS = exeunt.EXN_DRAFT_PLAN_WORDS;

  private final int firstOffset = Params.offset(exn_draft_rule_params.class, "first");

  /**
   * Starts building an op that takes a drafted token. One of {@link Builder#fixed}, {@link
   * Builder#confidence}, {@link Builder#specDec} and {@link Builder#del} must choose the rule; the
   * last one called does.
   *
   * @return a builder that needs state, a rule, and what the rule needs
   */
  public static Builder step() {
    return new Builder(exeunt.EXN_DRAFT_STEP);
  }

  /**
   * Starts building an op that takes the columns of a verification, for DEL.
   *
   * @return a builder that needs statistics, plan, shadows, finalToken, modelLayers, omega and del
   */
  public static Builder update() {
    return new Builder(exeunt.EXN_DRAFT_UPDATE);
  }

  /**
   * Starts building an op that forgets what DEL learned: statistics 0, candidate 0, d = 1.
   *
   * @return a builder that needs statistics, plan and modelLayers
   */
  public static Builder reset() {
    return new Builder(exeunt.EXN_DRAFT_RESET);
  }

  /**
   * Allocates the state of drafts; its contents do not matter before a run with {@code first}.
   *
   * @param scope owns the memory
   * @param device device of the other tensors
   * @param sequences S
   * @return [S, {@value #STATE_WORDS}], I32
   */
  public static Tensor allocateState(Scope scope, Device device, long sequences) {
    return Named.present("scope", scope).allocate(device, DType.I32, sequences, STATE_WORDS);
  }

  /**
   * Allocates DEL's plans; their contents do not matter before a {@link #reset}.
   *
   * @param scope owns the memory
   * @param device device of the other tensors
   * @param sequences S
   * @return [S, {@value #PLAN_WORDS}], I32
   */
  public static Tensor allocatePlan(Scope scope, Device device, long sequences) {
    return Named.present("scope", scope).allocate(device, DType.I32, sequences, PLAN_WORDS);
  }

  /**
   * Runs a step after a drafted token; does not synchronise.
   *
   * @param stream where to queue the work; ignored on the CPU
   * @param first true at a draft's first token: the old state is forgotten
   */
  public void run(Stream stream, boolean first) {
    long handle = enter(stream);
    try {
      launchStep(handle, first ? 1 : 0);
    } finally {
      leave(stream);
    }
  }

  /**
   * Runs a step after a drafted token on {@link Stream#DEFAULT}.
   *
   * @param first true at a draft's first token: the old state is forgotten
   */
  public void run(boolean first) {
    run(Stream.DEFAULT, first);
  }

  /** What a refused run would have taken does not stay. */
  private void launchStep(long handle, int first) {
    ByteBuffer block = paramsBlock();
    int before = block.getInt(firstOffset);
    block.putInt(firstOffset, first);
    try {
      launch(handle);
    } catch (Throwable e) {
      block.putInt(firstOffset, before);
      throw e;
    }
  }

  public static final class Builder extends Op.Builder<DraftRule> {
    private final int action;
    private Integer rule;
    private Form form = Form.CODE;
    private Float omega;

    private Builder(int action) {
      this.action = action;
    }

    /**
     * The drafted tokens, and which of them end a draft.
     *
     * @param drafted in, optional, step: [S], I32, compact
     * @param stops in, optional, step: [E], I32, compact; with drafted tokens only
     * @return this
     */
    public Builder tokens(@Nullable Tensor drafted, @Nullable Tensor stops) {
      token = drafted;
      stopTokens = stops;
      return this;
    }

    /**
     * What the candidates would have said of each column; {@link Statistic#ARGMAX} and {@link
     * Statistic#P1} of one {@link ExitHead} fit.
     *
     * @param tokens in, update: [S,K,N], I32, compact
     * @param probs in, update: [S,K,N], F32, compact
     * @return this
     */
    public Builder shadows(Tensor tokens, Tensor probs) {
      shadowToken = tokens;
      shadowProb = probs;
      return this;
    }

    /**
     * Drafts so many tokens.
     *
     * @param most the length, 1 to 65536
     * @return this
     */
    public Builder fixed(int most) {
      maxSteps = most;
      rule = exeunt.EXN_DRAFT_FIXED;
      return this;
    }

    /**
     * Drafts as long as the drafted token is probable.
     *
     * @param value the threshold below which it stops, not NaN
     * @param min never before this many tokens, 0 to max
     * @param max always at this many tokens, 1 to 65536
     * @return this
     */
    public Builder confidence(float value, int min, int max) {
      threshold = value;
      return rule(exeunt.EXN_DRAFT_CONFIDENCE, min, max);
    }

    /**
     * Drafts as long as all tokens so far are likely to be accepted, by the SpecDec++ decision.
     *
     * @param value the threshold, not NaN (SpecDec++: 0.3)
     * @param min never before this many tokens, 0 to max (SpecDec++: 2)
     * @param max always at this many tokens, 1 to 65536 (SpecDec++: 20)
     * @return this
     */
    public Builder specDec(float value, int min, int max) {
      threshold = value;
      return rule(exeunt.EXN_DRAFT_SPECDEC, min, max);
    }

    /**
     * Drafts by DEL's confidence; for an update also how far its table looks.
     *
     * @param how whether the plan's d bounds the draft
     * @param min never before this many tokens, 0 to max; not for an update
     * @param max always at this many tokens, 1 to 65536 (DEL's code: 18)
     * @return this
     */
    public Builder del(Form how, int min, int max) {
      form = Named.present("form", how);
      return rule(exeunt.EXN_DRAFT_DEL, min, max);
    }

    private Builder rule(int which, int min, int max) {
      rule = which;
      minSteps = min;
      maxSteps = max;
      return this;
    }

    private void writeRest(Params params) {
      boolean changed = action != exeunt.EXN_DRAFT_STEP;
      params.tensor("statistics", statistics, changed).tensor("plan", plan, changed);
    }

    private int ruleOrDefault() {
      boolean needed = action == exeunt.EXN_DRAFT_STEP;
      return rule != null || needed ? given("fixed, confidence, specDec or del", rule) : 0;
    }

    private float omegaOrDefault() {
      return omega != null || action == exeunt.EXN_DRAFT_UPDATE ? given("omega", omega) : 0;
    }
  }
}
