// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/**
 * Rows of K and V written to their slots of a cache of zeros. The result is K and then V after one
 * run, as the layout keeps them.
 */
public final class KvAppendProblem extends Problem<float[]> {
  public final CacheLayout layout;

  /** How the cache stores its elements. */
  public final Storage cache;

  /** [R, heads * dim] each. */
  public final Matrix k;

  public final Matrix v;
  public final int[] sequence;
  public final int[] slot;

  /** Rows go to the sequences in turn, to ascending slots from the first or down from the last. */
  public KvAppendProblem(
      CacheLayout layout, int rows, Storage storage, Storage cache, boolean last, int seed) {
    super("kv_append");
    this.layout = layout;
    this.cache = cache;
    k = Matrix.normal(rows, layout.heads * layout.dim, storage, 1, seed, 0);
    v = Matrix.normal(rows, layout.heads * layout.dim, storage, 1, seed, 1);
    sequence = new int[rows];
    slot = new int[rows];
    for (int r = 0; r < rows; r++) {
      sequence[r] = r % layout.sequences;
      slot[r] = last ? layout.slots - 1 - r : r / layout.sequences;
    }
  }

  /** Where a head of a row belongs. */
  public int at(int row, int head) {
    return layout.at(sequence[row], slot[row], head);
  }

  /** Bytes that must move: K and V, read and written. */
  @Override
  public long bytes() {
    return 2L * k.rows() * k.cols() * (k.storage().bytes() + cache.bytes());
  }

  /** Bytes of the rows if the cache keeps them as they are; 0 if it converts them. */
  @Override
  public long moved() {
    return k.storage() == cache ? bytes() / 2 : 0;
  }

  /** Throws unless the rows are in their slots and nothing else is there. */
  @Override
  public void check(float[] cached) {
    int elements = layout.elements();
    Check.length("elements", 2 * elements, cached.length);
    float[] expected = new float[2 * elements];
    for (int r = 0; r < k.rows(); r++) {
      for (int h = 0; h < layout.heads; h++) {
        for (int d = 0; d < layout.dim; d++) {
          int from = r * k.cols() + h * layout.dim + d;
          expected[at(r, h) + d] = cache.stored(k.values()[from]);
          expected[elements + at(r, h) + d] = cache.stored(v.values()[from]);
        }
      }
    }
    for (int i = 0; i < expected.length; i++) {
      Check.close("cache", i, expected[i], cached[i], 0, 0);
    }
  }
}
