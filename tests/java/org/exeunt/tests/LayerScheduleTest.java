// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Expected.F32;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.Set;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitRule.Decay;
import org.exeunt.LayerSchedule;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Schedules are made on the host, whatever the device under test. */
@Tag("kernels")
@ExtendWith(ForcedPath.class)
class LayerScheduleTest {
  private final Scope scope = Scope.open();

  @AfterEach
  void close() {
    scope.close();
  }

  @AfterAll
  static void everyColumnWasRead() {
    CaseRow.assertAllRead();
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("layer_schedule");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    c.seed(); // nothing here is random
    int positions = c.int32("positions");
    int modelLayers = c.int32("layers");
    Set<String> outputs =
        c.given("outputs") ? c.subset("outputs", "exit_test", "threshold") : Set.of();
    Tensor layers = scope.allocate(Device.CPU, DType.I32, positions, modelLayers);
    Tensor count = scope.allocate(Device.CPU, DType.I32, positions);
    Tensor tests = scope.allocate(Device.CPU, DType.U8, positions, modelLayers);
    Tensor thresholds = scope.allocate(Device.CPU, DType.F32, positions);
    builder(c)
        .layers(layers)
        .count(count)
        .exitTest(outputs.contains("exit_test") ? tests : null)
        .threshold(outputs.contains("threshold") ? thresholds : null)
        .build(scope)
        .run();
    assertTrue(Backend.lastPath().matches("cpu/[^/]+/layer_schedule"), Backend.lastPath());
    LayerSchedule.Table table = builder(c).table(positions, modelLayers);
    int[] got = layers.toIntArray();
    int[] gotCounts = count.toIntArray();
    int[] gotTests = tests.toIntArray();
    float[] gotThresholds = thresholds.toFloatArray();
    boolean[] tested = new boolean[modelLayers];
    for (int l = 0; l < modelLayers; l++) {
      tested[l] = tested(c, l);
    }
    for (int t = 0; t < positions; t++) {
      int[] expected = layers(c, t);
      int[] padded = Arrays.copyOf(expected, modelLayers);
      Arrays.fill(padded, expected.length, modelLayers, -1);
      int[] row = Arrays.copyOfRange(got, t * modelLayers, (t + 1) * modelLayers);
      assertArrayEquals(padded, row, "position " + t);
      assertEquals(expected.length, gotCounts[t]);
      assertArrayEquals(expected, table.layers(t));
      assertEquals(expected.length, table.count(t));
      Expected threshold = threshold(c, t);
      threshold.check("heap, threshold", table.threshold(t));
      if (outputs.contains("threshold")) {
        threshold.check("threshold of " + t, gotThresholds[t]);
      }
      for (int l = 0; l < modelLayers; l++) {
        int at = t * modelLayers + l;
        boolean wrong = tested[l] != table.exitTest(t, l);
        wrong |= outputs.contains("exit_test") && (tested[l] ? 1 : 0) != gotTests[at];
        assertFalse(wrong, () -> "exit test " + at);
      }
    }
  }

  private static LayerSchedule.Builder builder(CaseRow c) {
    int prompt = c.int32("prompt");
    switch (kind(c)) {
      case "skipdecode":
        return LayerSchedule.skipDecode(
            prompt, c.int32("horizon"), c.int32("most"), c.int32("least"), c.int32("warm_up"));
      case "calm":
        return LayerSchedule.calm(c.int32("first_exit"), c.int32("interval"), c.int32("min_exit"))
            .threshold(
                c.number("start_threshold"),
                c.choice("decay", Decay.class),
                prompt,
                c.int32("horizon"),
                c.number("tau"));
      case "fixed":
        return LayerSchedule.fixed(order(c));
      default:
        return LayerSchedule.unified(prompt, c.int32("least"));
    }
  }

  private static String kind(CaseRow c) {
    c.choice("kind", "skipdecode", "calm", "fixed", "unified");
    return c.text("kind");
  }

  private static int[] order(CaseRow c) {
    return Arrays.stream(c.text("order").split(",")).mapToInt(Integer::parseInt).toArray();
  }

  private static int[] layers(CaseRow c, int position) {
    int all = c.int32("layers");
    switch (kind(c)) {
      case "skipdecode":
        int active = active(c, position);
        int bottom = c.int32("warm_up");
        int top = all - (active - bottom);
        return IntStream.range(0, all).filter(l -> l < bottom || l >= top).toArray();
      case "fixed":
        return order(c);
      case "unified":
        return position < c.int32("prompt") ? IntStream.range(0, all).toArray() : spaced(c, all);
      default:
        return IntStream.range(0, all).toArray();
    }
  }

  private static int active(CaseRow c, int position) {
    long prompt = c.integer("prompt");
    long fall = c.integer("horizon") - prompt;
    long passed = Math.min(Math.max(position - prompt, 0), fall);
    long most = c.integer("most");
    return (int) nearest(most * fall - (most - c.integer("least")) * passed, fall);
  }

  private static int[] spaced(CaseRow c, int all) {
    int count = c.int32("least");
    return count == 1
        ? new int[] {all - 1}
        : IntStream.range(0, count)
            .map(i -> (int) nearest((long) i * (all - 1), count - 1))
            .toArray();
  }

  /** Of a quotient of numbers that are not negative, halves up. */
  private static long nearest(long numerator, long denominator) {
    long reached = 0; // middles between whole numbers that the quotient has reached
    while ((2 * reached + 1) * denominator <= 2 * numerator) {
      reached++;
    }
    return reached;
  }

  private static boolean tested(CaseRow c, int layer) {
    int first = c.int32("first_exit");
    return kind(c).equals("calm")
        && layer < c.int32("layers") - 1
        && layer >= Math.max(first, c.int32("min_exit"))
        && (layer - first) % c.int32("interval") == 0;
  }

  /** A few roundings and an exp, whose error grows with its argument. */
  private static Expected threshold(CaseRow c, int position) {
    Decay decay = c.choice("decay", Decay.class);
    if (!kind(c).equals("calm")) {
      return Expected.NAN;
    }
    double base = c.number("start_threshold");
    if (decay == Decay.NONE) {
      return new Expected(base, 0);
    }
    double exponent =
        (double) c.number("tau") * Math.max(0, position - c.int32("prompt")) / c.int32("horizon");
    double moving = 0.1 * Math.exp(-exponent) * (decay == Decay.CALM_CODE ? base : 1);
    double theta = 0.9 * base + moving;
    if (decay == Decay.CALM_PAPER) {
      theta = Math.min(1, Math.max(0, theta));
    }
    double error = F32 * (4 * Math.abs(0.9 * base) + (8 + 2 * exponent) * Math.abs(moving));
    return new Expected(theta, error + Expected.smallest(DType.F32));
  }
}
