// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/**
 * A learned exit gate: {@code repeats} residual SiLU blocks that share one matrix, then a linear
 * layer with one or two classes. No repeats make it the linear gate.
 */
public final class GateProblem extends Problem<float[]> {
  public final int repeats;
  public final Matrix features;

  /** Null for the linear gate. */
  public final Matrix hiddenWeight;

  /** Null: none. */
  public final Matrix hiddenBias;

  /** One row for each class. */
  public final Matrix outWeight;

  public final Matrix outBias;

  /** A gate with the weights of the case tables, all stored like the features. */
  public GateProblem(
      Matrix features, int repeats, int classes, float weightScale, boolean hiddenBias, int seed) {
    super("gate");
    int width = features.cols();
    Storage storage = features.storage();
    this.repeats = repeats;
    this.features = features;
    hiddenWeight = repeats == 0 ? null : Matrix.normal(width, width, storage, weightScale, seed, 1);
    this.hiddenBias = hiddenBias ? Matrix.normal(1, width, Storage.F32, 0.125f, seed, 2) : null;
    outWeight = Matrix.normal(classes, width, storage, weightScale, seed, 3);
    outBias = Matrix.normal(1, classes, Storage.F32, 0.125f, seed, 4);
  }

  /** Bytes that must be read: the weights once, and the features. */
  @Override
  public long bytes() {
    return features.bytes() + outWeight.bytes() + (repeats == 0 ? 0 : hiddenWeight.bytes());
  }

  @Override
  public void check(float[] prob) {
    Check.length("probabilities", features.rows(), prob.length);
    for (int r = 0; r < features.rows(); r++) {
      double[] y = Rows.row(features, r);
      for (int i = 0; i < repeats; i++) {
        y = block(y);
      }
      // softmax of two logits is the sigmoid of their difference.
      int last = outWeight.rows() - 1;
      double logit = dot(y, outWeight, last) + outBias.values()[last];
      logit -= last == 0 ? 0 : dot(y, outWeight, 0) + outBias.values()[0];
      Check.close("probability", r, 1 / (1 + Math.exp(-logit)), prob[r], Check.F32_TOLERANCE, 1e-6);
    }
  }

  private double[] block(double[] y) {
    double[] next = new double[y.length];
    for (int o = 0; o < y.length; o++) {
      double h = dot(y, hiddenWeight, o) + (hiddenBias == null ? 0 : hiddenBias.values()[o]);
      next[o] = y[o] + h / (1 + Math.exp(-h));
    }
    return next;
  }

  private static double dot(double[] y, Matrix weight, int row) {
    double sum = 0;
    for (int i = 0; i < y.length; i++) {
      sum += y[i] * weight.values()[row * y.length + i];
    }
    return sum;
  }
}
