// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests.fuzz;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.exeunt.cases.Facade;
import org.junit.jupiter.api.Test;

/** Some thousand trials of the fuzzer, and what holds the fuzzer itself to its promises. */
class FuzzTest {
  /** Else fewer arguments: in a quick run, or on a second JDK, which compiles otherwise. */
  private static final boolean FULL = !Boolean.getBoolean("exeunt.quick");

  private static final int TRIALS =
      Integer.getInteger("exeunt.fuzz.test.trials", (FULL ? 1_750 : 250) * Facade.ops().size());
  private static final int RACES = TRIALS / 15;
  private static final long MOST_MILLIS = 120_000;

  @Test
  void callsAreTakenOrRefusedAsDocumented() throws Exception {
    String output = output(Fuzz.CALLS, TRIALS);
    boolean all = output.contains("TOTAL " + TRIALS + " trials"); // not on a busy machine
    assertTrue(!FULL || !all || output.contains("UNREACHED []"), output);
    long most = Long.parseLong(output.replaceAll("(?s).*GROWN (-?\\d+) KiB.*", "$1"));
    assertTrue(most < 12_000, "refused and accepted calls keep memory:\n" + output);
  }

  @Test
  void racesWithClosesEnd() throws Exception {
    output(Fuzz.RACES, RACES);
  }

  private static String output(String mode, int trials) throws Exception {
    ByteArrayOutputStream log = new ByteArrayOutputStream();
    List<String> findings = Fuzz.supervise(mode, 1, 0, trials, MOST_MILLIS, new PrintStream(log));
    String output = log.toString(StandardCharsets.UTF_8);
    assertEquals(List.of(), findings, output);
    assertTrue(output.contains("TOTAL "), output);
    return output;
  }

  @Test
  void aTrialIsTheSameEachTime() {
    for (String op : Facade.ops()) {
      List<String> twice = new ArrayList<>();
      for (int i = 0; i < 2; i++) {
        Arena arena = new Arena();
        try (Plan plan = new Plan(op, new Random(7), arena)) {
          twice.add(plan.toString());
        }
      }
      assertEquals(twice.get(0), twice.get(1));
    }
  }

  /** The judge must know the JDK's sentences from ours. */
  @Test
  void theJudgeObjects() {
    for (Throwable foreign : List.of(new NullPointerException(), new ClassCastException("a b c"),
             new ArrayIndexOutOfBoundsException(3), new ArithmeticException("/ by zero"),
             new NegativeArraySizeException("-1"), new InternalError("a fault in memory access"),
             new IllegalArgumentException(), new IllegalArgumentException("3 > 2"),
             new NullPointerException("Cannot read field \"a\" because \"b\" is null"),
             new IndexOutOfBoundsException("Index 5 out of bounds for length 3"))) {
      assertTrue(Verdict.objection(foreign) != null, foreign.toString());
    }
    assertNull(Verdict.objection(new IllegalArgumentException("out has rank 1, expected 2")));
    assertNull(Verdict.objection(new IllegalStateException("scope is closed")));
  }
}
