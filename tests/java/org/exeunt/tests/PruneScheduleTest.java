// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.stream.LongStream;
import org.exeunt.PruneSchedule;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

class PruneScheduleTest {
  /** From 10 % to 90 %, by quarters: .9 - .8 (1 - x)^3. */
  @Test
  void gradualPruningByHand() {
    PruneSchedule schedule = PruneSchedule.gradual(.1, .9, 10, 5, 4);
    double[] expected = {.1, .1, .5625, .8, .8875, .9, .9};
    for (int i = 0; i < expected.length; i++) {
      assertEquals(expected[i], schedule.ratio(5 + 5 * i), 1e-12, "step " + (5 + 5 * i));
    }
    assertEquals(schedule.ratio(15), schedule.ratio(19)); // between two changes
    assertEquals(.1, schedule.ratio(0));
    assertEquals(.1, schedule.ratio(10)); // .9 + (.1 - .9) is less
    assertEquals(.9, schedule.ratio(Long.MAX_VALUE));
    assertEquals(List.of(10L, 15L, 20L, 25L, 30L), changes(schedule, 100));
  }

  @Test
  void sparsePreTrainingIsFromOneToThreeQuarters() {
    PruneSchedule schedule = PruneSchedule.sparsePreTraining(.5, 1000, 125);
    assertEquals(List.of(250L, 375L, 500L, 625L, 750L), changes(schedule, 1000));
    assertEquals(0, schedule.ratio(250));
    assertEquals(.5 - .5 / 8, schedule.ratio(500), 1e-12);
    assertEquals(.5, schedule.ratio(750));
    // Of 10 steps the 2nd to the 7th.
    assertEquals(List.of(2L, 4L, 6L), changes(PruneSchedule.sparsePreTraining(1, 10, 2), 10));
    assertEquals(List.of(1L, 2L, 3L), changes(PruneSchedule.sparsePreTraining(1, 4, 1), 10));
  }

  private static List<Long> changes(PruneSchedule schedule, long steps) {
    return LongStream.range(0, steps).filter(schedule::changesAt).boxed().toList();
  }

  @Test
  void roundsTakeAShareOfWhatIsLeft() {
    assertEquals(0, PruneSchedule.afterRounds(.2, 0));
    // Not less by a trifle, which would leave one of 10 weights, or of 1000, that is to go.
    double[] left = {.2, .36, .488, .5904, .67232};
    for (int round = 1; round <= left.length; round++) {
      assertEquals(left[round - 1], PruneSchedule.afterRounds(.2, round));
    }
    assertEquals(.1, PruneSchedule.afterRounds(.1, 1));
    assertEquals(.271, PruneSchedule.afterRounds(.1, 3));
    assertEquals(0, PruneSchedule.afterRounds(0, 2000));
    assertEquals(1, PruneSchedule.afterRounds(1, 2000));
    assertEquals(1 - Math.exp(-1), PruneSchedule.afterRounds(1e-9, 1_000_000_000), 1e-9);
    assertEquals(1, PruneSchedule.afterRounds(1, 1));
  }

  @Test
  void whatMakesNoSenseIsRefused() {
    refused(() -> PruneSchedule.gradual(-.1, .5, 0, 1, 1), "from", "-0.1", "0..1");
    refused(() -> PruneSchedule.gradual(0, 1.1, 0, 1, 1), "to", "1.1", "0..1");
    refused(() -> PruneSchedule.gradual(0, Double.NaN, 0, 1, 1), "to", "NaN");
    refused(() -> PruneSchedule.gradual(.5, .4, 0, 1, 1), "from is 0.5", "to is 0.4");
    refused(() -> PruneSchedule.gradual(0, .5, -1, 1, 1), "first", "-1");
    refused(() -> PruneSchedule.gradual(0, .5, 0, 0, 1), "interval", "0");
    refused(() -> PruneSchedule.gradual(0, .5, 0, 1, 0), "count", "0");
    refused(() -> PruneSchedule.gradual(0, .5, 9, Long.MAX_VALUE, 2), "interval", "2^63");
    refused(() -> PruneSchedule.sparsePreTraining(2, 100, 1), "to", "2.0");
    refused(() -> PruneSchedule.sparsePreTraining(.5, 3, 1), "steps", "3");
    refused(() -> PruneSchedule.sparsePreTraining(.5, 100, 51), "interval is 51", "50");
    refused(() -> PruneSchedule.afterRounds(1.5, 1), "share", "1.5");
    refused(() -> PruneSchedule.afterRounds(.5, -1), "rounds", "-1");
    PruneSchedule schedule = PruneSchedule.gradual(0, .5, 0, 1, 1);
    refused(() -> schedule.ratio(-1), "step", "-1");
    refused(() -> schedule.changesAt(-1), "step", "-1");
  }

  private static void refused(Executable call, String... words) {
    String said = assertThrows(IllegalArgumentException.class, call).getMessage();
    for (String word : words) {
      assertTrue(said.contains(word), said);
    }
  }
}
