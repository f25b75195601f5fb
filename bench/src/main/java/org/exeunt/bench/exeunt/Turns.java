// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.exeunt;

import java.util.function.IntFunction;
import org.exeunt.Op;

/**
 * One op, built for each copy of its large operands; each run takes the next. What is timed beside
 * the run is an index.
 */
final class Turns {
  private final Op[] ops;
  private int last;

  /** The op for each copy; the first run takes copy 0. */
  Turns(int copies, IntFunction<Op> op) {
    ops = new Op[copies];
    for (int i = 0; i < copies; i++) {
      ops[i] = op.apply(i);
    }
    last = copies - 1;
  }

  /** Runs the next one and returns it. */
  Op run() {
    int next = last + 1 == ops.length ? 0 : last + 1;
    last = next;
    Op op = ops[next];
    op.run();
    return op;
  }

  /** The copy that the last run took. */
  int last() {
    return last;
  }
}
