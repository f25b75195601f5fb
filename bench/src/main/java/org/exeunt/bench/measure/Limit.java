// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.openjdk.jmh.infra.BenchmarkParams;
import org.openjdk.jmh.infra.IterationParams;
import org.openjdk.jmh.profile.InternalProfiler;
import org.openjdk.jmh.results.IterationResult;
import org.openjdk.jmh.results.Result;
import org.openjdk.jmh.runner.IterationType;

/** Adds what was measured between the calls to JMH's results, the limit foremost. */
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

  /** Microseconds of the median call that began in the first 2 ms of a burst. */
  public static final String FIRST = "first.p50";

  /** Microseconds of the median call of the first caller before the second one began. */
  public static final String ALONE = "alone.p50";

  /** Microseconds of the median call of a caller, whose number follows. */
  public static final String CALLER = "caller.p50.";

  /** Load average of the machine over the last minute. */
  public static final String LOAD = "load";

  private static final List<Between> SOURCES = new CopyOnWriteArrayList<>();

  /** From now on the results of this are added. */
  public static void add(Between source) {
    SOURCES.add(source);
  }

  @Override
  public String getDescription() {
    return "what was measured between the calls";
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
    results.add(Samples.scalar(LOAD, Host.loadAverage(), ""));
    SOURCES.forEach(source -> results.addAll(source.results()));
    return results;
  }
}
