// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import java.util.concurrent.TimeUnit;
import org.exeunt.bench.contenders.Contender;

/**
 * Runs a contender until it gets no faster, and at least once on each copy of its operands: what
 * has not been used since it was allocated can take several times as long. Java's compilers need a
 * fraction of a second on a quiet machine and several on a busy one, where a fixed warm-up would
 * time the interpreter. Of a native contender only the call is Java, which half of that time
 * without progress shows.
 */
public final class WarmUp {
  private static final long LONGEST_NANOS = TimeUnit.SECONDS.toNanos(8);
  private static final long QUIET_NANOS = TimeUnit.MILLISECONDS.toNanos(300);
  private static final long QUIET_NATIVE_NANOS = TimeUnit.MILLISECONDS.toNanos(150);
  private static final int QUIET_CALLS = 10;
  private static final double IMPROVEMENT = 0.97;

  private WarmUp() {}

  /** As long as it takes; {@code java}: what it does is compiled at run time. */
  public static void run(Contender contender, boolean java, int copies) {
    long least = java ? QUIET_NANOS : QUIET_NATIVE_NANOS;
    long begin = System.nanoTime();
    long improved = begin;
    long best = Long.MAX_VALUE;
    int calls = 0;
    int all = 0;
    while (true) {
      long start = System.nanoTime();
      contender.run();
      long end = System.nanoTime();
      calls++;
      all++;
      if (end - start < best * IMPROVEMENT) {
        best = end - start;
        improved = end;
        calls = 0;
      }
      boolean quiet = calls >= QUIET_CALLS && all >= copies && end - improved >= least;
      if (quiet || end - begin >= LONGEST_NANOS) {
        return;
      }
    }
  }
}
