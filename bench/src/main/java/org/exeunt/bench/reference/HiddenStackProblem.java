// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.Arrays;

/**
 * Rows and their tags pushed onto an empty stack, or all entries gathered from one that pushes have
 * filled before.
 */
public final class HiddenStackProblem extends Problem<StackResult> {
  public final int capacity;

  /** The rows of each push. */
  public final Matrix[] pushed;

  /** The tags of each push: [M, R]. */
  public final int[][] tags;

  /** Which rows are pushed; null: all. */
  public final boolean[] mask;

  /** The entries are gathered; else the only push is what runs. */
  public final boolean gather;

  public HiddenStackProblem(int capacity, int pushes, int rows, int dim, Storage storage,
      int tagsPerRow, boolean masked, boolean gather, int seed) {
    super("hidden_stack");
    this.capacity = capacity;
    this.gather = gather;
    pushed = new Matrix[pushes];
    tags = new int[pushes][rows * tagsPerRow];
    Words tagWords = new Words(seed, 4);
    for (int n = 0; n < pushes; n++) {
      pushed[n] = Matrix.normal(rows, dim, storage, 1, seed, 8 + n);
      for (int i = 0; i < tags[n].length; i++) {
        tags[n][i] = tagWords.pick((long) n * tags[n].length + i, 1000);
      }
    }
    mask = masked ? new boolean[rows] : null;
    Words maskWords = new Words(seed, 5);
    for (int r = 0; masked && r < rows; r++) {
      mask[r] = maskWords.pick(r, 3) != 0;
    }
  }

  public int rows() {
    return pushed[0].rows();
  }

  public int dim() {
    return pushed[0].cols();
  }

  /** M. */
  public int tagsPerRow() {
    return tags[0].length / rows();
  }

  public boolean pushes(int row) {
    return mask == null || mask[row];
  }

  /** Entries on the stack after all pushes. */
  public int count() {
    int kept = 0;
    for (int r = 0; r < rows(); r++) {
      kept += pushes(r) ? 1 : 0;
    }
    return kept * pushed.length;
  }

  /** Bytes that must move: rows and tags, read and written. */
  @Override
  public long bytes() {
    return 2 * moved();
  }

  /** Bytes of rows and tags. */
  @Override
  public long moved() {
    return count() * (1L * dim() * pushed[0].storage().bytes() + 4L * tagsPerRow());
  }

  /** Throws unless the entries are the rows that were pushed, in order. */
  @Override
  public void check(StackResult result) {
    Check.same("count", 0, count(), result.count());
    int entry = 0;
    for (int n = 0; n < pushed.length; n++) {
      for (int r = 0; r < rows(); r++) {
        if (pushes(r)) {
          check(n, r, entry++, result);
        }
      }
    }
  }

  private void check(int push, int row, int entry, StackResult result) {
    int dim = dim();
    float[] expected = Arrays.copyOfRange(pushed[push].values(), row * dim, (row + 1) * dim);
    for (int d = 0; d < dim; d++) {
      Check.close("rows", entry * dim + d, expected[d], result.rows()[entry * dim + d], 0, 0);
    }
    int count = tagsPerRow();
    for (int m = 0; m < count; m++) {
      Check.same("tags", m * capacity + entry, tags[push][m * rows() + row],
          result.tags()[m * capacity + entry]);
    }
  }
}
