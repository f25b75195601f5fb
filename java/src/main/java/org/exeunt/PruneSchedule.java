// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.math.BigDecimal;
import java.math.MathContext;

/**
 * Which share of the weights is pruned at which step of a training: ratios for {@link PruneMask}.
 *
 * <p>Gradual pruning (Zhu and Gupta 2017): at the steps t0, t0 + dt, ..., t0 + n dt
 *
 * <pre>
 *   s(t) = s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3
 * </pre>
 *
 * <p>which prunes quickly while much can be spared, and ever more slowly. Between those steps the
 * ratio is that of the one before; before t0 it is s_i, after the last one s_f.
 *
 * <p>Immutable, thread-safe.
 */
public final class PruneSchedule {
  private static final MathContext DIGITS = new MathContext(40);
  private static final int MOST_EXACT_ROUNDS = 1000; // of more, the digits are not worth their time

  private final double from;
  private final double to;
  private final long first;
  private final long interval;
  private final long count;

  private PruneSchedule(double from, double to, long first, long interval, long count) {
    this.from = from;
    this.to = to;
    this.first = first;
    this.interval = interval;
    this.count = count;
  }

  /**
   * Gradual pruning.
   *
   * @param from s_i, the share that is pruned before: usually 0
   * @param to s_f, the share in the end, not less
   * @param first t0, the first step at which masks change, at least 0
   * @param interval dt, steps from one change to the next, at least 1
   * @param count n, changes after the first one, at least 1
   * @return the schedule
   * @throws IllegalArgumentException if a share is not within 0 to 1, shares fall, or a number is
   *     out of range
   */
  public static PruneSchedule gradual(
      double from, double to, long first, long interval, long count) {
    requireShare("from", from);
    requireShare("to", to);
    if (from > to) {
      throw new IllegalArgumentException(
          "from is " + from + ", but to is " + to + ": what is pruned stays so");
    }
    requireAtLeast("first", first, 0);
    requireAtLeast("interval", interval, 1);
    requireAtLeast("count", count, 1);
    if (count > (Long.MAX_VALUE - first) / interval) {
      throw new IllegalArgumentException("first is " + first + ", interval " + interval
          + " and count " + count + ": the last step is beyond 2^63 - 1");
    }
    return new PruneSchedule(from, to, first, interval, count);
  }

  /**
   * Sparse pre-training (Jin et al. 2025, "The Journey Matters"): gradual pruning from nothing,
   * between 25 % and 75 % of the training.
   *
   * @param to the share in the end, 0 to 1
   * @param steps of the whole training, at least 4
   * @param interval steps from one change to the next, at least 1 and at most half of the training;
   *     the last change is the last that falls into the 75 %
   * @return the schedule
   * @throws IllegalArgumentException if a value is out of range
   */
  public static PruneSchedule sparsePreTraining(double to, long steps, long interval) {
    requireAtLeast("steps", steps, 4);
    requireAtLeast("interval", interval, 1);
    long first = steps / 4;
    long last = steps / 4 * 3 + steps % 4 * 3 / 4;
    if (interval > last - first) {
      throw new IllegalArgumentException("interval is " + interval + ", but from 25 % to 75 % of "
          + steps + " steps are " + (last - first));
    }
    return gradual(0, to, first, interval, (last - first) / interval);
  }

  /**
   * Iterative magnitude pruning (Frankle and Carbin 2019): each round prunes one share of what is
   * left.
   *
   * @param share of what is left, 0 to 1; usually 0.2
   * @param rounds that have passed, at least 0
   * @return 1 - (1 - share)^rounds, rounded once: a ratio that is less by a trifle would leave
   *     one weight more wherever k is rounded down
   * @throws IllegalArgumentException if a value is out of range
   */
  public static double afterRounds(double share, int rounds) {
    requireShare("share", share);
    requireAtLeast("rounds", rounds, 0);
    if (rounds > MOST_EXACT_ROUNDS) {
      return -Math.expm1(rounds * Math.log1p(-share));
    }
    BigDecimal left = BigDecimal.ONE.subtract(BigDecimal.valueOf(share));
    return BigDecimal.ONE.subtract(left.pow(rounds, DIGITS)).doubleValue();
  }

  /**
   * The share that is pruned once a step is over.
   *
   * @param step t, at least 0
   * @return the ratio of {@link PruneMask.Builder#ratio}
   * @throws IllegalArgumentException if the step is negative
   */
  public double ratio(long step) {
    requireAtLeast("step", step, 0);
    if (step < first) {
      return from;
    }
    long changes = (step - first) / interval;
    if (changes == 0 || changes >= count) {
      return changes == 0 ? from : to;
    }
    double left = 1 - (double) changes / count;
    return to + (from - to) * left * left * left;
  }

  /**
   * Whether masks are to be made at a step: at the other ones the ratio is still that of the last.
   *
   * @param step t, at least 0
   * @return true at t0, t0 + dt, ..., t0 + n dt
   * @throws IllegalArgumentException if the step is negative
   */
  public boolean changesAt(long step) {
    requireAtLeast("step", step, 0);
    return step >= first && (step - first) % interval == 0 && (step - first) / interval <= count;
  }

  private static void requireShare(String name, double value) {
    if (!(value >= 0 && value <= 1)) {
      throw new IllegalArgumentException(name + " is " + value + ", expected 0..1");
    }
  }

  private static void requireAtLeast(String name, long value, long least) {
    if (value < least) {
      throw new IllegalArgumentException(name + " is " + value + ", expected at least " + least);
    }
  }
}
