// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.nio.ByteBuffer;

/**
 * Decides on the device which rows leave after a layer, and carries the rule's state from layer to
 * layer. Run it once for each exit point: {@code first} at a token's first, {@code force} at the
 * last layer.
 *
 * <pre>
 *   rule.run(stream, layer, layer == firstExit, layer == lastLayer);
 * </pre>
 *
 * <p>Verdict of an active row with score c (and label y):
 * <ul>
 *   <li>threshold: {@code c >= theta} (or another {@link Comparator}), theta decayed over token
 *       steps as {@link Decay} says (CALM, FREE, EE-LLM);
 *   <li>patience: the label has been equal to the previous layer's {@code n} times in a row;
 *       without labels, {@code |c - previous c| < tolerance} takes the place of equality (PABEE);
 *   <li>quantile: {@code 1 - prod (1 - c_j) > q} (PALBERT Q-exit; its code runs all layers for q =
 *       0, here 0 leaves at once);
 *   <li>jei: {@code a >= threshold} with {@code p = max(0, min(c, 1 - sum earlier c))},
 *       {@code a = clip(p / prod(1 - earlier a), 0, 1)} (JEI-DNN);
 *   <li>specDec: {@code 1 - prod c > threshold} within bounds on the number of calls (SpecDec++). c
 *       is the acceptance probability of the token drafted before: the first call ignores it and
 *       counts it as 1.
 * </ul>
 * A row with a NaN score, or an invalid one, takes no part in a run: it stays, and its state stays
 * as well, so that the run counts neither for patience nor for specDec. {@link Rows} then says
 * whether rows leave one by one.
 *
 * <p>Arithmetic is f32; the papers' f64 may differ within 1e-6 relative around the threshold. Bytes
 * that must move: about 40 for each row.
 *
 * <p>Errors, threads, alignment, aliasing: {@link Op}. Layer, first, force and step are read when
 * the run is called; runs queued before keep theirs (a captured graph keeps those of its capture).
 */
public final class ExitRule extends Op {
  /** How a score is compared with the threshold. */
  public enum Comparator {
    /** {@code score >= threshold}. */
    GE(exeunt.EXN_COMPARE_GE),
    /** {@code score > threshold}. */
    GT(exeunt.EXN_COMPARE_GT),
    /** {@code score <= threshold}, for entropies. */
    LE(exeunt.EXN_COMPARE_LE);

    final int code;

    Comparator(int code) {
      this.code = code;
    }
  }

  /** How the threshold falls with the token step t. */
  public enum Decay {
    /** It does not. */
    NONE(exeunt.EXN_DECAY_NONE),
    /** {@code 9/10 threshold + 1/10 threshold exp(-tau t / T)}, the code of t5x and FREE. */
    CALM_CODE(exeunt.EXN_DECAY_CALM_CODE),
    /** {@code clip(9/10 threshold + 1/10 exp(-tau t / T), 0, 1)}, the paper. */
    CALM_PAPER(exeunt.EXN_DECAY_CALM_PAPER);

    final int code;

    Decay(int code) {
      this.code = code;
    }
  }

  /** Which active rows follow which verdict. */
  public enum Rows {
    /** Each row its own. */
    EACH(exeunt.EXN_SCOPE_EACH),
    /** All leave if every active row's verdict is to leave, else none (CALM's batch minimum). */
    ALL(exeunt.EXN_SCOPE_ALL),
    /** All follow the last row; if that has left before, none leaves (EE-LLM). */
    LAST(exeunt.EXN_SCOPE_LAST);

    final int code;

    Rows(int code) {
      this.code = code;
    }
  }

  /** 32-bit words of state for each row. */
  public static final int STATE_WORDS = exeunt.EXN_EXIT_STATE_WORDS;

  private final int layerOffset = Params.offset(exn_exit_rule_params.class, "layer");
  private final int firstOffset = Params.offset(exn_exit_rule_params.class, "first");
  private final int forceOffset = Params.offset(exn_exit_rule_params.class, "force");
  private final int stepOffset = Params.offset(exn_exit_rule_params.class, "step_index");

  /**
   * Allocates the state of a rule; its contents do not matter before a run with {@code first}.
   *
   * @param scope owns the memory
   * @param device device of the other tensors
   * @param rows R
   * @return [R, {@value #STATE_WORDS}], I32
   */
  public static Tensor allocateState(Scope scope, Device device, long rows) {
    return Named.present("scope", scope).allocate(device, DType.I32, rows, STATE_WORDS);
  }

  /**
   * Runs the rule after a layer; does not synchronise.
   *
   * @param stream where to queue the work; ignored on the CPU
   * @param layer what {@code exitLayer} records for rows that leave
   * @param first true at a token's first exit point: all rows become active and the old state is
   *     forgotten
   * @param force true at the last layer: every active row leaves
   */
  public void run(Stream stream, int layer, boolean first, boolean force) {
    long handle = enter(stream);
    try {
      launchStep(handle, layer, first, force, paramsBlock().getInt(stepOffset));
    } finally {
      leave(stream);
    }
  }

