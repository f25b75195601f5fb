// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/** Rows gathered or scattered by a list whose padding is negative. */
public final class RowCompactionProblem extends Problem<float[]> {
  public final Matrix input;
  public final int[] list;
  public final boolean gather;

  /** Lists every row, or about every second one and then -1. */
  public RowCompactionProblem(Matrix input, boolean gather, boolean all, int seed) {
    super("row_compaction");
    this.input = input;
    this.gather = gather;
    Words words = new Words(seed, 5);
    list = new int[input.rows()];
    int next = 0;
    for (int i = 0; i < list.length; i++) {
      while (!all && next < list.length && words.pick(next, 2) != 0) {
        next++;
      }
      list[i] = next < list.length ? next++ : -1;
    }
  }

  private long listed() {
    long count = 0;
    for (int row : list) {
      count += row >= 0 ? 1 : 0;
    }
    return count;
  }

  /** Bytes that must move. */
  @Override
  public long bytes() {
    return 2 * moved();
  }

  /** Bytes of the listed rows. */
  @Override
  public long moved() {
    return listed() * input.cols() * input.storage().bytes();
  }

  /** Throws unless the rows that were moved are where they belong. */
  @Override
  public void check(float[] out) {
    int width = input.cols();
    Check.length("elements", input.values().length, out.length);
    for (int i = 0; i < list.length; i++) {
      int from = gather ? list[i] : i;
      int to = gather ? i : list[i];
      for (int c = 0; list[i] >= 0 && c < width; c++) {
        Check.close(
            "out", to * width + c, input.values()[from * width + c], out[to * width + c], 0, 0);
      }
    }
  }
}
