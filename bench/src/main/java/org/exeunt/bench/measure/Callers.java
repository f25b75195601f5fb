// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.BrokenBarrierException;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.exeunt.bench.contenders.Contender;
import org.openjdk.jmh.results.Result;

/** One of two threads that call at once; the first one has called alone before. */
public final class Callers implements Between {
  private static final long ALONE_NANOS = TimeUnit.MILLISECONDS.toNanos(100);
  private static final long PATIENCE_SECONDS = 60;

  public final Contender op;
  private final int index;
  private final CyclicBarrier both;
  private final Samples alone = new Samples();
  private final Samples own = new Samples();
  private long start;

  /** The caller of this index; {@code both} is where the two meet. */
  public Callers(Contender op, int index, CyclicBarrier both) {
    this.op = op;
    this.index = index;
    this.both = both;
  }

  @Override
  public void begin() {
    own.clear();
    if (index == 0) {
      alone.clear();
      long end = System.nanoTime() + ALONE_NANOS;
      do {
        before();
        op.run();
        alone.add(System.nanoTime() - start);
      } while (System.nanoTime() < end);
    }
    meet();
  }

  private void meet() {
    try {
      both.await(PATIENCE_SECONDS, TimeUnit.SECONDS);
    } catch (InterruptedException | BrokenBarrierException | TimeoutException e) {
      throw new IllegalStateException("the other caller did not come", e);
    }
  }

  @Override
  public void before() {
    start = System.nanoTime();
  }

  @Override
  public void after() {
    own.add(System.nanoTime() - start);
  }

  @Override
  public Collection<Result<?>> results() {
    List<Result<?>> results = new ArrayList<>();
    results.add(own.median(Limit.CALLER + index));
    if (index == 0) {
      results.add(alone.median(Limit.ALONE));
    }
    return results;
  }
}
