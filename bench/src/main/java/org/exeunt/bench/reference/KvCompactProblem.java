// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.Arrays;

/**
 * A cache of one sequence that keeps some of its slots, each head its own if need be. The result is
 * the destination's K after one run, as its layout keeps it.
 */
public final class KvCompactProblem extends Problem<float[]> {
  public final CacheLayout layout;
  public final CacheLayout destination;
  public final Matrix k;
  public final Matrix v;
  public final boolean inPlace;
  public final boolean perHead;

  /** One list, or one for each head. */
  public final int[][] lists;

  public KvCompactProblem(CacheLayout layout, CacheLayout destination, int kept, Storage storage,
      boolean inPlace, boolean perHead, int seed) {
    super("kv_compact");
    this.layout = layout;
    this.destination = destination;
    this.inPlace = inPlace;
    this.perHead = perHead;
    int width = layout.heads * layout.dim;
    k = layout.arrange(Matrix.normal(layout.slots, width, storage, 1, seed, 0));
    v = layout.arrange(Matrix.normal(layout.slots, width, storage, 1, seed, 1));
    lists = new int[perHead ? layout.heads : 1][];
    for (int g = 0; g < lists.length; g++) {
      lists[g] = Arrays.copyOf(new Words(seed, 64 + g).shuffled(layout.slots), kept);
      Arrays.sort(lists[g]);
    }
  }

  /** The list of a head. */
  public int[] list(int head) {
    return lists[perHead ? head : 0];
  }

  /** Bytes that must move: K and V, read and written, and the lists. */
  @Override
  public long bytes() {
    return 2 * moved() + 4L * lists.length * lists[0].length;
  }

  /** Bytes of the kept K and V. */
  @Override
  public long moved() {
    return 2L * lists[0].length * layout.heads * layout.dim * k.storage().bytes();
  }

  /** Throws unless K is right after the first run. */
  @Override
  public void check(float[] kAfter) {
    Check.length("elements", destination.elements(), kAfter.length);
    for (int h = 0; h < layout.heads; h++) {
      int[] list = list(h);
      for (int i = 0; i < list.length; i++) {
        for (int d = 0; d < layout.dim; d++) {
          int at = destination.at(0, i, h) + d;
          Check.close("k", at, k.values()[layout.at(0, list[i], h) + d], kAfter[at], 0, 0);
        }
      }
    }
  }
}
