// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/**
 * Slots copied from one cache to another, or down within one. The result is the destination's K
 * after one run, as its layout keeps it.
 */
public final class KvCopyProblem extends Problem<float[]> {
  public final CacheLayout layout;
  public final Matrix k;
  public final Matrix v;
  public final boolean inPlace;
  public final int[] from;
  public final int[] to;

  /** Compaction keeps about every second slot; a copy takes the leading ones. */
  public KvCopyProblem(
      CacheLayout layout, int count, Storage storage, boolean inPlace, boolean compact, int seed) {
    super("kv_copy");
    this.layout = layout;
    this.inPlace = inPlace;
    k = layout.arrange(Matrix.normal(layout.slots, layout.heads * layout.dim, storage, 1, seed, 0));
    v = layout.arrange(Matrix.normal(layout.slots, layout.heads * layout.dim, storage, 1, seed, 1));
    Words words = new Words(seed, 4);
    from = new int[count];
    to = new int[count];
    for (int i = 0; i < count; i++) {
      from[i] = compact ? 2 * i + words.pick(i, 2) : i;
      to[i] = i;
    }
  }

  /** Bytes that must move: K and V, read and written. */
  @Override
  public long bytes() {
    return 2 * moved();
  }

  /** Bytes of the copied K and V. */
  @Override
  public long moved() {
    return 2L * from.length * layout.heads * layout.dim * k.storage().bytes();
  }

  /** Throws unless K is right after the first run. */
  @Override
  public void check(float[] kAfter) {
    Check.length("elements", k.values().length, kAfter.length);
    for (int i = 0; i < from.length; i++) {
      for (int h = 0; h < layout.heads; h++) {
        for (int d = 0; d < layout.dim; d++) {
          int at = layout.at(0, to[i], h) + d;
          Check.close("k", at, k.values()[layout.at(0, from[i], h) + d], kAfter[at], 0, 0);
        }
      }
    }
  }
}
