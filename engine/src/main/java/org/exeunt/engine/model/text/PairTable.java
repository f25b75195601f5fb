// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import java.util.Arrays;

/** What pairs of tokens become, by rank: a hash table without objects. */
final class PairTable {
  private static final int FREE = -1;

  private final long[] pairs;
  private final int[] ranks;
  private final int[] results;

  /** @param most pairs that will be put in */
  PairTable(int most) {
    int size = Integer.highestOneBit(Math.max(1, most)) * 4;
    pairs = new long[size];
    ranks = new int[size];
    results = new int[size];
    Arrays.fill(ranks, FREE);
  }

  /** Unless the pair is there already. */
  void put(int left, int right, int rank, int result) {
    int slot = slot(left, right);
    if (ranks[slot] == FREE) {
      pairs[slot] = pair(left, right);
      ranks[slot] = rank;
      results[slot] = result;
    }
  }

  /** Null for two that stay two. */
  Merges.Merge get(int left, int right) {
    int slot = slot(left, right);
    return ranks[slot] == FREE ? null : new Merges.Merge(ranks[slot], results[slot]);
  }

  private int slot(int left, int right) {
    long pair = pair(left, right);
    long hash = pair * 0x9e3779b97f4a7c15L;
    int slot = (int) (hash >>> 32) & pairs.length - 1;
    while (ranks[slot] != FREE && pairs[slot] != pair) {
      slot = slot + 1 & pairs.length - 1;
    }
    return slot;
  }

  private static long pair(int left, int right) {
    return (long) left << 32 | right & 0xffffffffL;
  }
}
