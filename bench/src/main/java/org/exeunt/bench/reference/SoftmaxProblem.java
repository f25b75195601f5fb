// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.stream.IntStream;

/** Probabilities of the rows of a matrix of logits, in the storage of the logits. */
public final class SoftmaxProblem extends Problem<float[]> {
  public final Normalizer normalizer;
  public final Matrix logits;

  public SoftmaxProblem(Normalizer normalizer, Matrix logits) {
    super("stablemax");
    this.normalizer = normalizer;
    this.logits = logits;
  }

  /** Bytes that must be read and written. */
  @Override
  public long bytes() {
    return 2 * logits.bytes();
  }

  /** Throws unless {@code probabilities}, widened to f32, are right. */
  @Override
  public void check(float[] probabilities) {
    Check.length("probabilities", logits.values().length, probabilities.length);
    double tolerance = Check.tolerance(logits.storage());
    int cols = logits.cols();
    IntStream.range(0, logits.rows()).parallel().forEach(r -> {
      double[] p = Rows.probabilities(normalizer, Rows.row(logits, r));
      for (int c = 0; c < cols; c++) {
        Check.close("probability", (long) r * cols + c, p[c], probabilities[r * cols + c],
            tolerance, 1e-30);
      }
    });
  }
}
