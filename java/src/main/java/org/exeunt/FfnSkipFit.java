// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.Arrays;

/**
 * Proposes what a {@link FfnSkipRule} needs to know of a model: which feed-forward blocks turn the
 * residual stream least, and from which cosine on a token may skip.
 *
 * <p>Run a calibration text in full and feed it the cosines of every layer's block ({@link
 * Ffn.Builder#cosine}). The proposal: the neighbouring layers whose mean cosine is highest, and as
 * threshold the median cosine of the first of them, so that half of the tokens begin to skip there.
 * It is a start to try from, measured on one text, not a promise of quality: FFN-SkipLLM, whose
 * authors published no code, gives no values.
 *
 * <p>The warm-up remains the caller's: it protects a text's first tokens because all later ones
 * attend to them, and how far a block turns a token's state does not say who attends to it. Nor
 * would one text, which begins once, be a measure. Compare what the model answers with and without
 * one.
 *
 * <p>Keeps 4 bytes for each layer and token. Plain Java. Not thread-safe.
 */
public final class FfnSkipFit {
  /**
   * Proposed settings.
   *
   * @param coldStart first layer that may be skipped; it runs for a token that has not begun to
   *     skip
   * @param coldEnd first layer after those
   * @param threshold cosine from which on a token begins to skip
   */
  public record Settings(int coldStart, int coldEnd, float threshold) {
    /**
     * Gives these settings to a rule; the warm-up and a budget remain to be said.
     *
     * @param rule the builder of a rule
     * @return {@code rule}
     */
    public FfnSkipRule.Builder applyTo(FfnSkipRule.Builder rule) {
      return Named.present("rule", rule).coldLayers(coldStart, coldEnd).threshold(threshold);
    }
  }

  private static final int MOST_LAYERS = 1 << 20;

  private final float[][] cosines; // of each layer, as many as `counts` says
  private final int[] counts;

  /**
   * An empty fit.
   *
   * @param layers how many the model has, 1 to 2^20
   * @throws IllegalArgumentException if there is none, or too many
   */
  public FfnSkipFit(int layers) {
    if (layers < 1 || layers > MOST_LAYERS) {
      throw new IllegalArgumentException(
          "layers is " + layers + ", expected at least 1 and at most " + MOST_LAYERS);
    }
    cosines = new float[layers][0];
    counts = new int[layers];
  }

  /**
   * Adds cosines of one layer's block.
   *
   * @param layer 0 or more
   * @param values one for each token; NaN, as of a block that was skipped, counts for nothing
   * @throws IllegalArgumentException if the model has no such layer
   */
  public void add(int layer, float... values) {
    requireLayer(layer);
    Named.present("values", values);
    if (counts[layer] + values.length > cosines[layer].length) {
      int room = Math.max(counts[layer] + values.length, 2 * cosines[layer].length);
      cosines[layer] = Arrays.copyOf(cosines[layer], room);
    }
    for (float value : values) {
      if (!Float.isNaN(value)) {
        cosines[layer][counts[layer]++] = value;
      }
    }
  }

  /**
   * Mean cosine of a layer's block.
   *
   * @param layer 0 or more
   * @return the mean of what was added for it
   * @throws IllegalArgumentException if the model has no such layer
   * @throws IllegalStateException if nothing was added for it
   */
  public double meanCosine(int layer) {
    requireLayer(layer);
    if (counts[layer] == 0) {
      throw new IllegalStateException("layer " + layer + " has no cosines, at least 1 is needed");
    }
    double sum = 0;
    for (int i = 0; i < counts[layer]; i++) {
      sum += cosines[layer][i];
    }
    return sum / counts[layer];
  }

  /**
   * Proposes settings under which a token that begins to skip at the first cold layer leaves out a
   * share of all blocks.
   *
   * @param share of the blocks, above 0 and below 1; rounded to whole blocks, at least one
   * @return the settings
   * @throws IllegalArgumentException if the share is out of range
   * @throws IllegalStateException if a layer has no cosines
   */
  public Settings propose(double share) {
    if (!(share > 0 && share < 1)) {
      throw new IllegalArgumentException("share is " + share + ", expected above 0 and below 1");
    }
    int layers = counts.length;
    int skipped = (int) Math.max(1, Math.round(share * layers));
    // One more than is skipped: the first of them runs, and its cosine decides about the others.
    int length = Math.min(layers, skipped + 1);
    int start = quietestRun(length);
    return new Settings(start, start + length, median(start));
  }

  /** Where the {@code length} neighbouring layers begin whose blocks turn the stream least. */
  private int quietestRun(int length) {
    double[] means = new double[counts.length];
    Arrays.setAll(means, this::meanCosine);
    int best = 0;
    double most = Double.NEGATIVE_INFINITY;
    for (int start = 0; start + length <= means.length; start++) {
      double sum = Arrays.stream(means, start, start + length).sum();
      if (sum > most) {
        most = sum;
        best = start;
      }
    }
    return best;
  }

  private float median(int layer) {
    float[] sorted = Arrays.copyOf(cosines[layer], counts[layer]);
    Arrays.sort(sorted);
    return sorted[sorted.length / 2];
  }

  private void requireLayer(int layer) {
    if (layer < 0 || layer >= counts.length) {
      throw new IllegalArgumentException(
          "layer is " + layer + ", expected 0 to " + (counts.length - 1));
    }
  }
}
