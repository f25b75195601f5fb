// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.reflect.Field;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.BooleanSupplier;
import java.util.function.LongConsumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.exeunt.Device;
import org.exeunt.Op;
import org.exeunt.cases.Cases;
import org.exeunt.cases.Facade;
import org.exeunt.cases.OpCase;
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
    if (c.tags().contains("spoiled") || Setup.cuda() && c.tags().contains("host_only")) {
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
      if (c.refusedOnCpu() && !Setup.cuda()) {
        refuses(c);
        return;
      }
      for (int call = 0; call < c.calls(); call++) {
        c.run(call);
      }
      c.keepOutputs();
      assertNull(c.judge(), "the C call");
      c.prepare();
      for (int call = 0; call < c.calls(); call++) {
        try (Op op = Facade.builder(c.op(call), c.params(call)).build()) {
          assertSameParams(c.op(call), c.params(call), paramsOf(op));
          op.run();
          ForcedPath.assertTaken(c.op(call));
        }
      }
      assertNull(c.changedOutput(), "an output with other bits than the C call's");
      assertTrue(c.intact(), "an input changed, or what lies around an output");
    }
  }

  /** All calls but the last may be sound. */
  private static void refuses(OpCase c) {
    int last = c.calls() - 1;
    int call = 0;
    try {
      for (; call < last; call++) {
        c.run(call);
      }
    } catch (IllegalStateException e) {
      last = call;
    }
    c.prepare();
    for (call = 0; call < last; call++) {
      Facade.builder(c.op(call), c.params(call)).runOnce();
    }
    c.keepOutputs();
    Op.Builder<?> refused = Facade.builder(c.op(last), c.params(last));
    assertThrows(IllegalArgumentException.class, refused::runOnce);
    assertNull(c.changedOutput(), "a refused run wrote an output");
    assertTrue(c.intact());
  }

  private static void assertSameParams(String op, long expected, long got) {
    Map<String, Object> given = contents(op, expected);
    Map<String, Object> written = contents(op, got);
    Set<String> names = new TreeSet<>(given.keySet());
    names.addAll(written.keySet());
    // What nobody looks at, and no builder takes.
    if (Integer.valueOf(0).equals(given.get("norm"))) {
      names.removeIf(name -> name.endsWith("eps"));
    }
    if (op.equals("gate") && !given.containsKey("hidden_weight")) {
      names.remove("repeats");
    }
    if (op.equals("layer_schedule")) {
      Set<String> seen = SEEN_BY_SCHEDULE.get((Integer) given.get("kind"));
      names.removeIf(name -> given.get(name) instanceof Number && !seen.contains(name));
      names.remove("order"); // copied from an array
    }
    for (String name : names) {
      assertEquals(given.get(name), written.get(name), name);
    }
  }

  private static Map<String, Object> contents(String op, long params) {
    return Structs.contents("exn_" + op + "_params", params);
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
   * there, a number is not 0.
   */
  @ParameterizedTest
  @MethodSource("ops")
  void everyFieldIsGivenBySomeCase(String op) {
    Set<String> missing = new TreeSet<>(Structs.leaves("exn_" + op + "_params").keySet());
    inSmallCases(op, missing::isEmpty, params -> contents(op, params).forEach((name, value) -> {
      if (!(value instanceof Number number) || number.doubleValue() != 0) {
        missing.remove(generic(name));
      }
    }));
    assertTrue(missing.isEmpty(), () -> op + ": no small case gives " + missing);
  }

  /**
   * What an op writes may not be read-only, by the name that its refusal gives; what it reads may.
   * The headers say which is which.
   */
  @ParameterizedTest
  @MethodSource("ops")
  void writesNothingThatIsReadOnly(String op) {
    Set<String> toRefuse = new TreeSet<>();
    Set<String> toTake = new TreeSet<>();
    Structs.leaves("exn_" + op + "_params").forEach((name, field) -> {
      assertTrue(!field.tensor() || !field.roles().isEmpty(), name + " is neither in nor out");
      if (field.tensor() && field.roles().contains("in")) {
        toTake.add(name);
      }
      if (field.tensor() && !field.roles().equals(Set.of("in"))) {
        toRefuse.add(name);
      }
    });
    Set<String> refused = new TreeSet<>();
    Set<String> taken = new TreeSet<>();
    inSmallCases(op,
        ()
            -> refused.containsAll(toRefuse) && taken.containsAll(toTake),
        params -> tryReadOnly(op, params, refused, taken));
    assertEquals(toRefuse, refused);
    assertEquals(toTake, taken);
  }

  private static void tryReadOnly(String op, long params, Set<String> refused, Set<String> taken) {
    Structs.tensors("exn_" + op + "_params", params).forEach((name, dl) -> {
      try {
        Facade.builder(op, params, dl).build().close();
        taken.add(generic(name));
      } catch (IllegalArgumentException e) {
        Matcher written =
            Pattern.compile("^exn_" + op + ": (\\S+) is written, but .* is read-only$")
                .matcher(e.getMessage());
        assertTrue(written.find(), e.getMessage());
        refused.add(generic(written.group(1)));
      }
    });
  }

  private static String generic(String name) {
    return name.replaceAll("\\[\\d+\\]", "[]");
  }

  /** The params of each call of the op in its small cases, until nobody wants more. */
  private static void inSmallCases(String op, BooleanSupplier done, LongConsumer params) {
    for (Cases.Listed listed : Cases.of(op)) {
      if (done.getAsBoolean() || !listed.tags().contains("small")) {
        continue;
      }
      try (OpCase c = listed.open(Device.CPU)) {
        for (int call = 0; call < c.calls(); call++) {
          if (c.op(call).equals(op)) {
            params.accept(c.params(call));
          }
        }
      }
    }
  }

  static Stream<String> ops() {
    return Facade.ops().stream();
  }

  /** Every op has a room, and its door here. */
  @Test
  void everyOpHasARoom() {
    Set<String> rooms = new TreeSet<>(Arrays.asList(Cases.ops()));
    rooms.remove("decode_step"); // made of several
    assertEquals(new TreeSet<>(Facade.ops()), rooms);
    Set<String> classes = new TreeSet<>();
    for (Class<?> op : Op.class.getPermittedSubclasses()) {
      classes.add(op.getSimpleName().toLowerCase());
    }
    Set<String> doors = new TreeSet<>();
    Facade.ops().forEach(op -> doors.add(op.replace("_", "")));
    assertEquals(classes, doors);
  }
}
