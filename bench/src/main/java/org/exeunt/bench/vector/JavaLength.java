// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import org.exeunt.bench.Contender;
import org.exeunt.bench.reference.KvLengthProblem;

/** Lengths in Java: a loop over the rows, or over the limits. */
final class JavaLength implements Contender<int[]> {
  private final int[] start;
  private final int capacity;
  private final int[] sequence;
  private final int[] limit;
  private final int[] length;
  private final int[] slot;
  private final int[] visible;

  JavaLength(KvLengthProblem problem) {
    start = problem.start;
    capacity = problem.capacity;
    sequence = problem.sequence;
    limit = problem.limit;
    length = start.clone();
    slot = new int[sequence.length];
    visible = new int[sequence.length];
  }

  @Override
  public Object run() {
    if (limit == null) {
      System.arraycopy(start, 0, length, 0, start.length);
      advance();
    } else {
      crop();
    }
    return length;
  }

  private void advance() {
    for (int r = 0; r < slot.length; r++) {
      int s = sequence[r];
      if (length[s] >= capacity) {
        throw new IllegalStateException("sequence " + s + " is full");
      }
      slot[r] = length[s]++;
      visible[r] = length[s];
    }
  }

  private void crop() {
    for (int i = 0; i < length.length; i++) {
      length[i] = Math.min(length[i], limit[i]);
    }
  }

  @Override
  public int[] result() {
    int rows = slot.length;
    int[] result = new int[2 * rows + length.length];
    System.arraycopy(slot, 0, result, 0, rows);
    System.arraycopy(visible, 0, result, rows, rows);
    System.arraycopy(length, 0, result, 2 * rows, length.length);
    return result;
  }
}
