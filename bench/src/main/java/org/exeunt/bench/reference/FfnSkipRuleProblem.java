// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/**
 * One token's way through all layers, each of which may be skipped, under a rule without a budget.
 * The result is every layer's mask, [L, R].
 */
public final class FfnSkipRuleProblem extends Problem<int[]> {
  public final float threshold;

  /** One row for each layer but the last; NaN where a row skipped the layer. */
  public final Matrix cosines;

  private final int[] masks;

  /** Cosines as {@code high} of the case tables has them. */
  public FfnSkipRuleProblem(int rows, int layers, float threshold, int seed) {
    super("ffn_skip_rule");
    this.threshold = threshold;
    Words words = new Words(seed, 0);
    masks = new int[layers * rows];
    float[] measured = new float[(layers - 1) * rows];
    for (int i = 0; i < measured.length; i++) {
      boolean skipped = masks[i] == 1;
      measured[i] = skipped ? Float.NaN : 1 - words.unit(i) / 8;
      masks[i + rows] = skipped || measured[i] >= threshold ? 1 : 0;
    }
    cosines = Matrix.of(layers - 1, rows, Storage.F32, i -> measured[i]);
  }

  public int rows() {
    return cosines.cols();
  }

  public int layers() {
    return cosines.rows() + 1;
  }

  /** Bytes that move: about 21 per row and layer. */
  @Override
  public long bytes() {
    return 21L * masks.length;
  }

  @Override
  public void check(int[] result) {
    Check.length("masks", masks.length, result.length);
    for (int i = 0; i < masks.length; i++) {
      Check.same("mask", i, masks[i], result[i]);
    }
  }
}
