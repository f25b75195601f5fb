// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.exit;

/**
 * The depths at which a model may be left: every {@code stride}-th from {@code first} on, and the
 * last.
 *
 * @param last the number of layers
 */
record ExitPoints(int first, int stride, int last) {
  boolean contains(int depth) {
    return depth == last || depth >= first && depth < last && (depth - first) % stride == 0;
  }

  /** Number of exit points not deeper than {@code depth}. */
  int upTo(int depth) {
    int count = 0;
    for (int d = first; d <= depth; d++) {
      count += contains(d) ? 1 : 0;
    }
    return count;
  }

  @Override
  public String toString() {
    return first == 1 && stride == 1
        ? "every layer"
        : first + ", " + (first + stride) + ", … " + last;
  }
}
