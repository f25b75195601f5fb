// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.lang.reflect.Field;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.exeunt.Device;
import org.exeunt.Op;
import org.exeunt.cases.Cases;
import org.exeunt.cases.Facade;
import org.exeunt.cases.OpCase;
import org.exeunt.jni.global.exeunt;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * The facade is the C ABI in other words: for every case of every op it hands over the same params
 * struct, runs the same kernel and leaves the same bits.
 */
@Tag("kernels")
@ExtendWith(ForcedPath.class)
class FacadeTest {
  /** The numbers that each kind of schedule looks at, in the order of the kinds' codes. */
  private static final List<Set<String>> SEEN_BY_SCHEDULE = List.of(
      Set.of("kind", "prompt", "horizon", "most", "least", "warm_up"),
      Set.of("kind", "first_exit", "interval", "min_exit", "decay", "start_threshold", "tau",
          "prompt", "horizon"),
      Set.of("kind"), Set.of("kind", "prompt", "least"));

  /**
   * The cases that this run wants: no big ones unless asked for, in a quick run none that are only
   * there for benchmarks, on an emulated device the small ones, and of all so many as {@link
   * Setup#every} says.
   */
  static Stream<Cases.Listed> cases() {
    List<Cases.Listed> chosen = new ArrayList<>();
    for (String op : Cases.ops()) {
      List<Cases.Listed> wanted = Cases.of(op).stream().filter(FacadeTest::wanted).toList();
      IntStream.range(0, wanted.size())
          .filter(i -> i % Setup.every() == 0)
          .forEach(i -> chosen.add(wanted.get(i)));
    }
    return chosen.stream();
  }

  private static boolean wanted(Cases.Listed c) {
    if (Setup.cuda() && c.tags().contains("host_only")) {
      return false;
    }
    if (Setup.emulated()) {
      return c.tags().contains("small");
    }
    if (c.tags().contains("bench") && Setup.quick()) {
      return false;
    }
    return !c.tags().contains("big") || "1".equals(System.getenv("EXEUNT_TEST_BIG"));
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void sameAsTheCall(Cases.Listed listed) {
    try (OpCase c = listed.open(Device.defaultDevice())) {
      String refusal = refusal(c, IllegalStateException.class, call -> c.run(call.index()));
      boolean judged = !Setup.quick() && listed.tags().contains("small");
      if (refusal == null && judged) { // the native suite judges all
        assertNull(c.judge(), "the C call");
      }
      boolean refused = c.refusedOnCpu() && !Setup.cuda();
      if (!listed.tags().contains("spoiled")) { // in few rows of few there may be nothing wrong
        assertEquals(refused, refusal != null, refusal);
      }
      c.keepOutputs();
      c.prepare();
      assertEquals(refusal, refusal(c, IllegalArgumentException.class, FacadeTest::buildAndRun));
      assertNull(c.changedOutput(), "an output with other bits than the C call's");
      assertTrue(c.intact(), "an input changed, or what lies around an output");
    }
  }

  private static void buildAndRun(Call call) {
    try (Op op = call.builder().build()) {
      assertSameParams(call, op);
      op.run();
      ForcedPath.assertTaken(call.op());
    }
  }

  /** The sentence of the first call that is refused, after which none is made; null if all run. */
  private static String refusal(
      OpCase c, Class<? extends RuntimeException> kind, Consumer<Call> action) {
    for (int i = 0; i < c.calls(); i++) {
      try {
        action.accept(new Call(c, i));
      } catch (RuntimeException e) {
        assertEquals(kind, e.getClass(), e.getMessage());
        return inJava(c.op(i), e.getMessage());
      }
    }
    return null;
  }

  /** The facade writes what it was given, as far as anybody looks at it. */
  static void assertSameParams(Call call, Op built) {
    Map<String, Object> given = Structs.contents(Call.struct(call.op()), call.params());
    Map<String, Object> written = contents(built, call.op());
    Set<String> names = new TreeSet<>(given.keySet());
    names.addAll(written.keySet());
    for (String name : names) {
      if (!isIdle(call.op(), name, given)) {
        assertEquals(given.get(name), written.get(name), name);
      }
    }
  }

  /** Whether the field is not read beside the others, so that no builder takes it. */
  static boolean isIdle(String op, String name, Map<String, Object> beside) {
    return switch (name) {
      case "eps", "norm_eps" -> beside.get("norm").equals(exeunt.EXN_NORM_NONE);
      case "repeats" -> !beside.containsKey("hidden_weight");
      case "selection.k" -> !beside.containsKey("selection.indices");
      case "first_position" -> !beside.get("positions").equals(exeunt.EXN_POSITIONS_RENUMBER);
      case "capacity" -> op.equals("kv_length") && beside.get("action").equals(exeunt.EXN_KV_CROP);
      case "factor" -> beside.get("scaling").equals(exeunt.EXN_ROPE_SCALING_NONE);
      case "order" -> true; // of which the facade takes an array
      default ->
        op.equals("layer_schedule") && beside.get(name) instanceof Number
            && !SEEN_BY_SCHEDULE.get((Integer) beside.get("kind")).contains(name);
    };
  }

  /** What the params struct of an op that was built says. */
  static Map<String, Object> contents(Op built, String op) {
    return Structs.contents(Call.struct(op), paramsOf(built));
  }

  private static long paramsOf(Op op) {
    try {
      Field params = Op.class.getDeclaredField("params");
      params.setAccessible(true);
      return params.getLong(op);
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException(e);
    }
  }

  /**
   * Each field is given by some case, so that a builder which forgets it fails above: a tensor is
   * there, a number is not 0. Those beside a screen, which no table describes, {@link ScreenTest}
   * gives.
   */
  @ParameterizedTest
  @MethodSource("ops")
  void everyFieldIsGivenBySomeCase(String op) {
    assumeTrue(Setup.every() <= 3, "the same on every path");
    Set<String> missing = new TreeSet<>(Structs.leaves(Call.struct(op)).keySet());
    Call.telling(op, call -> missing.removeAll(call.given()));
    missing.removeAll(op.equals("exit_head") ? ScreenTest.FIELDS : Set.of());
    assertTrue(missing.isEmpty(), () -> op + ": no small case gives " + missing);
  }

  static Stream<String> ops() {
    return Facade.ops().stream();
  }

  /** The class of the facade that stands for an op. */
  static String className(String op) {
    return Arrays.stream(Op.class.getPermittedSubclasses())
        .map(Class::getSimpleName)
        .filter(name -> name.equalsIgnoreCase(op.replace("_", "")))
        .findFirst()
        .orElseThrow();
  }

  /** With the Java class where the C ABI names its function, and nothing else changed. */
  static String inJava(String op, String sentence) {
    return sentence == null
        ? null
        : sentence.replaceFirst("^(\\w+: )?exn_" + op + ": ", className(op) + ": ");
  }

  /** Every op has cases, and its builder here. */
  @Test
  void everyOpHasARoom() {
    Set<String> ops = new TreeSet<>(Arrays.asList(Cases.ops()));
    ops.remove("decode_step"); // made of several
    assertEquals(new TreeSet<>(Facade.ops()), ops);
    Set<String> classes = new TreeSet<>();
    for (Class<?> op : Op.class.getPermittedSubclasses()) {
      classes.add(op.getSimpleName().toLowerCase());
    }
    Set<String> doors = new TreeSet<>();
    Facade.ops().forEach(op -> doors.add(op.replace("_", "")));
    assertEquals(classes, doors);
  }
}
