// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.Arrays;
import java.util.Comparator;
import java.util.stream.IntStream;

/** The k best columns of each row, ascending; the result is [R, k]. */
public final class SelectProblem {
  public final Matrix scores;
  public final int k;

  public SelectProblem(Matrix scores, int k) {
    this.scores = scores;
    this.k = k;
  }

  /** Bytes that must move: the scores, and a list for each row. */
  public long bytes() {
    return scores.bytes() + 4L * k * scores.rows();
  }

  /** Throws unless {@code indices} is right. */
  public void check(int[] indices) {
    Check.length("indices", scores.rows() * k, indices.length);
    for (int r = 0; r < scores.rows(); r++) {
      int[] best = best(scores, r, k);
      for (int i = 0; i < k; i++) {
        Check.same("indices", r * k + i, best[i], indices[r * k + i]);
      }
    }
  }

  /** Ascending; equal scores go to the smaller column, since the sort is stable. */
  static int[] best(Matrix scores, int row, int k) {
    int first = row * scores.cols();
    int[] columns = IntStream.range(0, scores.cols())
        .boxed()
        .sorted(Comparator.comparingDouble(j -> 0.0 - scores.values()[first + j]))
        .limit(k)
        .mapToInt(j -> j)
        .toArray();
    Arrays.sort(columns);
    return columns;
  }
}
