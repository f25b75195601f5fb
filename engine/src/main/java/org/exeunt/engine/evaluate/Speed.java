// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

import java.math.BigDecimal;
import java.math.MathContext;

/**
 * How fast a method was, beside the plain decoder on the same prompts in the same minutes. What is
 * shown is what is computed with: rates have four digits, so that their quotient is the ratio.
 *
 * @param rate tokens a second of all turns
 * @param plain those of the plain decoder, which took turns with it
 * @param low where 95 % of ratios lie, by how far the turns differ; no finite number if there was
 *     one turn
 * @param high the same
 */
record Speed(double rate, double plain, double low, double high) {
  /** Two-sided 95 % quantiles of Student's distribution with 1, 2, ... degrees of freedom. */
  private static final double[] STUDENT = {
      12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228};
  private static final double NORMAL = 1.96;
  private static final MathContext FOUR_DIGITS = new MathContext(4);

  /**
   * Of some turns, in each of which both went through the same prompts.
   *
   * @param own what the method did in each turn
   * @param beside what the plain decoder did
   */
  static Speed of(Trial.Part[] own, Trial.Part[] beside) {
    int turns = own.length;
    double[] logs = new double[turns];
    Trial.Part all = Trial.Part.NOTHING;
    Trial.Part allBeside = Trial.Part.NOTHING;
    double mean = 0;
    for (int t = 0; t < turns; t++) {
      all = all.plus(own[t], 1);
      allBeside = allBeside.plus(beside[t], 1);
      logs[t] = Math.log(rate(own[t]) / rate(beside[t]));
      mean += logs[t] / turns;
    }
    double square = 0;
    for (double log : logs) {
      square += (log - mean) * (log - mean);
    }
    double half = turns < 2
        ? Double.NaN
        : (turns - 2 < STUDENT.length ? STUDENT[turns - 2] : NORMAL)
            * Math.sqrt(square / (turns - 1) / turns);
    return new Speed(
        shown(rate(all)), shown(rate(allBeside)), Math.exp(mean - half), Math.exp(mean + half));
  }

  /** Answers that end at once say nothing about speed. */
  private static double rate(Trial.Part part) {
    return part.tokens() == 0 ? Double.NaN : 1e9 * part.tokens() / part.nanos();
  }

  private static double shown(double rate) {
    return Double.isFinite(rate) ? new BigDecimal(rate).round(FOUR_DIGITS).doubleValue() : rate;
  }

  /** The quotient of the two rates. */
  double ratio() {
    return rate / plain;
  }

  /** A rate as it is shown. */
  static String text(double rate) {
    return Double.isFinite(rate)
        ? new BigDecimal(rate).round(FOUR_DIGITS).stripTrailingZeros().toPlainString()
        : "-";
  }

  /** Whether there were turns enough to say how far they differ. */
  boolean hasInterval() {
    return Double.isFinite(low) && Double.isFinite(high);
  }

  /** Whether, of the plain decoder beside itself, it says that figures are to be trusted. */
  boolean isQuiet() {
    return low > 1 - Outcome.NOISE && high < 1 + Outcome.NOISE;
  }

  /** @param noise the plain decoder beside itself */
  String verdict(Speed noise) {
    if (!noise.isQuiet() || !(low <= high)) {
      return "-";
    }
    return low > Math.max(1, noise.high) ? "faster"
        : high < Math.min(1, noise.low)
        ? "slower"
        : "no difference";
  }
}
