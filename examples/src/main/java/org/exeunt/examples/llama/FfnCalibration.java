// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import java.util.Arrays;

/**
 * Measures how far each feed-forward block turns the residual stream, and proposes what {@link
 * FfnSkip} needs to know of a model.
 *
 * <p>The proposal: the neighbouring layers that turn it least on average, and as threshold the
 * median cosine of the first of them, so that half of the tokens begin to skip there. It is a start
 * to try from, measured on one text, not a promise of quality.
 */
public final class FfnCalibration {
  private final double[] meanCosine;
  private final float[][] cosines;

  private FfnCalibration(float[][] cosines) {
    this.cosines = cosines;
    meanCosine = Arrays.stream(cosines).mapToDouble(FfnCalibration::mean).toArray();
  }

  /** Runs {@code ids}, at least one, in full and looks on. */
  public static FfnCalibration of(LlamaWeights weights, int... ids) {
    float[][] cosines = new float[weights.config().layers()][ids.length];
    LayerObserver measure = (depth, rows) -> {
      if (depth > 0) {
        float[] found = rows.cosine().toFloatArray();
        System.arraycopy(found, 0, cosines[depth - 1], rows.positionOf(0), found.length);
      }
    };
    try (Decoder decoder =
        new Decoder(weights, DecoderOptions.FULL.withObserver(measure), 1, ids.length)) {
      decoder.prefill(0, ids);
    }
    return new FfnCalibration(cosines);
  }

  private static double mean(float[] values) {
    double sum = 0;
    for (float value : values) {
      sum += value;
    }
    return sum / values.length;
  }

  /** Mean cosine of each layer's block. */
  public double meanCosine(int layer) {
    return meanCosine[layer];
  }

  /**
   * Proposes settings under which a token that begins to skip at once passes {@code share} of all
   * blocks.
   *
   * @param share of the blocks, above 0 and below 1
   * @param warmUp tokens that run in full
   */
  public FfnSkip propose(double share, int warmUp) {
    int layers = meanCosine.length;
    int wanted = (int) Math.max(1, Math.round(share * layers));
    int start = quietestRun(Math.min(layers, wanted + 1));
    int end = Math.min(layers, start + wanted + 1);
    // The first of them always runs: its cosine decides about the others.
    return new FfnSkip(start, end, warmUp, median(cosines[start]), -1);
  }

  /** Where the {@code length} neighbouring layers begin whose blocks turn the stream least. */
  private int quietestRun(int length) {
    int best = 0;
    double most = Double.NEGATIVE_INFINITY;
    for (int start = 0; start + length <= meanCosine.length; start++) {
      double sum = Arrays.stream(meanCosine, start, start + length).sum();
      if (sum > most) {
        most = sum;
        best = start;
      }
    }
    return best;
  }

  private static float median(float[] values) {
    float[] sorted = values.clone();
    Arrays.sort(sorted);
    return sorted[sorted.length / 2];
  }
}
