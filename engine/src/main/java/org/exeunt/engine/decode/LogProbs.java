// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Tensor;
import org.exeunt.engine.model.LlamaWeights;

/**
 * How probable given tokens are. The head reads its weights once for up to 64 tokens; no logits are
 * written, so the memory that this takes does not grow with the vocabulary.
 *
 * @param values the natural logarithm of each token's probability; NaN where none was asked for
 * @param argmax the token that was the most probable one; -1 where none was asked for
 */
public record LogProbs(float[] values, int[] argmax) {
  /**
   * Log-probabilities of one token after each of some states.
   *
   * @param hidden [R,D], F32, states after the last layer, before the final norm
   * @param labels [R] the tokens; -1: none is asked for
   * @throws IllegalArgumentException if there is not one for each state, or the vocabulary lacks it
   */
  public static LogProbs of(LlamaWeights weights, Tensor hidden, int... labels) {
    int rows = labels.length;
    if (hidden.size(0) != rows) {
      throw new IllegalArgumentException(rows + " labels for " + hidden.size(0) + " states");
    }
    int first = 0;
    while (first < rows && labels[first] == -1) {
      first++;
    }
    float[] values = new float[rows];
    int[] argmax = new int[rows];
    Arrays.fill(values, 0, first, Float.NaN);
    Arrays.fill(argmax, -1);
    if (first == rows) {
      return new LogProbs(values, argmax);
    }
    int asked = rows - first;
    try (Scope scope = Scope.open()) {
      Tensor wanted = scope.allocate(weights.device(), DType.I32, asked);
      Statistics out = Statistics.allocate(
          scope, weights.device(), asked, Statistic.ARGMAX, Statistic.LABEL_LOG_P);
      Head.head(weights, hidden.rows(first, rows))
          .labels(wanted.copyFrom(Arrays.copyOfRange(labels, first, rows)))
          .out(out)
          .build(scope)
          .run();
      System.arraycopy(out.labelLogP().toFloatArray(), 0, values, first, asked);
      int[] found = out.argmax().toIntArray();
      for (int i = 0; i < asked; i++) {
        argmax[first + i] = labels[first + i] < 0 ? -1 : found[i];
      }
    }
    return new LogProbs(values, argmax);
  }

  /** Those of some of the tokens. */
  public LogProbs range(int from, int to) {
    return new LogProbs(Arrays.copyOfRange(values, from, to), Arrays.copyOfRange(argmax, from, to));
  }

  /** The log-probability of all tokens one after another. */
  public double sum() {
    double sum = 0;
    for (float value : values) {
      sum += value;
    }
    return sum;
  }

  /** {@code exp} of the mean of the negated log-probabilities. */
  public double perplexity() {
    return Math.exp(-sum() / values.length);
  }
}
