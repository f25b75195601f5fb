// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import java.util.Arrays;

/** The tokens of a sequence so far, its prompt in front. */
public final class TokenList {
  private int[] ids;
  private int size;

  TokenList(int capacity) {
    ids = new int[Math.max(1, capacity)];
  }

  public void clear() {
    size = 0;
  }

  /** Forgets all but the first {@code count}. */
  public void cut(int count) {
    size = Math.min(size, count);
  }

  public void add(int id) {
    if (size == ids.length) {
      ids = Arrays.copyOf(ids, 2 * size);
    }
    ids[size++] = id;
  }

  int get(int index) {
    return ids[index];
  }

  int size() {
    return size;
  }

  int[] range(int from, int to) {
    return Arrays.copyOfRange(ids, from, to);
  }
}
