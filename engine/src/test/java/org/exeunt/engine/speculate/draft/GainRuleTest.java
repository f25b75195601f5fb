// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate.draft;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;

class GainRuleTest {
  /** With passes of these times, and drafts that are right so often. */
  private static int planned(double row, double draft, int kinds, int kind, int... accepted) {
    DraftPolicy rule = new GainRule(6, false, new PassTimes(row, draft), 0, 1, kinds);
    for (int right : accepted) {
      rule.learn(kind, 6, right);
    }
    return rule.most(kind);
  }

  @Test
  void gainsAreWeighedAgainstTime() {
    assertEquals(6, planned(0.05, 0, 1, 0, 6, 6, 6, 6), "right, and cheap to verify");
    assertEquals(0, planned(0.05, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), "never right");
    int cheap = planned(0.05, 0.1, 1, 0, 2, 2, 2, 2, 2, 2);
    int dear = planned(0.05, 0.4, 1, 0, 2, 2, 2, 2, 2, 2);
    assertTrue(cheap > dear && dear > 0, cheap + " and " + dear);
    assertEquals(0, planned(0.05, 0.8, 1, 0, 2, 2, 2, 2, 2, 2), "drafting takes as long");
    assertTrue(planned(0.05, 0, 17, 12) > planned(0.05, 0, 17, 1), "longer matches are better");
  }

  /** Each number of rows has ops of its own. */
  @Test
  void draftsHaveFewLengths() {
    Random random = new Random(1);
    DraftPolicy rule = new GainRule(9, false, new PassTimes(0.1, 0), 0, 1, 17);
    Set<Integer> lengths = new TreeSet<>();
    for (int round = 0; round < 2000; round++) {
      int kind = random.nextInt(17);
      int most = rule.most(kind);
      lengths.add(most);
      rule.learn(kind, Math.max(1, most), random.nextInt(Math.max(1, most) + 1));
    }
    assertEquals(Set.of(0, 1, 3, 7, 9), lengths);
  }

  /** Where drafting costs time, it is tried again, at longer and longer intervals. */
  @Test
  void whatDoesNotPayIsTriedAgain() {
    DraftPolicy rule = new GainRule(6, false, new PassTimes(0.05, 0.8), 0, 1, 1);
    int tries = 0;
    for (int round = 0; round < 400; round++) {
      if (rule.most(0) > 0) {
        tries++;
        rule.learn(0, 1, 0);
      }
    }
    assertTrue(tries >= 5 && tries <= 12, "tried " + tries + " times");
  }

  @Test
  void timesOfPassesAreLearnt() {
    PassTimes times = new PassTimes(0.5, 0.5);
    for (int i = 0; i < 60; i++) {
      times.verified(1, 1, 1000);
      times.verified(5, 1, 1400);
      times.drafted(0, 4, 1000);
    }
    assertEquals(0.1, times.row(1), 1e-3);
    assertEquals(0.25, times.draft(0, 1), 1e-3);
    assertEquals(4 * 0.1 / 1.3, times.row(4), 1e-3);
  }

  @Test
  void longMatchesAreDraftedFurther() {
    DraftPolicy rule = new GainRule(15, false, new PassTimes(0.3, 0), 0, 1, 17);
    assertTrue(rule.most(16) > rule.most(2), rule.most(16) + " and " + rule.most(2));
  }

  /** Text that never goes on as it did before costs two passes for each kind of match, all told. */
  @Test
  void whatIsLostIsLittle() {
    for (int seed = 0; seed < 20; seed++) {
      Random random = new Random(seed);
      DraftPolicy rule = new GainRule(15, false, new PassTimes(0.3, 0), 0, 1, 17);
      double lost = 0;
      for (int round = 0; round < 500; round++) {
        int kind = random.nextInt(17);
        int most = rule.most(kind);
        assertTrue(most == 0 || round < 250, "drafts still in round " + round);
        lost += 0.3 * most;
        rule.learn(kind, Math.max(1, most), 0); // what is not drafted is guessed
      }
      assertTrue(lost < 2 * 17, "lost " + lost + " passes");
    }
  }

  /** Guesses that come true have it draft again, whatever it lost before. */
  @Test
  void whatWouldHaveBeenGainedIsDraftedAgain() {
    DraftPolicy rule = new GainRule(15, false, new PassTimes(0.3, 0), 0, 1, 17);
    for (int round = 0; round < 100; round++) {
      int most = rule.most(8);
      rule.learn(8, Math.max(1, most), 0);
    }
    assertEquals(0, rule.most(8), "never right");
    int round = 0;
    for (; round < 100 && rule.most(8) == 0; round++) {
      rule.learn(8, 1, 1);
    }
    assertTrue(round < 12, "drafts again after " + round);
  }
}
