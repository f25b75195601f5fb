// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Problem;
import org.openjdk.jmh.infra.BenchmarkParams;
import org.openjdk.jmh.infra.IterationParams;
import org.openjdk.jmh.profile.InternalProfiler;
import org.openjdk.jmh.results.AggregationPolicy;
import org.openjdk.jmh.results.IterationResult;
import org.openjdk.jmh.results.Result;
import org.openjdk.jmh.results.ScalarResult;
import org.openjdk.jmh.runner.IterationType;

/**
 * Measures the limit between a benchmark's iterations: one linear pass that reads as many bytes as
 * the op must read and write, or copies as many as it must move, with as many threads, from
 * huge-page memory, in the same place: in the cache, or from memory by way of the next copy at
 * each pass. Beside it, where the op does many multiply-adds for each byte, as many of them in
 * registers. It runs in the benchmark's own process within the same seconds, because a shared
 * machine's bandwidth and clock drift.
 */
public final class Limit implements InternalProfiler {
  /** Microseconds of the median pass of an iteration. */
  public static final String MEDIAN = "limit.p50";

  /** Microseconds of the fastest pass of an iteration. */
  public static final String FASTEST = "limit.min";

  /** Bytes that the op must read and write. */
  public static final String BYTES = "bytes";

  /** Of them those that are written as they were read; they count twice in {@link #BYTES}. */
  public static final String MOVED = "bytes.moved";

  /** Bytes of memory that the passes went through, round after round. */
  public static final String ROUND = "limit.round";

  /** Multiply-adds that the op must do. */
  public static final String MULTIPLY_ADDS = "multiply.adds";

  /** Microseconds that as many take in registers, the median of an iteration. */
  public static final String ARITHMETIC = "arithmetic.p50";

  /** Load average of the machine over the last minute. */
  public static final String LOAD = "load";

  /** Less memory than this does not come on huge pages. */
  private static final long HUGE_PAGE = 2 << 20;
  private static final long BUDGET_NANOS = TimeUnit.MILLISECONDS.toNanos(60);
  private static final int FEWEST_SAMPLES = 5;
  /** A shorter sample would be mostly timer. */
  private static final long SHORTEST_SAMPLE_NANOS = 20_000;
  /** Worker threads of the contender spin for a while; they must not share the cores. */
  private static final long SETTLE_MILLIS = 5;

  /** Null: a peer, or a benchmark that moves no bytes worth a limit. */
  private static Passes passes;
  private static long multiplyAdds;

  /**
   * Prepares passes over the bytes of an op. The memory lives as long as the fork, since the last
   * pass comes after the benchmark's tear-down.
   *
   * @param memory whether what is read is to come from memory
   * @param destinations whether what is moved goes to another place each time, too
   */
  static void arm(Problem problem, boolean memory, boolean destinations) {
    long cache = memory ? LastLevelCache.bytes() : 0;
    passes =
        new Passes(Scope.open(), Work.bytes(problem), Work.moved(problem), cache, destinations);
    multiplyAdds = Work.multiplyAdds(problem);
  }

  @Override
  public String getDescription() {
    return "limit of the bytes that the op must move";
  }

  @Override
  public void beforeIteration(BenchmarkParams benchmark, IterationParams iteration) {}

  @Override
  @SuppressWarnings("rawtypes") // as JMH declares it
  public Collection<? extends Result> afterIteration(
      BenchmarkParams benchmark, IterationParams iteration, IterationResult result) {
    if (iteration.getType() == IterationType.WARMUP) {
      return List.of();
    }
    List<Result<?>> results = new ArrayList<>();
    results.add(scalar(LOAD, Host.loadAverage(), ""));
    if (passes != null) {
      List<Double> samples = probe();
      results.add(scalar(BYTES, passes.bytes, "B"));
      results.add(scalar(MOVED, passes.moved, "B"));
      results.add(scalar(ROUND, passes.round(), "B"));
      results.add(scalar(MEDIAN, samples.get(samples.size() / 2), "us"));
      results.add(scalar(FASTEST, samples.get(0), "us"));
    }
    if (multiplyAdds > 0) {
      List<Double> samples = probe(() -> Backend.fmaProbe(multiplyAdds), BUDGET_NANOS / 2);
      results.add(scalar(MULTIPLY_ADDS, multiplyAdds, ""));
      results.add(scalar(ARITHMETIC, samples.get(samples.size() / 2), "us"));
    }
    return results;
  }

