// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/**
 * Lengths that rows advance, or that limits crop. Every run begins with the lengths of the start.
 * The result is each row's slot, then what each row may see, then the lengths; of a crop, the
 * lengths alone.
 */
public final class KvLengthProblem extends Problem<int[]> {
  public final int[] start;
  public final int capacity;

  /** The sequence of each row; empty for a crop. */
  public final int[] sequence;

  /** One for each length; null to advance. */
  public final int[] limit;

  private KvLengthProblem(int[] start, int capacity, int[] sequence, int[] limit) {
    super("kv_length");
    this.start = start;
    this.capacity = capacity;
    this.sequence = sequence;
    this.limit = limit;
  }

  /** Rows go to the sequences in turn. */
  public static KvLengthProblem advance(
      int lengths, int rows, int capacity, boolean random, int seed) {
    int[] sequence = new int[rows];
    for (int r = 0; r < rows; r++) {
      sequence[r] = r % lengths;
    }
    return new KvLengthProblem(start(lengths, capacity, random, seed), capacity, sequence, null);
  }

  /** A limit for each length. */
  public static KvLengthProblem crop(int lengths, int capacity, boolean random, int seed) {
    Words words = new Words(seed, 1);
    int[] limit = new int[lengths];
    for (int i = 0; i < lengths; i++) {
      limit[i] = words.pick(i, capacity + 1);
    }
    return new KvLengthProblem(start(lengths, capacity, random, seed), capacity, new int[0], limit);
  }

  private static int[] start(int lengths, int capacity, boolean random, int seed) {
    Words words = new Words(seed, 0);
    int[] start = new int[lengths];
    for (int i = 0; random && i < lengths; i++) {
      start[i] = words.pick(i, capacity / 2 + 1);
    }
    return start;
  }

  /** Bytes that move: 12 for each row, or for each length that is cropped. */
  @Override
  public long bytes() {
    return 12L * (limit == null ? sequence.length : start.length);
  }

  /** Throws unless slots, what is visible and lengths are right. */
  @Override
  public void check(int[] result) {
    int rows = sequence.length;
    Check.length("words", 2 * rows + start.length, result.length);
    int[] length = start.clone();
    for (int r = 0; r < rows; r++) {
      Check.same("slot", r, length[sequence[r]]++, result[r]);
      Check.same("visible", r, length[sequence[r]], result[rows + r]);
    }
    for (int i = 0; i < length.length; i++) {
      int expected = limit == null ? length[i] : Math.min(length[i], limit[i]);
      Check.same("length", i, expected, result[2 * rows + i]);
    }
  }
}
