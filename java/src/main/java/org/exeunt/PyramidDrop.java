// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.List;
import java.util.Objects;

/**
 * PyramidDrop (Xing et al. 2024): at some layers of the prefill the number of image tokens falls to
 * a share of what there were at first, each time by what the last instruction token attends to.
 *
 * <p>In front of a stage's layer compute that layer's own queries and keys of the tokens that are
 * left (norm, projection, RoPE), {@link #choose}, and gather the hidden states by the list.
 * Positions are <em>renumbered</em> from 0 after each stage.
 *
 * <p>Scores are the softmax of the last token's query, averaged over heads.
 *
 * <p>Follows Cooperx521/PyramidDrop at 6444f30 (algorithm and defaults). Immutable, thread-safe.
 */
public final class PyramidDrop {
  /**
   * A place to drop tokens.
   *
   * @param layer the first one that sees fewer, at least 1
   * @param ratio of the image tokens that there were at first, 0 to 1
   */
  public record Stage(int layer, double ratio) {
    /**
     * Checks the values.
     *
     * @param layer the first one that sees fewer, at least 1
     * @param ratio of the image tokens that there were at first, 0 to 1
     * @throws IllegalArgumentException if one is out of range
     */
    public Stage {
      if (layer < 1) {
        throw new IllegalArgumentException("layer is " + layer + ", expected at least 1");
      }
      if (!(ratio >= 0 && ratio <= 1)) {
        throw new IllegalArgumentException("ratio is " + ratio + ", expected 0 to 1");
      }
    }
  }

  private final List<Stage> stages;

  private PyramidDrop(List<Stage> stages) {
    this.stages = stages;
  }

  /**
   * The authors' settings: a half from layer 8 on, a quarter from layer 16 on, an eighth from layer
   * 24 on.
   *
   * @return the method
   */
  public static PyramidDrop standard() {
    return of(new Stage(8, .5), new Stage(16, .25), new Stage(24, .125));
  }

  /**
   * Stages of one's own.
   *
   * @param stages layers ascending, ratios not rising
   * @return the method
   * @throws IllegalArgumentException if there is none, or they are not in order
   */
  public static PyramidDrop of(Stage... stages) {
    Named.present("stages", stages);
    if (stages.length == 0) {
      throw new IllegalArgumentException("stages is empty, expected at least 1");
    }
    for (int i = 0; i < stages.length; i++) {
      Objects.requireNonNull(stages[i], "stage " + i);
    }
    for (int i = 1; i < stages.length; i++) {
      if (stages[i].layer <= stages[i - 1].layer || stages[i].ratio > stages[i - 1].ratio) {
        throw new IllegalArgumentException(
            "stage " + i + " is " + stages[i] + ", which does not follow " + stages[i - 1]);
      }
    }
    return new PyramidDrop(List.of(stages));
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
   * Which stage lies in front of a layer.
   *
   * @param layer the layer about to run
   * @return its index, or -1 if there is none
   */
  public int stageBefore(int layer) {
    for (int i = 0; i < stages.size(); i++) {
      if (stages.get(i).layer == layer) {
        return i;
      }
    }
    return -1;
  }

  /**
   * How many image tokens stay after a stage.
   *
   * @param stage its index
   * @param imageTokens how many there were at first
   * @return the stage's share of them, truncated
   * @throws IllegalArgumentException if {@code imageTokens} is negative
   * @throws IndexOutOfBoundsException if there is no such stage
   */
  public int kept(int stage, int imageTokens) {
    if (stage < 0 || stage >= stages.size()) {
      throw new IndexOutOfBoundsException(
          "stage " + stage + " of a method with " + stages.size() + " stages");
    }
    if (imageTokens < 0) {
      throw new IllegalArgumentException("imageTokens is " + imageTokens + ", expected 0 or more");
    }
    return (int) (imageTokens * stages.get(stage).ratio);
  }

  /**
   * Chooses the tokens that go on after a stage.
   *
   * @param scope owns the list
   * @param stream where to run; waits for it
   * @param stage its index
   * @param prompt the stage's layer, with queries and keys of the tokens that are left
   * @param imageBegin first image token that is left
   * @param imageEnd the token after the last one
   * @param imageTokens how many there were at first
   * @return one list: {@link #kept} image tokens and all others, ascending
   * @throws IllegalStateException if the pass is no prefill
   * @throws IllegalArgumentException if the image lies outside the prompt
   * @throws IndexOutOfBoundsException if there is no such stage
   */
  public Selection choose(Scope scope, Stream stream, int stage, PromptLayer prompt, int imageBegin,
      int imageEnd, int imageTokens) {
    Named.present("prompt", prompt).requirePrefill("PyramidDrop");
    ImageTokens image = new ImageTokens(imageBegin, imageEnd, prompt.tokens());
    return image.choose(scope, stream, prompt, kept(stage, imageTokens));
  }
}
