// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/** How options are read; what they do is {@link DecoderTest}'s. */
class OptionsTest {
  private static void assertRefused(String expected, Executable reading) {
    String message = assertThrows(IllegalArgumentException.class, reading).getMessage();
    assertTrue(message.contains(expected), message);
    assertEquals(1, message.lines().count());
  }

  @Test
  void exitRulesAskWhereTheyAreTold() {
    ExitPolicy byDefault = ExitPolicy.parse("threshold:0.9", null, 30);
    assertArrayEquals(
        new int[] {20, 25, 30}, IntStream.rangeClosed(1, 30).filter(byDefault::asksAt).toArray());
    ExitPolicy chosen = ExitPolicy.parse("entropy:1.5", "12,6", 30);
    assertArrayEquals(
        new int[] {12, 18, 24, 30}, IntStream.rangeClosed(1, 30).filter(chosen::asksAt).toArray());
    assertTrue(chosen.readsHead());
    ExitPolicy calm = ExitPolicy.parse("calm:0.9,4,128", "12,6", 30);
    assertTrue(calm.readsHead() && calm.asksAt(18) && !calm.asksAt(20));
    ExitPolicy fixed = ExitPolicy.parse("fixed:7", null, 30);
    assertEquals(0, fixed.verdict(5, 6));
    assertEquals(1, fixed.verdict(5, 7));
    assertTrue(!fixed.readsHead() && !ExitPolicy.parse("none", null, 30).mayLeave());
  }

  @Test
  void senselessExitRulesAreRefused() {
    for (String text : new String[] {"", "threshold", "maybe:1", "none:1", "Threshold:0.9"}) {
      assertRefused("--exit", () -> ExitPolicy.parse(text, null, 30));
    }
    assertRefused("to be 0 to 1", () -> ExitPolicy.parse("margin:x", null, 30));
    assertRefused("to be 0 to 1", () -> ExitPolicy.parse("margin:NaN", null, 30));
    assertRefused("to be 0 to 1", () -> ExitPolicy.parse("threshold:2", null, 30));
    assertRefused("to be 0 to 100", () -> ExitPolicy.parse("entropy:-1", null, 30));
    assertRefused("needs one number", () -> ExitPolicy.parse("threshold:0.9,2", null, 30));
    assertRefused("P,TAU,LENGTH", () -> ExitPolicy.parse("calm:0.9,4", null, 30));
    assertRefused("to be 0 to 1", () -> ExitPolicy.parse("calm:1.1,4,128", null, 30));
    assertRefused("to be 0 to 100", () -> ExitPolicy.parse("calm:0.9,-1,128", null, 30));
    assertRefused("the length to be 1", () -> ExitPolicy.parse("calm:0.9,4,0", null, 30));
    assertRefused("to be 1 to 30", () -> ExitPolicy.parse("fixed:31", null, 30));
    assertRefused("to be 1 to 30", () -> ExitPolicy.parse("patience:0", null, 30));
    assertRefused("--exit-points", () -> ExitPolicy.parse("margin:.5", "0,2", 30));
    assertRefused("FIRST,STRIDE", () -> ExitPolicy.parse("margin:.5", "4", 30));
    assertRefused("asks nowhere", () -> ExitPolicy.parse("none", "4,2", 30));
    assertRefused("asks nowhere", () -> ExitPolicy.parse("fixed:7", "4,2", 30));
  }

  @Test
  void schedulesSayWhichLayersRun() {
    assertNull(Schedule.parse("none", 30));
    int[][] unified = Schedule.tabulate(Schedule.parse("unified:3", 30), 4, 6, 30);
    assertEquals(30, unified[3].length);
    assertArrayEquals(new int[] {0, 15, 29}, unified[4]);
    int[][] decreasing = Schedule.tabulate(Schedule.parse("skipdecode:10,4,10,1", 30), 5, 20, 30);
    assertEquals(10, decreasing[5].length);
    assertEquals(7, decreasing[10].length);
    assertArrayEquals(new int[] {0, 27, 28, 29}, decreasing[15]);
    assertArrayEquals(
        new int[] {2, 1}, Schedule.tabulate(Schedule.parse("fixed:2,1", 3), 1, 1, 3)[0]);
    assertEquals(30, Schedule.tabulate(null, 1, 1, 30)[0].length);
  }

  @Test
  void senselessSchedulesAreRefused() {
    for (String text : new String[] {"", "unified", "none:1", "other:1"}) {
      assertRefused("--schedule", () -> Schedule.parse(text, 30));
    }
    assertRefused("to be 1 to 30", () -> Schedule.parse("unified:31", 30));
    assertRefused("MOST,LEAST,HORIZON,WARM_UP", () -> Schedule.parse("skipdecode:10,4", 30));
    assertRefused("to be 1 to 10", () -> Schedule.parse("skipdecode:10,11,5,1", 30));
    assertRefused("to be 0 to 4", () -> Schedule.parse("skipdecode:10,4,5,5", 30));
    assertRefused("to be 0 to 29", () -> Schedule.parse("fixed:30", 30));
    assertRefused("a layer twice", () -> Schedule.parse("fixed:1,2,1", 30));
    assertRefused("to be 0 to 29", () -> Schedule.parse("fixed:1,,2", 30));
  }

  @Test
  void feedForwardSkipsAreRead() {
    assertNull(FfnSkip.parse("none", 30));
    assertEquals(new FfnSkip(5, 25, 64, .97f, -1), FfnSkip.parse("5,25,64,0.97", 30));
    assertEquals(new FfnSkip(5, 25, 64, .97f, 8), FfnSkip.parse("5, 25, 64, 0.97, 8", 30));
    assertRefused("COLD_START", () -> FfnSkip.parse("5,25", 30));
    assertRefused("to be 25 to 30", () -> FfnSkip.parse("25,5,0,.9", 30));
    assertRefused("the threshold", () -> FfnSkip.parse("5,25,0,much", 30));
  }

  @Test
  void whatContradictsItselfIsRefused() {
    ExitPolicy exit = ExitPolicy.parse("fixed:3", null, 5);
    FfnSkip skip = new FfnSkip(1, 4, 0, .9f, -1);
    assertRefused("an exit rule and a schedule",
        ()
            -> DecoderOptions.FULL.withExit(exit, KvPolicy.NONE)
                .withSchedule(Schedule.parse("unified:2", 5))
                .check());
    assertRefused("recomputed",
        () -> DecoderOptions.FULL.withExit(exit, KvPolicy.RECOMPUTE).withFfnSkip(skip).check());
    DecoderOptions.FULL.withExit(exit, KvPolicy.PROPAGATE).withFfnSkip(skip).check();
  }
}
