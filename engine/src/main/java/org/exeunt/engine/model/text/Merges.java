// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.text;

import java.util.PriorityQueue;
import java.util.function.IntConsumer;

/**
 * Joins neighbouring symbols, the best pair first, the leftmost among equals, until no pair is
 * left. The symbols form a linked list and the possible pairs a heap, so that n symbols take O(n
 * log n), however many they are.
 */
final class Merges {
  /** Of a symbol that another one has taken in. */
  private static final int TAKEN = Integer.MIN_VALUE;

  private final Rule rule;
  private final int[] symbol;
  private final int[] previous;
  private final int[] next;
  private final PriorityQueue<Candidate> candidates = new PriorityQueue<>();

  /** Two symbols become {@code result}; the lowest rank goes first. */
  record Merge(double rank, int result) {}

  /** What two neighbours become; null: they stay two. */
  interface Rule {
    Merge of(int left, int right);
  }

  private record Candidate(Merge merge, int at, int left, int right)
      implements Comparable<Candidate> {
    @Override
    public int compareTo(Candidate other) {
      int byRank = Double.compare(merge.rank, other.merge.rank);
      return byRank != 0 ? byRank : Integer.compare(at, other.at);
    }
  }

  private Merges(Rule rule, int[] symbols) {
    this.rule = rule;
    int n = symbols.length;
    symbol = symbols;
    previous = new int[n];
    next = new int[n];
    for (int i = 0; i < n; i++) {
      previous[i] = i - 1;
      next[i] = i + 1 < n ? i + 1 : -1;
    }
  }

  /** Joins {@code symbols}, which are overwritten, and hands on what is left of them. */
  static void run(Rule rule, int[] symbols, IntConsumer result) {
    new Merges(rule, symbols).run(result);
  }

  private void run(IntConsumer result) {
    for (int i = 0; i + 1 < symbol.length; i++) {
      offer(i, i + 1);
    }
    while (!candidates.isEmpty()) {
      Candidate best = candidates.poll();
      int left = best.at;
      int right = next[left];
      if (symbol[left] != best.left || right < 0 || symbol[right] != best.right) {
        continue; // an earlier merge took one of the two
      }
      symbol[left] = best.merge.result;
      symbol[right] = TAKEN;
      next[left] = next[right];
      if (next[right] >= 0) {
        previous[next[right]] = left;
        offer(left, next[right]);
      }
      if (previous[left] >= 0) {
        offer(previous[left], left);
      }
    }
    for (int i = 0; i >= 0 && symbol.length > 0; i = next[i]) {
      result.accept(symbol[i]);
    }
  }

  private void offer(int left, int right) {
    Merge merge = rule.of(symbol[left], symbol[right]);
    if (merge != null) {
      candidates.add(new Candidate(merge, left, symbol[left], symbol[right]));
    }
  }
}
