// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.openjdk.jmh.infra.BenchmarkParams;
import org.openjdk.jmh.infra.IterationParams;
import org.openjdk.jmh.profile.InternalProfiler;
import org.openjdk.jmh.results.AggregationPolicy;
import org.openjdk.jmh.results.IterationResult;
import org.openjdk.jmh.results.Result;
import org.openjdk.jmh.results.ScalarResult;

/**
 * Measures the read limit between a benchmark's iterations: one linear pass over as many bytes as
 * the op must move, with as many threads, from huge-page memory. It runs in the benchmark's own
 * process within the same seconds, because a shared machine's bandwidth drifts.
 */
public final class ReadLimit implements InternalProfiler {
  /** Microseconds of the median pass of an iteration. */
  public static final String MEDIAN = "limit.p50";

  /** Microseconds of the fastest pass of an iteration. */
  public static final String FASTEST = "limit.min";

  /** Bytes that the op must move. */
  public static final String BYTES = "bytes";

  /** Load average of the machine over the last minute. */
  public static final String LOAD = "load";

  private static final long BUDGET_NANOS = TimeUnit.MILLISECONDS.toNanos(60);
  private static final int FEWEST_SAMPLES = 5;
  /** A shorter sample would be mostly timer. */
  private static final long SHORTEST_SAMPLE_NANOS = 20_000;
  /** Worker threads of the contender spin for a while; they must not share the cores. */
  private static final long SETTLE_MILLIS = 30;

  /** Null: the benchmark moves no bytes worth a limit. */
  private static Tensor memory;

  /**
   * Prepares probes of {@code bytes} bytes. The memory lives as long as the fork, since the last
   * probe comes after the benchmark's tear-down.
   */
  static void arm(long bytes) {
    memory = Scope.open().allocate(DType.U8, bytes);
    // Untouched pages would all be the one page of zeros.
    ByteBuffer buffer = memory.byteBuffer();
    for (int i = 0; i < bytes; i++) {
      buffer.put(i, (byte) i);
    }
  }

  @Override
  public String getDescription() {
    return "read limit of the bytes that the op must move";
  }

  @Override
  public void beforeIteration(BenchmarkParams benchmark, IterationParams iteration) {}

  @Override
  @SuppressWarnings("rawtypes") // as JMH declares it
  public Collection<? extends Result> afterIteration(BenchmarkParams benchmark,
      IterationParams iteration, IterationResult result) {
    List<Result<?>> results = new ArrayList<>();
    results.add(new ScalarResult(LOAD, Host.loadAverage(), "", AggregationPolicy.AVG));
    if (memory != null) {
      List<Double> passes = probe();
      results.add(new ScalarResult(BYTES, memory.byteSize(), "B", AggregationPolicy.AVG));
      results.add(new ScalarResult(
          MEDIAN, passes.get(passes.size() / 2), "us", AggregationPolicy.AVG));
      results.add(new ScalarResult(FASTEST, passes.get(0), "us", AggregationPolicy.AVG));
    }
    return results;
  }

  /** Microseconds per pass, ascending. */
  private static List<Double> probe() {
    settle();
    long begin = System.nanoTime();
    Backend.readBandwidthProbe(memory);
    long first = Math.max(1, System.nanoTime() - begin);
    int passes = (int) Math.max(1, SHORTEST_SAMPLE_NANOS / first);
    List<Double> samples = new ArrayList<>();
    long deadline = System.nanoTime() + BUDGET_NANOS;
    while (samples.size() < FEWEST_SAMPLES || System.nanoTime() < deadline) {
      long start = System.nanoTime();
      for (int i = 0; i < passes; i++) {
        Backend.readBandwidthProbe(memory);
      }
      samples.add((System.nanoTime() - start) / 1e3 / passes);
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
}
