// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import org.exeunt.Backend;
import org.exeunt.Scope;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Problem;
import org.openjdk.jmh.results.Result;

/**
 * Op and limit take turns of about a millisecond, which is every other call where calls take that
 * long: a shared machine's bandwidth and clock drift. The limit is a pass that reads as many bytes
 * as the op must read and write, or copies as many as it must move, with as many threads, in the
 * same places, in the fastest of several ways; and, where the op does many multiply-adds for each
 * byte, as many of them in registers.
 *
 * <p>Each goes some times without being timed when its turn begins, and the turn lasts as long
 * again, so that it finds in the cache what it leaves there itself, also where both together are
 * larger than a cache. Where large operands come from memory once will do for the small ones.
 */
public final class Turns implements Between {
  private static final long TURN_NANOS = 1_000_000;
  private static final long LONGEST_UNTIMED_NANOS = 5_000_000;
  /** A shorter sample would be mostly timer. */
  private static final long SHORTEST_SAMPLE_NANOS = 20_000;

  private final Contender op;
  private final boolean memory;
  private final Scope scope = Scope.open();
  private final long bytes;
  private final long moved;
  final Passes passes;
  private final int passesOfSample;
  private final long multiplyAdds;
  private final Samples limit = new Samples();
  private final Samples arithmetic = new Samples();
  private long end;
  private int turns;

  /**
   * Turns with an op on a problem.
   *
   * @param memory whether what is read is to come from memory
   * @param destinations whether what is moved goes to another place each time, too
   */
  public Turns(Contender op, Problem problem, boolean memory, boolean destinations) {
    this.op = op;
    this.memory = memory;
    bytes = Work.bytes(problem);
    moved = Work.moved(problem);
    // Beside what is moved there are only lists and scores, and those have just been made.
    long far = memory && moved == 0 ? Math.min(bytes, Streamed.bytes(problem.listed())) : 0;
    long cache = memory ? LastLevelCache.bytes() : 0;
    passes = new Passes(scope, bytes - 2 * moved - far, far, moved, cache, destinations).choose();
    passes.next();
    long begin = System.nanoTime();
    passes.next();
    long once = Math.max(1, System.nanoTime() - begin);
    passesOfSample = (int) Math.max(1, SHORTEST_SAMPLE_NANOS / once);
    multiplyAdds = Work.multiplyAdds(problem);
  }

  @Override
  public void begin() {
    limit.clear();
    arithmetic.clear();
    turns = 0;
    end = System.nanoTime();
  }

  @Override
  public void before() {
    if (System.nanoTime() < end) {
      return;
    }
    // A pass of arithmetic may take longer than the op, and drifts less.
    if (multiplyAdds > 0 && turns % 4 == 0) {
      long start = System.nanoTime();
      Backend.fmaProbe(multiplyAdds);
      arithmetic.add(System.nanoTime() - start);
    }
    turns++;
    end = untimed(passes::next) + TURN_NANOS;
    do {
      long start = System.nanoTime();
      for (int i = 0; i < passesOfSample; i++) {
        passes.next();
      }
      limit.add((System.nanoTime() - start) / passesOfSample);
    } while (System.nanoTime() < end);
    end = untimed(op::run) + TURN_NANOS;
  }

  /** Runs until the caches hold what they will hold; when as much time will have passed again. */
  private long untimed(Runnable run) {
    int most = memory ? 1 : Passes.UNTIL_CACHED;
    long begin = System.nanoTime();
    long now = begin;
    for (int i = 0; i < most && now - begin < LONGEST_UNTIMED_NANOS; i++) {
      run.run();
      now = System.nanoTime();
    }
    return now + (now - begin);
  }

  @Override
  public Collection<Result<?>> results() {
    List<Result<?>> results = new ArrayList<>();
    results.add(Samples.scalar(Limit.BYTES, bytes, "B"));
    results.add(Samples.scalar(Limit.MOVED, moved, "B"));
    results.add(Samples.scalar(Limit.ROUND, passes.round(), "B"));
    results.add(limit.median(Limit.MEDIAN));
    results.add(limit.least(Limit.FASTEST));
    if (multiplyAdds > 0) {
      results.add(Samples.scalar(Limit.MULTIPLY_ADDS, multiplyAdds, ""));
      results.add(arithmetic.median(Limit.ARITHMETIC));
    }
    return results;
  }

  @Override
  public void close() {
    scope.close();
  }
}
