// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.List;
import java.util.Objects;

/**
 * PromptDistill (Jin et al. 2025): after a layer r of the prefill only the k tokens that the last
 * one attends to most go on to the layers above, and the last one itself.
 *
 * <p>Layer r is computed in full. Then {@link #choose} gives the kept tokens, ascending; gather the
 * hidden states and the <em>original</em> positions by them ({@link Gather}), run the layers above
 * on what is left, and let the next token have the position it would have had. With several stages
 * each chooses among what the one before has left. {@link #truncates} says whether the caches of
 * the layers up to the stage shrink as well ({@link KvCompact}).
 *
 * <p>Scores are the raw products of the last token's query, averaged over heads and over five
 * neighbours. In decoding nothing is chosen: {@link #choose} refuses it.
 *
 * <p>Follows declare-lab/PromptDistill at 472bfef (algorithm and defaults). Immutable, thread-safe.
 */
public final class PromptDistill {
  /** Layer of {@link #standard}. */
  public static final int LAYER = 13;

  /** Tokens kept by {@link #standard}. */
  public static final int KEEP = 1024;

  /** Width of {@link #standard}'s average pooling. */
  public static final int POOL = 5;

  /**
   * A place to choose.
   *
   * @param layer 0 or more: the last one that runs in full
   * @param keep how many tokens go on, beside the last one: 0 or more
   */
  public record Stage(int layer, int keep) {
    /**
     * Checks the values.
     *
     * @param layer 0 or more: the last one that runs in full
     * @param keep how many tokens go on, beside the last one: 0 or more
     * @throws IllegalArgumentException if one is out of range
     */
    public Stage {
      if (layer < 0) {
        throw new IllegalArgumentException("layer is " + layer + ", expected 0 or more");
      }
      if (keep < 0) {
        throw new IllegalArgumentException("keep is " + keep + ", expected 0 or more");
      }
    }
  }

  private final List<Stage> stages;
  private final int pool;
  private final int truncation;

  private PromptDistill(List<Stage> stages, int pool, int truncation) {
    this.stages = stages;
    this.pool = pool;
    this.truncation = truncation;
  }

  /**
   * The authors' settings for Llama 3.1 8B: one stage after layer 13, 1024 tokens, pooling of 5,
   * caches shrunk after it.
   *
   * @return the method
   */
  public static PromptDistill standard() {
    return of(new Stage(LAYER, KEEP));
  }

  /**
   * Stages of one's own.
   *
   * @param stages layers ascending
   * @return the method, with pooling of 5 and caches shrunk after the first stage
   * @throws IllegalArgumentException if there is none, or the layers do not ascend
   */
  public static PromptDistill of(Stage... stages) {
    if (Named.present("stages", stages).length == 0) {
      throw new IllegalArgumentException("stages is empty, expected at least 1");
    }
    for (int i = 0; i < stages.length; i++) {
      Objects.requireNonNull(stages[i], "stage " + i);
    }
    for (int i = 1; i < stages.length; i++) {
      if (stages[i].layer <= stages[i - 1].layer) {
        throw new IllegalArgumentException("stage " + i + " is after layer " + stages[i].layer
            + ", but the one before it after " + stages[i - 1].layer);
      }
    }
    return new PromptDistill(List.of(stages), POOL, 1);
  }

  /**
   * This method with another average pooling.
   *
   * @param width odd, 1 to 255; 1: none
   * @return a new method
   * @throws IllegalArgumentException if the width is another
   */
  public PromptDistill withPooling(int width) {
    AttentionScores.Pool.AVG.requireWidth(width);
    return new PromptDistill(stages, width, truncation);
  }

  /**
   * This method with caches shrunk after other stages.
   *
   * @param count of the first stages, after which the caches of all layers up to there are shrunk;
   *     -1: after all of them
   * @return a new method
   * @throws IllegalArgumentException if the count is below -1
   */
  public PromptDistill withTruncation(int count) {
    if (count < -1) {
      throw new IllegalArgumentException("count is " + count + ", expected -1 or more");
    }
    return new PromptDistill(stages, pool, count);
  }

  /**
   * The stages.
   *
   * @return in the order of their layers
   */
  public List<Stage> stages() {
    return stages;
  }

  /**
   * Which stage lies after a layer.
   *
   * @param layer the layer that has just run
   * @param modelLayers how many the model has; after the last one nothing is chosen
   * @return its index, or -1 if there is none
   */
  public int stageBehind(int layer, int modelLayers) {
    for (int i = 0; i < stages.size() && layer + 1 < modelLayers; i++) {
      if (stages.get(i).layer == layer) {
        return i;
      }
    }
    return -1;
  }

  /**
   * Whether the caches of the layers up to a stage keep only what the stage keeps.
   *
   * @param stage its index
   * @return true if they are to be shrunk by the stage's list
   */
  public boolean truncates(int stage) {
    return truncation < 0 || stage < truncation;
  }

  /**
   * Chooses the tokens that go on after a stage.
   *
   * @param scope owns the lists
   * @param stream where to run; waits for it
   * @param stage its index
   * @param prompt the stage's layer, with the tokens that have come so far
   * @return one list: row numbers of this pass, which are slots of this layer, ascending, the last
   *     one among them
   * @throws IllegalStateException if the pass is no prefill
   * @throws IndexOutOfBoundsException if there is no such stage
   */
  public Selection choose(Scope scope, Stream stream, int stage, PromptLayer prompt) {
    if (stage < 0 || stage >= stages.size()) {
      throw new IndexOutOfBoundsException(
          "stage " + stage + " of a method of " + stages.size() + " stages");
    }
    Stage now = stages.get(stage);
    Named.present("prompt", prompt).requirePrefill("PromptDistill");
    int last = prompt.tokens() - 1;
    AttentionScores.Builder method = AttentionScores.promptDistill();
    if (pool == 1) {
      method.pool(AttentionScores.Pool.NONE, 0);
    } else {
      method.pool(AttentionScores.Pool.AVG, pool);
    }
    return prompt.choose(
        scope, stream, method, 1, AttentionScores.Heads.MEAN, last, now.keep, last, last + 1);
  }
}
