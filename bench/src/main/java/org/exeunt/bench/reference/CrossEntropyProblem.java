// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.stream.IntStream;

/** Mean cross-entropy of rows of logits and its gradient, in the storage of the logits. */
public final class CrossEntropyProblem extends Problem<LossAndGrad> {
  public final Normalizer normalizer;
  public final Matrix logits;

  /** The labels {@code random} of the case tables. */
  public final int[] labels;

  public CrossEntropyProblem(Normalizer normalizer, Matrix logits, int seed) {
    super("cross_entropy");
    this.normalizer = normalizer;
    this.logits = logits;
    Words words = new Words(seed, 1);
    labels = new int[logits.rows()];
    for (int r = 0; r < labels.length; r++) {
      labels[r] = (int) Long.remainderUnsigned(words.word(r), logits.cols());
    }
  }

  /** Bytes that must be read and written. */
  @Override
  public long bytes() {
    return 2 * logits.bytes();
  }

  @Override
  public void check(LossAndGrad result) {
    Check.length("gradient", logits.values().length, result.grad.length);
    double sum =
        IntStream.range(0, logits.rows())
            .parallel()
            .mapToDouble(r -> checkRow(r, result.grad))
            .sum();
    Check.close("loss", 0, sum / logits.rows(), result.loss, Check.F32_TOLERANCE, 1e-2);
  }

  private double checkRow(int row, float[] grad) {
    int cols = logits.cols();
    double[] z = Rows.row(logits, row);
    double[] p = Rows.probabilities(normalizer, z);
    double tolerance = Check.tolerance(logits.storage());
    for (int c = 0; c < cols; c++) {
      double slope = normalizer == Normalizer.SOFTMAX ? 1 : 1 / (1 + Math.abs(z[c]));
      double expected = slope * (p[c] - (c == labels[row] ? 1 : 0)) / logits.rows();
      // p - 1 cancels in f32 where p is nearly 1, so there the error is measured against 1.
      double floor = c == labels[row] ? 1e-2 * slope / logits.rows() : 1e-30;
      Check.close(
          "gradient", (long) row * cols + c, expected, grad[row * cols + c], tolerance, floor);
    }
    return -Math.log(p[labels[row]]);
  }
}