  private static ScalarResult scalar(String name, double value, String unit) {
    return new ScalarResult(name, value, unit, AggregationPolicy.AVG);
  }

  /** Microseconds per pass, ascending, of the faster way to store. */
  private static List<Double> probe() {
    settle();
    if (passes.moved == 0) {
      return probe(() -> passes.next(false), BUDGET_NANOS);
    }
    List<Double> through = probe(() -> passes.next(false), BUDGET_NANOS / 2);
    List<Double> past = probe(() -> passes.next(true), BUDGET_NANOS / 2);
    return past.get(past.size() / 2) < through.get(through.size() / 2) ? past : through;
  }

  private static List<Double> probe(Runnable pass, long budget) {
    long begin = System.nanoTime();
    pass.run();
    long first = Math.max(1, System.nanoTime() - begin);
    int count = (int) Math.max(1, SHORTEST_SAMPLE_NANOS / first);
    List<Double> samples = new ArrayList<>();
    long deadline = System.nanoTime() + budget;
    while (samples.size() < FEWEST_SAMPLES || System.nanoTime() < deadline) {
      long start = System.nanoTime();
      for (int i = 0; i < count; i++) {
        pass.run();
      }
      samples.add((System.nanoTime() - start) / 1e3 / count);
    }
    Collections.sort(samples);
    return samples;
  }

  private static void settle() {
    try {
      Thread.sleep(SETTLE_MILLIS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  /** Memory to pass through, a part at a time. */
  static final class Passes {
    final long bytes;
    final long moved;
    /** Null if everything is moved. */
    final Tensor[] read;
    /** Null if nothing is moved. */
    final Tensor[] from;
    final Tensor[] to;
    private int at;

    /**
     * Passes in the given scope.
     *
     * @param cache bytes of the cache that a round must not fit into; 0 if it may
     */
    Passes(Scope scope, long bytes, long moved, long cache, boolean destinations) {
      this.bytes = bytes;
      this.moved = moved;
      // Beside what is moved only lists and scores are read, and those have just been made.
      read = bytes == 2 * moved ? null : parts(scope, bytes - 2 * moved, moved > 0 ? 0 : cache);
      from = moved == 0 ? null : parts(scope, moved, cache);
      to = moved == 0 ? null : parts(scope, moved, destinations ? cache : 0);
    }

    /** Neighbours in memory, so many that they do not fit into a cache of that size. */
    private static Tensor[] parts(Scope scope, long bytes, long cache) {
      int count = Streamed.copies(bytes, cache);
      Tensor memory = scope.allocate(DType.U8, Math.max(HUGE_PAGE, count * bytes));
      Tensor[] parts = new Tensor[count];
      byte[] pattern = new byte[1 << 16];
      for (int i = 0; i < pattern.length; i++) {
        pattern[i] = (byte) i;
      }
      // In parallel, because a virtual machine takes seconds to come by gigabytes.
      IntStream.range(0, count).parallel().forEach(i -> {
        parts[i] = memory.rows(i * bytes, (i + 1) * bytes);
        // Untouched pages would all be the one page of zeros.
        var buffer = parts[i].byteBuffer();
        while (buffer.hasRemaining()) {
          buffer.put(pattern, 0, Math.min(pattern.length, buffer.remaining()));
        }
      });
      return parts;
    }

    void next(boolean pastCaches) {
      int now = at++;
      if (read != null) {
        Backend.readBandwidthProbe(read[now % read.length]);
      }
      if (from != null) {
        Backend.copyBandwidthProbe(from[now % from.length], to[now % to.length], pastCaches);
      }
    }

    /** Bytes of the memory of a round. */
    long round() {
      return sum(read) + sum(from) + sum(to);
    }

    private static long sum(Tensor[] parts) {
      return parts == null ? 0 : parts.length * parts[0].byteSize();
    }
  }
}