  /**
   * Like {@link #run(Stream, int, boolean, boolean)}, with the token step for the decay.
   *
   * @param stream where to queue the work; ignored on the CPU
   * @param layer what {@code exitLayer} records for rows that leave
   * @param first true at a token's first exit point
   * @param force true at the last layer
   * @param stepIndex t of all rows, 0 or more; stays for later runs; ignored where the builder was
   *     given steps
   */
  public void run(Stream stream, int layer, boolean first, boolean force, int stepIndex) {
    long handle = enter(stream);
    try {
      launchStep(handle, layer, first, force, stepIndex);
    } finally {
      leave(stream);
    }
  }

  /**
   * Runs the rule after a layer on {@link Stream#DEFAULT}; see {@link #run(Stream, int, boolean,
   * boolean)}.
   *
   * @param layer what {@code exitLayer} records for rows that leave
   * @param first true at a token's first exit point
   * @param force true at the last layer
   */
  public void run(int layer, boolean first, boolean force) {
    run(Stream.DEFAULT, layer, first, force);
  }

  /** What a refused run would have taken does not stay. */
  private void launchStep(long handle, int layer, boolean first, boolean force, int stepIndex) {
    ByteBuffer block = paramsBlock();
    int layerBefore = block.getInt(layerOffset);
    int firstBefore = block.getInt(firstOffset);
    int forceBefore = block.getInt(forceOffset);
    int stepBefore = block.getInt(stepOffset);
    writeStep(layer, first ? 1 : 0, force ? 1 : 0, stepIndex);
    try {
      launch(handle);
    } catch (Throwable e) {
      writeStep(layerBefore, firstBefore, forceBefore, stepBefore);
      throw e;
    }
  }

  private void writeStep(int layer, int first, int force, int stepIndex) {
    paramsBlock()
        .putInt(layerOffset, layer)
        .putInt(firstOffset, first)
        .putInt(forceOffset, force)
        .putInt(stepOffset, stepIndex);
  }

  public static final class Builder extends Op.Builder<ExitRule> {
    private Integer rule;
    private Comparator comparator = Comparator.GE;
    private Decay decay = Decay.NONE;
    private Rows rows = Rows.EACH; // scope
    private float decayHorizon = 1;

    /**
     * Leaves by comparing the score with a threshold.
     *
     * @param how the comparison
     * @param value the threshold, not NaN; finite with a decay
     * @return this
     */
    public Builder threshold(Comparator how, float value) {
      comparator = Named.present("comparator", how);
      return rule(exeunt.EXN_RULE_THRESHOLD, value);
    }

    /**
     * Lets the threshold fall with the token step.
     *
     * @param how the formula
     * @param tau its rate, 0 or more, finite (CALM: 4)
     * @param horizon its T, positive, finite: the longest output in tokens
     * @return this
     */
    public Builder decay(Decay how, float tau, float horizon) {
      decay = Named.present("decay", how);
      decayTau = tau;
      decayHorizon = horizon;
      return this;
    }

    /**
     * Leaves once the prediction has been the same in a row.
     *
     * @param times how often it must equal the one before, 0 or more; 0 never leaves
     * @return this
     */
    public Builder patience(int times) {
      patience = times;
      return rule(exeunt.EXN_RULE_PATIENCE, 0);
    }

    /**
     * Leaves once the score has changed little in a row; for rules without labels.
     *
     * @param times how often, 0 or more; 0 never leaves
     * @param tolerance smaller changes count as equal
     * @return this
     */
    public Builder patience(int times, float tolerance) {
      patience = times;
      return rule(exeunt.EXN_RULE_PATIENCE, tolerance);
    }

    /**
     * Leaves once the summed probability of having left exceeds a quantile.
     *
     * @param q the quantile, strict (PALBERT: 0.5)
     * @return this
     */
    public Builder quantile(float q) {
      return rule(exeunt.EXN_RULE_QUANTILE, q);
    }

    /**
     * Leaves by the JEI-DNN decision.
     *
     * @param value the threshold (JEI-DNN: 0.5)
     * @return this
     */
    public Builder jei(float value) {
      return rule(exeunt.EXN_RULE_JEI, value);
    }

    /**
     * Stops drafting by the SpecDec++ decision.
     *
     * @param value the threshold
     * @param min never before this many calls, 0 or more
     * @param max always at this many calls; 0: no upper bound
     * @return this
     */
    public Builder specDec(float value, int min, int max) {
      minSteps = min;
      maxSteps = max;
      return rule(exeunt.EXN_RULE_SPECDEC, value);
    }

    private Builder rule(int which, float value) {
      rule = which;
      threshold = value;
      return this;
    }

    /**
     * What plain {@link Op#run(Stream)} uses; {@link ExitRule#run(Stream, int, boolean, boolean)}
     * changes them.
     *
     * @param number what {@code exitLayer} records
     * @param isFirst forget the old state
     * @param isForced every active row leaves
     * @return this
     */
    public Builder at(int number, boolean isFirst, boolean isForced) {
      layer = number;
      first = isFirst;
      force = isForced;
      return this;
    }

    private int ruleOrDefault() {
      return given("threshold, patience, quantile, jei or specDec", rule);
    }
  }
}
