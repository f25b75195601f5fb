// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/** The generator of the shared case tables; their README defines it. */
final class Words {
  private static final long GOLDEN = 0x9E3779B97F4A7C15L;

  private final long start;

  Words(int seed, int stream) {
    start = mix(seed * GOLDEN + stream);
  }

  long word(long index) {
    return mix(start + (index + 1) * GOLDEN);
  }

  /** Near-normal, deviation 1.155. */
  float bell(long index) {
    long w = word(index);
    long sum = (w & 0xFFFF) + (w >>> 16 & 0xFFFF) + (w >>> 32 & 0xFFFF) + (w >>> 48);
    return (sum - 131070) * 0x1p-15f;
  }

  /** Uniform in [0, 1). */
  float unit(long index) {
    return (word(index) >>> 40) * 0x1p-24f;
  }

  /** The word as an unsigned number, modulo {@code count}. */
  int pick(long index, int count) {
    return (int) Long.remainderUnsigned(word(index), count);
  }

  /** The numbers below {@code count} in a random order. */
  int[] shuffled(int count) {
    int[] order = new int[count];
    for (int i = 0; i < count; i++) {
      order[i] = i;
    }
    for (int i = count - 1; i > 0; i--) {
      int j = pick(i, i + 1);
      int moved = order[i];
      order[i] = order[j];
      order[j] = moved;
    }
    return order;
  }

  private static long mix(long value) {
    long z = (value ^ value >>> 30) * 0xBF58476D1CE4E5B9L;
    z = (z ^ z >>> 27) * 0x94D049BB133111EBL;
    return z ^ z >>> 31;
  }
}
