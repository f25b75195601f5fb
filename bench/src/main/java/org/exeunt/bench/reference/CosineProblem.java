// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.stream.IntStream;

/** Cosine similarity of the rows of two matrices. */
public final class CosineProblem extends Problem<float[]> {
  public final Matrix a;
  public final Matrix b;

  public CosineProblem(Matrix a, Matrix b) {
    super("cosine");
    this.a = a;
    this.b = b;
  }

  /** Bytes that must be read. */
  @Override
  public long bytes() {
    return a.bytes() + b.bytes();
  }

  @Override
  public void check(float[] cosines) {
    Check.length("cosines", a.rows(), cosines.length);
    IntStream.range(0, a.rows()).parallel().forEach(r -> {
      double ab = 0;
      double aa = 0;
      double bb = 0;
      for (int i = r * a.cols(); i < (r + 1) * a.cols(); i++) {
        double x = a.values()[i];
        double y = b.values()[i];
        ab += x * y;
        aa += x * x;
        bb += y * y;
      }
      Check.close("cosine", r, ab / Math.sqrt(aa * bb), cosines[r], 1e-5, 1);
    });
  }
}
