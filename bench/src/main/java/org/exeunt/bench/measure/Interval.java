// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/** A median and how far it can be trusted. */
public record Interval(double low, double middle, double high) {
  /** Of the normal distribution: 99 of 100 medians lie within. */
  private static final double SIGMAS = 2.576;

  /**
   * The median of samples that were taken in several stretches of time. Within one, ranks around
   * the middle bound it; but neighbours in time resemble each other, so each stretch counts as one
   * sample: with few, the interval is what theirs cover together.
   *
   * @param stretches of each, the samples in ascending order
   */
  public static Interval of(List<double[]> stretches, double median) {
    double[] lows = stretches.stream().mapToDouble(s -> s[s.length - 1 - last(s.length)]).toArray();
    double[] highs = stretches.stream().mapToDouble(s -> s[last(s.length)]).toArray();
    Arrays.sort(lows);
    Arrays.sort(highs);
    int last = last(stretches.size());
    return new Interval(
        Math.min(median, lows[lows.length - 1 - last]), median, Math.max(median, highs[last]));
  }

  /** Rank of the sample, of so many, that bounds their median from above. */
  private static int last(int count) {
    return Math.min(count - 1, (int) Math.ceil((count + SIGMAS * Math.sqrt(count)) / 2));
  }

  /** The median of a few values, each a stretch's own; all that they cover. */
  public static Interval of(List<Double> ascending) {
    int size = ascending.size();
    return of(ascending.stream().map(value -> new double[] {value}).toList(),
        (ascending.get((size - 1) / 2) + ascending.get(size / 2)) / 2);
  }

  public Interval over(Interval other) {
    return new Interval(low / other.high, middle / other.middle, high / other.low);
  }

  @Override
  public String toString() {
    return String.format(Locale.ROOT, "%.3f - %.3f", low, high);
  }
}
