// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.util.Arrays;

/**
 * Tensors [outer, N, inner], of which the listed entries are kept; the result is the first one's
 * output. With scores the list is not given: it is the best of their sums, which a run finds.
 */
public final class GatherProblem extends Problem<float[]> {
  /** Each one row. */
  public final Matrix[] tensors;

  public final int outer;
  public final int entries;
  public final int inner;
  public final boolean inPlace;

  /** [heads, N], or null. */
  public final Matrix scores;

  /** Ascending. */
  public final int[] list;

  /** With 0 heads the list is given. */
  public GatherProblem(Storage storage, int count, int outer, int entries, int inner, int kept,
      boolean inPlace, int heads, int seed) {
    super("gather");
    this.outer = outer;
    this.entries = entries;
    this.inner = inner;
    this.inPlace = inPlace;
    tensors = new Matrix[count];
    for (int t = 0; t < count; t++) {
      tensors[t] = Matrix.normal(1, outer * entries * inner, storage, 1, seed, 16 + t);
    }
    scores = heads == 0 ? null : Matrix.normal(heads, entries, Storage.F32, 1, seed, 0);
    list = scores != null
        ? SelectProblem.best(scores, heads, 0, kept)
        : Arrays.copyOf(new Words(seed, 1).shuffled(entries), kept);
    Arrays.sort(list);
  }

  /** Bytes that must move: entries read and written, the list, the scores. */
  @Override
  public long bytes() {
    return 2 * moved() + 4L * list.length + (scores == null ? 0 : scores.bytes());
  }

  /** Bytes of the entries. */
  @Override
  public long moved() {
    long entry = (long) outer * inner * tensors[0].storage().bytes();
    return entry * list.length * tensors.length;
  }

  /** Entries of an output along its axis. */
  public int room() {
    return inPlace ? entries : list.length;
  }

  /** Throws unless the first output is right after the first run. */
  @Override
  public void check(float[] out) {
    Check.length("elements", outer * room() * inner, out.length);
    for (int o = 0; o < outer; o++) {
      for (int i = 0; i < list.length; i++) {
        for (int d = 0; d < inner; d++) {
          int to = (o * room() + i) * inner + d;
          Check.close(
              "out", to, tensors[0].values()[(o * entries + list[i]) * inner + d], out[to], 0, 0);
        }
      }
    }
  }
}
