// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import java.util.function.IntConsumer;

/**
 * Whether steps are faster on all threads or on one. On idle cores it is all; but a second thread
 * that sleeps and wakes beside a busy process may cost a step more than it does for it. So a few
 * steps now and then run the other way, and the way is changed if they were faster.
 */
final class Pace {
  private static final int TRIAL = 4; // steps, of which the first does not count
  private static final int SOONEST = 16; // steps between trials; twice as many after one in vain
  private static final int LATEST = 256;
  private static final double FASTER = 0.95;
  private static final double SLOWER = 1.3; // than when it was chosen: time for a trial
  private static final double NEWEST = 1.0 / 8; // weight of a step in the mean

  private final int all;
  private final IntConsumer use;
  private boolean one; // the way of the next step
  private boolean trying;
  private int interval = SOONEST;
  private int left = SOONEST;
  private double cost; // mean nanoseconds of a layer, of the way that was chosen
  private double chosenAt; // that mean when it was chosen
  private double tried; // sum of the trial's

  /**
   * Starts with all threads.
   *
   * @param all how many those are
   * @param use is told a number of threads before each step
   */
  Pace(int all, IntConsumer use) {
    this.all = all;
    this.use = use;
  }

  /** Before a prompt, for which more threads pay. */
  void prompt() {
    use.accept(all);
  }

  /** Before a step. */
  void begin() {
    use.accept(one ? 1 : all);
  }

  /** After a step of so many nanoseconds for each of its layers. */
  void end(double nanoseconds) {
    if (all == 1) {
      return;
    }
    left--;
    if (trying) {
      tried += left < TRIAL - 1 ? nanoseconds : 0;
      if (left == 0) {
        judge(tried / (TRIAL - 1));
      }
      return;
    }
    cost = cost == 0 ? nanoseconds : cost + NEWEST * (nanoseconds - cost);
    if (left <= 0 || chosenAt > 0 && cost > SLOWER * chosenAt) {
      trying = true;
      one = !one;
      tried = 0;
      left = TRIAL;
    }
  }

  private void judge(double other) {
    trying = false;
    if (other < FASTER * cost) {
      cost = other;
      interval = SOONEST;
    } else {
      one = !one;
      interval = Math.min(2 * interval, LATEST);
    }
    chosenAt = cost;
    left = interval;
  }
}
