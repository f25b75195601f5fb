// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import java.util.Arrays;
import org.openjdk.jmh.results.AggregationPolicy;
import org.openjdk.jmh.results.Result;
import org.openjdk.jmh.results.ScalarResult;

/** Durations, added by one thread and read when its iteration has ended. */
final class Samples {
  private long[] nanos = new long[1024];
  private int count;

  void clear() {
    count = 0;
  }

  void add(long duration) {
    if (count == nanos.length) {
      nanos = Arrays.copyOf(nanos, 2 * count);
    }
    nanos[count++] = duration;
  }

  boolean isEmpty() {
    return count == 0;
  }

  /** The least, at 0, to the largest, at 1, in microseconds. */
  double quantile(double share) {
    long[] sorted = Arrays.copyOf(nanos, count);
    Arrays.sort(sorted);
    return sorted[(int) Math.min(count - 1, (long) (count * share))] / 1e3;
  }

  Result<?> median(String name) {
    return scalar(name, quantile(0.5), "us");
  }

  Result<?> least(String name) {
    return scalar(name, quantile(0), "us");
  }

  static Result<?> scalar(String name, double value, String unit) {
    return new ScalarResult(name, value, unit, AggregationPolicy.AVG);
  }
}
