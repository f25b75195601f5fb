// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import java.util.Arrays;
import org.exeunt.bench.Contender;
import org.exeunt.bench.reference.FfnSkipRuleProblem;

/** A rule needs no vectors: plain loops over the rows, layer after layer. */
final class JavaSkipRule implements Contender<int[]> {
  private final int rows;
  private final int layers;
  private final float threshold;
  private final float[] cosines;
  private final boolean[] skips;
  private final int[] skipped;
  private final byte[] masks;

  JavaSkipRule(FfnSkipRuleProblem problem) {
    rows = problem.rows();
    layers = problem.layers();
    threshold = problem.threshold;
    cosines = problem.cosines.values();
    skips = new boolean[rows];
    skipped = new int[rows];
    masks = new byte[layers * rows];
  }

  @Override
  public Object run() {
    Arrays.fill(skips, false);
    Arrays.fill(skipped, 0);
    Arrays.fill(masks, 0, rows, (byte) 0);
    for (int layer = 0; layer < layers - 1; layer++) {
      step(layer);
    }
    return masks;
  }

  private void step(int layer) {
    for (int r = 0; r < rows; r++) {
      skips[r] |= cosines[layer * rows + r] >= threshold;
      masks[(layer + 1) * rows + r] = (byte) (skips[r] ? 1 : 0);
      skipped[r] += skips[r] ? 1 : 0;
    }
  }

  @Override
  public int[] result() {
    int[] result = new int[masks.length];
    for (int i = 0; i < result.length; i++) {
      result[i] = masks[i];
    }
    return result;
  }
}
