// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Random;
import org.junit.jupiter.api.Test;

/** Steps go the faster way, whatever it is, soon after that has changed. */
class PaceTest {
  private final Random random = new Random(3);
  private int threads;
  private final Pace pace = new Pace(2, n -> threads = n);

  /** How many of so many steps ran on one thread, where steps swing by a fifth. */
  private int onOne(int steps, double costOfTwo, double costOfOne) {
    int one = 0;
    for (int i = 0; i < steps; i++) {
      pace.begin();
      one += threads == 1 ? 1 : 0;
      pace.end((threads == 1 ? costOfOne : costOfTwo) * (0.9 + 0.2 * random.nextDouble()));
    }
    return one;
  }

  @Test
  void theFasterWayIsFound() {
    assertTrue(onOne(1000, 100, 140) < 50, "two threads are faster");
    assertTrue(onOne(1000, 170, 140) > 850, "two became slower than one");
    assertTrue(onOne(1000, 100, 140) < 400, "two are faster again");
    pace.begin();
    assertEquals(2, threads);
  }

  @Test
  void promptsRunOnAll() {
    onOne(100, 170, 100);
    pace.begin();
    assertEquals(1, threads);
    pace.prompt();
    assertEquals(2, threads);
  }

  @Test
  void oneThreadStays() {
    Pace single = new Pace(1, n -> threads = n);
    for (int i = 0; i < 100; i++) {
      single.begin();
      assertEquals(1, threads);
      single.end(1);
    }
  }
}
