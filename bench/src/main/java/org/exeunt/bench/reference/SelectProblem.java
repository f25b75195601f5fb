// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.Arrays;
import java.util.Comparator;
import java.util.stream.IntStream;

/** The k best columns of each row, or of the sum of several, ascending; the result is [R, k]. */
public final class SelectProblem extends Problem<int[]> {
  /** [R * heads, N]. */
  public final Matrix scores;

  public final int heads;
  public final int k;

  public SelectProblem(Matrix scores, int heads, int k) {
    super("select");
    this.scores = scores;
    this.heads = heads;
    this.k = k;
  }

  /** Lists. */
  public int rows() {
    return scores.rows() / heads;
  }

  /** Bytes that must move: the scores, and a list for each row. */
  @Override
  public long bytes() {
    return scores.bytes() + 4L * k * rows();
  }

  /** Throws unless {@code indices} is right. */
  @Override
  public void check(int[] indices) {
    Check.length("indices", rows() * k, indices.length);
    for (int r = 0; r < rows(); r++) {
      int[] best = best(scores, heads, r, k);
      for (int i = 0; i < k; i++) {
        Check.same("indices", r * k + i, best[i], indices[r * k + i]);
      }
    }
  }

  /** Ascending; equal scores go to the smaller column, since the sort is stable. */
  static int[] best(Matrix scores, int heads, int row, int k) {
    float[] sum = new float[scores.cols()];
    for (int j = 0; j < sum.length; j++) {
      for (int h = 0; h < heads; h++) {
        sum[j] += scores.values()[(row * heads + h) * sum.length + j];
      }
    }
    int[] columns =
        IntStream.range(0, scores.cols())
            .boxed()
            .sorted(Comparator.comparingDouble(j -> 0.0 - sum[j]))
            .limit(k)
            .mapToInt(j -> j)
            .toArray();
    Arrays.sort(columns);
    return columns;
  }
}
