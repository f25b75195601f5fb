// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import java.util.Arrays;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.reference.SelectProblem;

/**
 * The k best of each row without sorting it: a histogram of the leading bits finds the bin of the
 * k-th score, the scores of that bin the score itself, and a last pass lists what is above. Heads
 * are summed up before.
 */
final class JavaSelect implements Contender<int[]> {
  private static final int BITS = 11;

  private final float[] scores;
  private final float[] sums; // null where each row has a list of its own
  private final int heads;
  private final int rows;
  private final int cols;
  private final int k;
  private final int[] keys;
  private final int[] bin;
  private final int[] counts = new int[1 << BITS];
  private final int[] indices;

  JavaSelect(SelectProblem problem) {
    this(problem.scores.values(), problem.rows(), problem.heads, problem.scores.cols(), problem.k);
  }

  JavaSelect(float[] scores, int rows, int heads, int cols, int k) {
    this.scores = scores;
    sums = heads == 1 ? null : new float[cols];
    this.heads = heads;
    this.rows = rows;
    this.cols = cols;
    this.k = Math.min(k, cols);
    keys = new int[cols];
    bin = new int[cols];
    indices = new int[rows * this.k];
  }

  @Override
  public Object run() {
    for (int r = 0; r < rows; r++) {
      if (sums == null) {
        select(scores, r * cols, r * k);
      } else {
        sum(r * heads * cols);
        select(sums, 0, r * k);
      }
    }
    return indices;
  }

  private void sum(int from) {
    System.arraycopy(scores, from, sums, 0, cols);
    for (int h = 1; h < heads; h++) {
      for (int j = 0; j < cols; j++) {
        sums[j] += scores[from + h * cols + j];
      }
    }
  }

  private void select(float[] scores, int from, int to) {
    Arrays.fill(counts, 0);
    for (int j = 0; j < cols; j++) {
      int bits = Float.floatToRawIntBits(scores[from + j] + 0f); // -0 becomes 0
      keys[j] = bits ^ bits >> 31 & 0x7fffffff; // ordered as the floats are
      counts[(keys[j] >> 32 - BITS) + (1 << BITS - 1)]++;
    }
    int left = k;
    int which = counts.length - 1;
    while (which > 0 && counts[which] < left) {
      left -= counts[which--];
    }
    int size = 0;
    int wanted = which - (1 << BITS - 1);
    for (int j = 0; j < cols; j++) {
      bin[size] = keys[j];
      size += keys[j] >> 32 - BITS == wanted ? 1 : 0;
    }
    if (left == 0 || size == 0) {
      return;
    }
    Arrays.sort(bin, 0, size);
    int threshold = bin[size - left];
    int equal = 0;
    for (int i = size - left; i < size && bin[i] == threshold; i++) {
      equal++;
    }
    int at = to;
    for (int j = 0; j < cols && at < to + k; j++) {
      boolean tie = keys[j] == threshold && equal > 0;
      indices[at] = j;
      at += keys[j] > threshold || tie ? 1 : 0;
      equal -= tie ? 1 : 0;
    }
  }

  @Override
  public int[] result() {
    return indices;
  }
}
