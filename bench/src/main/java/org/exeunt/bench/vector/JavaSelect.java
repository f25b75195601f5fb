// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import java.util.Arrays;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Peer;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_select_params;
import org.exeunt.jni.exn_selection;

/**
 * The k best of each row without sorting it: a histogram of the leading bits finds the bin of the
 * k-th score, the scores of that bin the score itself, and a last pass lists what is above. Heads
 * are summed up before.
 */
final class JavaSelect implements Peer {
  private static final int BITS = 11;

  private final float[] scores;
  private final float[] sums; // null where each row has a list of its own
  private final int heads;
  private final int rows;
  private final int cols;
  private final int k;
  private final DLTensor target;
  private final int[] keys;
  private final int[] bin;
  private final int[] counts = new int[1 << BITS];
  private final int[] indices;

  static JavaSelect of(Problem problem) {
    exn_select_params p = problem.params(exn_select_params::new);
    Matrix scores = Matrix.of(p.scores());
    int heads = Math.max(1, (int) p.heads());
    return new JavaSelect(
        scores.values(), scores.rows() / heads, heads, scores.cols(), p.selection());
  }

  JavaSelect(float[] scores, int rows, int heads, int cols, exn_selection choice) {
    this.scores = scores;
    sums = heads == 1 ? null : new float[cols];
    this.heads = heads;
    this.rows = rows;
    this.cols = cols;
    k = (int) Math.min(choice.k(), cols);
    target = choice.indices();
    keys = new int[cols];
    bin = new int[cols];
    indices = new int[rows * k];
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
  public void deliver() {
    Problem.put(target, indices);
  }
}
