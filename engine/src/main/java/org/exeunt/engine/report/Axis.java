// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.report;

import java.util.Locale;

/**
 * An axis of a chart, marked at multiples of a step.
 *
 * @param least the first mark; of a logarithmic axis the exponent of ten, as the others are
 * @param most the last one
 * @param step from one mark to the next
 * @param logarithmic marks are powers of ten
 */
public record Axis(double least, double most, double step, boolean logarithmic) {
  private static final double MARKS = 5.5; // about

  /** Marks at round numbers, of which the outer ones are not inside the values. */
  public static Axis over(double least, double most) {
    double room = 1e-3 * Math.max(1e-3, Math.abs(most)); // where all values are one
    if (most - least < room) {
      return over(least - room, most + room);
    }
    double rough = (most - least) / MARKS;
    double power = Math.pow(10, Math.floor(Math.log10(rough)));
    double step = rough <= power ? power
        : rough <= 2 * power     ? 2 * power
        : rough <= 5 * power
        ? 5 * power
        : 10 * power;
    return spanning(least, most, step, false);
  }

  /** Marks at powers of ten. */
  public static Axis overPowers(double least, double most) {
    double from = Math.log10(least);
    double to = Math.log10(most);
    return spanning(from, to, Math.max(1, Math.ceil((to - from) / MARKS)), true);
  }

  private static Axis spanning(double least, double most, double step, boolean logarithmic) {
    double first = Math.floor(least / step) * step;
    double last = Math.ceil(most / step) * step;
    return new Axis(first, last > first ? last : first + step, step, logarithmic);
  }

  /** How many marks follow the first. */
  public int marks() {
    return (int) Math.round((most - least) / step);
  }

  /** What stands at a mark. */
  public String mark(int index) {
    double at = least + index * step;
    return logarithmic
        ? String.format(Locale.ROOT, Math.abs(at) > 3 ? "1e%.0f" : "%s",
              Math.abs(at) > 3 ? (Object) at : plain(Math.pow(10, at)))
        : String.format(Locale.ROOT, "%." + digits() + "f", at);
  }

  private static String plain(double power) {
    return power >= 1
        ? String.format(Locale.ROOT, "%.0f", power)
        : String.format(Locale.ROOT, "%." + Math.round(-Math.log10(power)) + "f", power);
  }

  private int digits() {
    return (int) Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  }

  /** Where a value lies, from 0 to 1. */
  public double share(double value) {
    return ((logarithmic ? Math.log10(value) : value) - least) / (most - least);
  }
}
