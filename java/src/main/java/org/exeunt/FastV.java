// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * FastV (Chen et al. 2024): from layer K of the prefill on, the image tokens that the last token
 * attends to least are gone.
 *
 * <p>Layers 0 to K - 1 run in full; after layer K - 1 {@link #choose} keeps a share of the image
 * tokens and all others. Gather the hidden states and the <em>original</em> positions by the list.
 *
 * <p>Scores are the softmax of the last token's query, averaged over heads.
 *
 * <p>Follows pkunlp-icler/FastV at d165972. Immutable, thread-safe.
 */
public final class FastV {
  /** First layer of {@link #standard} that sees fewer tokens. */
  public static final int LAYER = 2;

  /** Share of the image tokens that {@link #standard} drops. */
  public static final double DROPPED = .5;

  private final int layer;
  private final double dropped;

  private FastV(int layer, double dropped) {
    this.layer = layer;
    this.dropped = dropped;
  }

  /**
   * The authors' usual settings: half of the image tokens are gone from layer 2 on.
   *
   * @return the method
   */
  public static FastV standard() {
    return of(LAYER, DROPPED);
  }

  /**
   * Settings of one's own.
   *
   * @param layer K, the first one that sees fewer tokens, at least 1
   * @param dropped share of the image tokens that go, 0 to 1
   * @return the method
   * @throws IllegalArgumentException if a value is out of range
   */
  public static FastV of(int layer, double dropped) {
    if (layer < 1) {
      throw new IllegalArgumentException("layer is " + layer + ", expected at least 1");
    }
    if (!(dropped >= 0 && dropped <= 1)) {
      throw new IllegalArgumentException("dropped is " + dropped + ", expected 0 to 1");
    }
    return new FastV(layer, dropped);
  }

  /**
   * Whether tokens are dropped after a layer.
   *
   * @param index the layer that has just run
   * @param modelLayers how many the model has
   * @return true for layer K - 1, unless it is the last one
   */
  public boolean choosesBehind(int index, int modelLayers) {
    return index == layer - 1 && index + 1 < modelLayers;
  }

  /**
   * How many image tokens stay.
   *
   * @param imageTokens how many there are
   * @return the share that stays, rounded half to even as the authors' Python does
   */
  public int kept(int imageTokens) {
    return (int) Math.rint(imageTokens * (1 - dropped));
  }

  /**
   * Chooses the tokens that go on.
   *
   * @param scope owns the list
   * @param stream where to run; waits for it
   * @param prompt layer K - 1
   * @param imageBegin first image token
   * @param imageEnd the token after the last one
   * @return one list: {@link #kept} image tokens and all others, ascending
   * @throws IllegalStateException if the pass is no prefill
   * @throws IllegalArgumentException if the image lies outside the prompt
   */
  public Selection choose(
      Scope scope, Stream stream, PromptLayer prompt, int imageBegin, int imageEnd) {
    Named.present("prompt", prompt).requirePrefill("FastV");
    ImageTokens image = new ImageTokens(imageBegin, imageEnd, prompt.tokens());
    return image.choose(scope, stream, prompt, kept(image.size()));
  }
}
