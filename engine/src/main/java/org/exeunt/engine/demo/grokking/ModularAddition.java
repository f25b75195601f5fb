// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.grokking;

import java.util.Random;

/**
 * All pairs (a, b) with a + b mod p as the label, in a fixed random order, cut into training and
 * test.
 *
 * @param left a of each pair
 * @param right b of each pair
 * @param labels (a + b) mod p
 */
public record ModularAddition(int[] left, int[] right, int[] labels) {
  /** Training and test pairs. */
  public record Split(ModularAddition train, ModularAddition test) {}

  /**
   * All pairs mod {@code p}; the first {@code trainShare} of a shuffle by {@code seed} is for
   * training.
   */
  public static Split split(int p, double trainShare, long seed) {
    int[] pairs = new int[p * p];
    Random random = new Random(seed);
    for (int i = 0; i < pairs.length; i++) {
      int j = random.nextInt(i + 1);
      pairs[i] = pairs[j];
      pairs[j] = i;
    }
    int trained = (int) (pairs.length * trainShare);
    return new Split(of(p, pairs, 0, trained), of(p, pairs, trained, pairs.length));
  }

  private static ModularAddition of(int p, int[] pairs, int from, int to) {
    ModularAddition result =
        new ModularAddition(new int[to - from], new int[to - from], new int[to - from]);
    for (int i = from; i < to; i++) {
      result.left[i - from] = pairs[i] / p;
      result.right[i - from] = pairs[i] % p;
      result.labels[i - from] = (pairs[i] / p + pairs[i] % p) % p;
    }
    return result;
  }

  /** Number of pairs. */
  public int size() {
    return labels.length;
  }
}
