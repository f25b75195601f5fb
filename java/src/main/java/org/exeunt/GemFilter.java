// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * GemFilter (Shi et al. 2024): a first pass through the lower layers finds the tokens that the last
 * one attends to most; a second pass through all layers sees nothing but those.
 *
 * <p>Run layers 0 to {@link #layer()} on the prompt, {@link #choose}, forget the caches, and
 * prefill the chosen tokens in their order as a prompt of their own: positions are
 * <em>renumbered</em>. The last token is an ordinary candidate.
 *
 * <p>Scores are the products of the last token's query, summed over heads and averaged over five
 * neighbours.
 *
 * <p>Follows SalesforceAIResearch/GemFilter at 5f79b1a (algorithm and defaults). Immutable,
 * thread-safe.
 */
public final class GemFilter {
  /** Filter layer of {@link #standard}: Llama 3.1 8B. */
  public static final int LAYER = 13;

  /** Filter layer of the authors' Mistral Nemo and Phi 3.5. */
  public static final int LAYER_MISTRAL_PHI = 19;

  /** Tokens kept by {@link #standard}. */
  public static final int KEEP = 1024;

  private final int layer;
  private final int keep;

  private GemFilter(int layer, int keep) {
    this.layer = layer;
    this.keep = keep;
  }

  /**
   * The authors' settings for Llama 3.1 8B: layer 13, 1024 tokens.
   *
   * @return the method
   */
  public static GemFilter standard() {
    return of(LAYER, KEEP);
  }

  /**
   * Settings of one's own.
   *
   * @param layer the last one of the first pass, 0 or more
   * @param keep how many tokens the second pass sees, at least 1
   * @return the method
   * @throws IllegalArgumentException if a value is out of range
   */
  public static GemFilter of(int layer, int keep) {
    if (layer < 0) {
      throw new IllegalArgumentException("layer is " + layer + ", expected 0 or more");
    }
    if (keep < 1) {
      throw new IllegalArgumentException("keep is " + keep + ", expected at least 1");
    }
    return new GemFilter(layer, keep);
  }

  /**
   * The last layer of the first pass.
   *
   * @return 0 or more
   */
  public int layer() {
    return layer;
  }

  /**
   * Chooses the tokens of the second pass.
   *
   * @param scope owns the list
   * @param stream where to run; waits for it
   * @param prompt the filter layer of the first pass
   * @return one list of at most {@code keep} tokens, ascending
   * @throws IllegalStateException if the pass is no prefill
   */
  public Selection choose(Scope scope, Stream stream, PromptLayer prompt) {
    Named.present("prompt", prompt).requirePrefill("GemFilter");
    return prompt.choose(scope, stream, AttentionScores.gemFilter(), 1, AttentionScores.Heads.SUM,
        prompt.tokens(), keep);
  }
}
