// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import java.util.Arrays;
import org.exeunt.bench.Contender;
import org.exeunt.bench.reference.ExitRuleProblem;

/** A rule needs no vectors: plain loops over the active rows, layer after layer. */
final class VectorExitRule implements Contender<int[]> {
  private final ExitRuleProblem.Rule rule;
  private final float threshold;
  private final int rows;
  private final int layers;
  private final float[] scores;
  private final float[] stay;
  private final byte[] mask;
  private final int[] active;
  private final int[] exitLayer;

  VectorExitRule(ExitRuleProblem problem) {
    rule = problem.rule;
    threshold = problem.threshold;
    rows = problem.rows();
    layers = problem.layers();
    scores = problem.scores.values();
    stay = new float[rows];
    mask = new byte[rows];
    active = new int[rows];
    exitLayer = new int[rows];
  }

  @Override
  public Object run() {
    Arrays.fill(exitLayer, -1);
    Arrays.fill(stay, 1);
    for (int r = 0; r < rows; r++) {
      active[r] = r;
    }
    int count = rows;
    for (int layer = 0; layer < layers; layer++) {
      count = step(layer, count);
    }
    return exitLayer;
  }

  private int step(int layer, int count) {
    Arrays.fill(mask, (byte) 0);
    int staying = 0;
    for (int i = 0; i < count; i++) {
      int row = active[i];
      if (leaves(row, scores[layer * rows + row])) {
        mask[row] = 1;
        exitLayer[row] = layer;
      } else {
        active[staying++] = row;
      }
    }
    return staying;
  }

  private boolean leaves(int row, float score) {
    if (rule == ExitRuleProblem.Rule.THRESHOLD) {
      return score >= threshold;
    }
    stay[row] *= 1 - score;
    return 1 - stay[row] > threshold;
  }

  @Override
  public int[] result() {
    return exitLayer;
  }
}
