// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * H2O, heavy hitters (Zhang et al. 2023): after the prefill of each layer its cache shrinks to the
 * slots that all tokens of the prompt together attended to most, and to the most recent ones.
 *
 * <p>Once, after the prefill, as the port in GemFilter's repository does it; the authors' own code
 * masks in every decode step instead, by scores that {@link AttentionScores#heavyHitters} adds up.
 * {@link #choose} gives a list for each query head, {@link #grouped} one for each KV head.
 * Keys stay turned by their original positions.
 *
 * <p>Follows FMInference/H2O at ac75c2a and its port in SalesforceAIResearch/GemFilter at 5f79b1a.
 * Immutable, thread-safe.
 */
public final class H2o {
  /** Share of the prompt that heavy hitters may take, and share of the recent ones. */
  public static final double RATIO = .1;

  private final double heavy;
  private final double recent;
  private final boolean grouped;

  private H2o(double heavy, double recent, boolean grouped) {
    this.heavy = heavy;
    this.recent = recent;
    this.grouped = grouped;
  }

  /**
   * The authors' settings: a tenth of heavy hitters, a tenth of recent tokens.
   *
   * @return the method
   */
  public static H2o standard() {
    return of(RATIO, RATIO);
  }

  /**
   * Settings of one's own.
   *
   * @param heavy share of the prompt kept by score, 0 to 1
   * @param recent share of the prompt kept at its end, 0 to 1; together at most 1
   * @return the method
   * @throws IllegalArgumentException if a share is out of range
   */
  public static H2o of(double heavy, double recent) {
    if (!(heavy >= 0 && recent >= 0 && heavy + recent <= 1)) {
      throw new IllegalArgumentException(
          "heavy is " + heavy + " and recent " + recent + ", expected shares of at most 1 in all");
    }
    return new H2o(heavy, recent, false);
  }

  /**
   * This method with one list for each KV head: not the authors' form.
   *
   * @return a new method
   */
  public H2o grouped() {
    return new H2o(heavy, recent, true);
  }

  /**
   * How many slots a prompt leaves in each list. Both shares are truncated, as the authors do: of
   * fewer than ten tokens {@link #standard} keeps none, and what comes next sees itself alone.
   *
   * @param tokens of the prompt
   * @return heavy hitters and recent ones
   */
  public int kept(int tokens) {
    return (int) (heavy * tokens) + (int) (recent * tokens);
  }

  /**
   * Chooses the slots that a layer keeps.
   *
   * @param scope owns the lists
   * @param stream where to run; waits for it
   * @param prompt the layer
   * @return a list of {@link #kept} slots for each query head, or KV head if grouped, ascending
   * @throws IllegalStateException if the pass is no prefill
   */
  public Selection choose(Scope scope, Stream stream, PromptLayer prompt) {
    Named.present("prompt", prompt).requirePrefill("H2O");
    int tokens = prompt.tokens();
    int older = tokens - (int) (recent * tokens);
    return prompt.choose(scope, stream, AttentionScores.builder(), tokens,
        grouped ? AttentionScores.Heads.GROUP_SUM : AttentionScores.Heads.EACH, older,
        (int) (heavy * tokens), older, tokens);
  }
}
