// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

/**
 * The generator of ops/README.md: every value is made from a 64-bit word, in each language
 * the same.
 */
final class Words {
  private static final long GOLDEN = 0x9E3779B97F4A7C15L;

  private Words() {}

  static long mix(long z) {
    z = (z ^ z >>> 30) * 0xBF58476D1CE4E5B9L;
    z = (z ^ z >>> 27) * 0x94D049BB133111EBL;
    return z ^ z >>> 31;
  }

  static long word(long seed, long stream, long i) {
    return mix(mix(seed * GOLDEN + stream) + (i + 1) * GOLDEN);
  }

  static float unit(long w) {
    return (w >>> 40) * 0x1p-24f;
  }

  static float bell(long w) {
    long sum = (w & 0xFFFF) + (w >>> 16 & 0xFFFF) + (w >>> 32 & 0xFFFF) + (w >>> 48);
    return (sum - 131070) * 0x1p-15f;
  }

  /** {@code (w >> 32) % count}. */
  static long high(long w, int count) {
    return (w >>> 32) % count;
  }

  /** The numbers below {@code n} in a random order. */
  static int[] shuffled(int n, long seed, long stream) {
    int[] order = new int[n];
    for (int i = 0; i < n; i++) {
      order[i] = i;
    }
    for (int i = n - 1; i > 0; i--) {
      int j = (int) remainder(word(seed, stream, i), i + 1);
      int moved = order[i];
      order[i] = order[j];
      order[j] = moved;
    }
    return order;
  }

  /** {@code w % count} of the word as an unsigned number. */
  static long remainder(long w, long count) {
    return Long.remainderUnsigned(w, count);
  }
}
