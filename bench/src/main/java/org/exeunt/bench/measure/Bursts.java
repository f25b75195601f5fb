// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import java.util.Collection;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.openjdk.jmh.results.Result;

/** Idles, then lets calls through for a moment, of which those of the first 2 ms count apart. */
public final class Bursts implements Between {
  static final long BURST_NANOS = TimeUnit.MILLISECONDS.toNanos(50);
  static final long FIRST_NANOS = TimeUnit.MILLISECONDS.toNanos(2);
  private static final int LEAST_IDLE_MILLIS = 50;
  private static final int MOST_IDLE_MILLIS = 500;

  private final Random random = new Random(1);
  private final Samples first = new Samples();
  private long begin;
  private long start;

  @Override
  public void begin() {
    first.clear();
    begin = System.nanoTime() - BURST_NANOS;
  }

  @Override
  public void before() {
    start = System.nanoTime();
    if (start - begin >= BURST_NANOS) {
      idle(TimeUnit.MILLISECONDS.toNanos(
          LEAST_IDLE_MILLIS + random.nextInt(MOST_IDLE_MILLIS - LEAST_IDLE_MILLIS + 1)));
      begin = start = System.nanoTime();
    }
  }

  private static void idle(long nanos) {
    long end = System.nanoTime() + nanos;
    for (long left = nanos; left > 0; left = end - System.nanoTime()) {
      LockSupport.parkNanos(left);
    }
  }

  @Override
  public void after() {
    if (start - begin < FIRST_NANOS) {
      first.add(System.nanoTime() - start);
    }
  }

  @Override
  public Collection<Result<?>> results() {
    return List.of(first.median(Limit.FIRST));
  }
}
