// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/**
 * How many tokens each partition of an image may keep, by sums over a grid's cells (the paper) or
 * by top tokens counted in strips (the code). The result is the budgets of each image, the full
 * image's first; then, if tokens are counted, which ones were.
 */
public final class HiredBudgetProblem extends Problem<int[]> {
  /** A row for each image. */
  public final Matrix attention;

  public final int patchRows;
  public final int patchCols;
  public final int gridRows;
  public final int gridCols;
  public final double rate;
  public final double alpha;

  /** Top tokens are counted in strips; else all are summed up in cells of the grid. */
  public final boolean count;

  public HiredBudgetProblem(Matrix attention, int patchRows, int patchCols, int gridRows,
      int gridCols, double rate, double alpha, boolean count) {
    super("hired_budget");
    this.attention = attention;
    this.patchRows = patchRows;
    this.patchCols = patchCols;
    this.gridRows = gridRows;
    this.gridCols = gridCols;
    this.rate = rate;
    this.alpha = alpha;
    this.count = count;
  }

  public int images() {
    return attention.rows();
  }

  /** Tokens of a partition. */
  public int tokens() {
    return patchRows * patchCols;
  }

  /** Sub-images of an image. */
  public int parts() {
    return gridRows * gridCols;
  }

  /** How many tokens of an image count. */
  public int top() {
    return (int) (tokens() * (1 - alpha));
  }

  private int whole() {
    return (int) ((1 + parts()) * tokens() * rate);
  }

  /** What the full image may keep. */
  public int full() {
    return Math.min((int) (whole() * alpha), tokens());
  }

  /** What the sub-images may keep together. */
  public int shared() {
    return Math.min(whole() - full(), parts() * tokens());
  }

  /** The sub-image that shows a token of the full one. */
  public int region(int token) {
    if (count) {
      return token / (tokens() / parts());
    }
    int row = token / patchCols / (patchRows / gridRows);
    return row * gridCols + token % patchCols / (patchCols / gridCols);
  }

  /** Bytes that must move: the attention, budgets and marks. */
  @Override
  public long bytes() {
    return images() * (4L * tokens() + 4L * (1 + parts()) + (count ? tokens() : 0));
  }

  /** Throws unless budgets and marks are right. */
  @Override
  public void check(int[] result) {
    int each = 1 + parts();
    int budgets = images() * each;
    Check.length("words", budgets + (count ? images() * tokens() : 0), result.length);
    for (int image = 0; image < images(); image++) {
      double[] worth = new double[parts()];
      double all = 0;
      int[] marks = new int[tokens()];
      if (count) {
        for (int token : SelectProblem.best(attention, 1, image, top())) {
          marks[token] = 1;
        }
      }
      for (int token = 0; token < tokens(); token++) {
        double value = count ? marks[token] : attention.values()[image * tokens() + token];
        worth[region(token)] += value;
        all += value;
      }
      Check.same("budget", image * each, full(), result[image * each]);
      for (int i = 0; i < parts(); i++) {
        int share = (int) ((float) (worth[i] / all) * shared());
        Check.same("budget", image * each + 1 + i, Math.min(share, tokens()),
            result[image * each + 1 + i]);
      }
      for (int token = 0; count && token < tokens(); token++) {
        Check.same("mark", token, marks[token], result[budgets + image * tokens() + token]);
      }
    }
  }
}
