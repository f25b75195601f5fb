// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.UnaryOperator;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;
import org.exeunt.Op;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.cases.Facade;
import org.exeunt.jni.global.exeunt;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * What the C call refuses the facade refuses in the same words, and what the one takes the other
 * takes: arguments of small cases of each op, spoilt one at a time.
 */
@Tag("any-jdk")
class RefusalTest {
  private static final List<Number> WHOLE = List.of(Long.MIN_VALUE, Integer.MIN_VALUE, -2, -1, 0, 1,
      2, 3, 255, Integer.MAX_VALUE, 1L << 31, 1L << 62, Long.MAX_VALUE);
  private static final List<Number> REAL = List.of(Double.NaN, Double.NEGATIVE_INFINITY, -1, -0., 0,
      0x1p-60, .5, 1, 1.5, 1e300, Double.POSITIVE_INFINITY);

  /** Of the C API, by name: to look one up takes longer than most calls. */
  private static final Map<String, Method> METHODS = new HashMap<>();

  /** A cache is described before any op sees it, and a device is asked for before its tensors. */
  private static final String LOOKS_FIRST = "IllegalArgumentException: (k|blockTable): .*"
      + "|ExeuntException: the CUDA backend is not available: .*";

  static Stream<String> ops() {
    return Facade.ops().stream();
  }

  // ---- what a build refuses ---------------------------------------------------------------------

  @ParameterizedTest
  @MethodSource("ops")
  void wrongTensors(String op) {
    Call.telling(op, call -> {
      Map<String, Structs.Place> tensors = call.tensors();
      tensors.remove("order"); // of which the facade takes an array
      tensors.forEach((name, place) -> {
        long good = place.dl();
        BytePointer field = Structs.memory(place.address(), Long.BYTES);
        try (var spoilt = new SpoiltTensors(Tensor.ofDlpack(good), tensors.values())) {
          spoilt.forEach((what, dl) -> {
            field.putLong(dl);
            assertAlike(call, name + " " + what);
            field.putLong(good);
          });
        }
      });
    });
  }

  /** A tensor that the other arguments leave no place for, as far as a builder takes one. */
  @ParameterizedTest
  @MethodSource("ops")
  void unwantedTensors(String op) {
    Call.telling(op, call -> {
      long some = call.tensors().values().iterator().next().dl();
      call.places().forEach((name, place) -> {
        boolean twoForms = op.equals("kv_compact") && name.matches("offsets|count");
        if (!place.field().tensor() || place.dl() != 0 || twoForms) {
          return;
        }
        BytePointer field = Structs.memory(place.address(), Long.BYTES);
        field.putLong(some);
        String expected = outcomeInC(op, call.params());
        try (Op built = call.builder().build()) {
          if (FacadeTest.contents(built, op).containsKey(name)) {
            assertEquals(expected, built.workspaceBytes() + " bytes", () -> call + ", " + name);
          }
        } catch (RuntimeException e) {
          assertEquals(expected, said(e), () -> call + ", " + name);
        } finally {
          field.putLong(0);
        }
      });
    });
  }

  @ParameterizedTest
  @MethodSource("ops")
  void wrongNumbers(String op) {
    Call.telling(op, call -> {
      Map<String, Object> given = Structs.contents(Call.struct(op), call.params());
      call.places().forEach((name, place) -> {
        Structs.Field field = place.field();
        if (field.tensor() || field.code() || field.name().endsWith("_count")
            || FacadeTest.isIdle(op, name, given)) {
          return;
        }
        byte[] before = new byte[field.bytes()];
        BytePointer memory = Structs.memory(place.address(), before.length);
        memory.get(before);
        for (Number number : field.type().startsWith("int") ? WHOLE : REAL) {
          switch (field.type()) {
            case "int16_t" -> memory.putShort(number.shortValue());
            case "int32_t" -> memory.putInt(number.intValue());
            case "int64_t" -> memory.putLong(number.longValue());
            case "float" -> memory.putFloat(number.floatValue());
            default -> memory.putDouble(number.doubleValue());
          }
          assertAlike(call, name + " " + number);
          memory.put(before);
        }
      });
    });
  }

  /** Either both refuse the call, with one sentence, or both take it and need as much memory. */
  private static void assertAlike(Call call, String what) {
    String expected = outcomeInC(call.op(), call.params());
    String found;
    try (Op op = call.builder().build()) {
      FacadeTest.assertSameParams(call, op);
      found = op.workspaceBytes() + " bytes";
    } catch (RuntimeException | OutOfMemoryError e) {
      found = said(e);
    }
    if (found.matches(LOOKS_FIRST)) {
      assertFalse(expected.endsWith(" bytes"), () -> call + ", " + what);
    } else {
      assertEquals(expected, found, () -> call + ", " + what);
    }
  }

  private static String said(Throwable e) {
    return e.getClass().getSimpleName() + ": " + e.getMessage();
  }

  private static String outcomeInC(String op, long params) {
    long[] bytes = new long[1];
    int status = inC(op + "_supported", new Class<?>[] {long.class}, params);
    if (status == exeunt.EXN_OK) {
      Class<?>[] types = {long.class, long[].class};
      status = inC(op + "_workspace_size", types, params, bytes);
    }
    String sentence = FacadeTest.inJava(op, exeunt.exn_last_error());
    return switch (status) {
      case exeunt.EXN_OK -> bytes[0] + " bytes";
      case exeunt.EXN_INVALID_ARGUMENT -> "IllegalArgumentException: " + sentence;
      case exeunt.EXN_UNSUPPORTED -> "UnsupportedOperationException: " + sentence;
      case exeunt.EXN_OUT_OF_MEMORY -> "OutOfMemoryError: " + sentence;
      default -> "ExeuntException: " + sentence;
    };
  }

  private static int inC(String function, Class<?>[] types, Object... arguments) {
    try {
      Method method = METHODS.get(function);
      if (method == null) {
        method = exeunt.class.getMethod("exn_" + function, types);
        METHODS.put(function, method);
      }
      return (Integer) method.invoke(null, arguments);
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException(e);
    }
  }

  // ---- what a run refuses -----------------------------------------------------------------------

  /** Lists, slots and so on, which a build does not read, with an entry that names nothing. */
  @ParameterizedTest
  @MethodSource("ops")
  void wrongContents(String op) {
    Call.telling(op, call -> call.tensors().forEach((name, place) -> {
      Tensor tensor = Tensor.ofDlpack(place.dl());
      if (tensor.dtype().isFloat() || tensor.elements() == 0 || call.open().refusedOnCpu()) {
        return;
      }
      for (long entry : new long[] {0, tensor.elements() - 1}) {
        for (byte value : new byte[] {Byte.MIN_VALUE, -2, -1, 0, 1, Byte.MAX_VALUE}) {
          assertRunsAlike(
              call, name + "[" + entry + "] of bytes " + value, entry(tensor, entry), value);
        }
      }
    }));
  }

  private static BytePointer entry(Tensor tensor, long index) {
    int bytes = tensor.dtype().bytes();
    return Structs.memory(tensor.address() + index * bytes, bytes);
  }

  private static void assertRunsAlike(Call call, String what, BytePointer entry, byte value) {
    String expected = run(call, entry, value, () -> call.open().run(call.index()));
    call.open().keepOutputs();
    String found = run(call, entry, value, () -> call.builder().runOnce());
    assertEquals(expected, found, () -> call + ", " + what);
    assertNull(call.open().changedOutput(), () -> call + ", " + what);
  }

  /** What is said of the call with an entry that consists of equal bytes; empty if nothing is. */
  private static String run(Call call, BytePointer entry, byte value, Runnable action) {
    call.open().prepare();
    for (int i = 0; i < call.index(); i++) {
      call.open().run(i);
    }
    byte[] before = new byte[(int) entry.capacity()];
    entry.get(before);
    Pointer.memset(entry, value, before.length);
    try {
      action.run();
      return "";
    } catch (IllegalStateException | IllegalArgumentException e) {
      return FacadeTest.inJava(call.op(), e.getMessage());
    } finally {
      entry.put(before);
    }
  }

  // ---- what only the facade knows ---------------------------------------------------------------

  /**
   * What an op writes may not be read-only, by the name that its refusal gives; what it reads may.
   * The headers say which is which.
   */
  @ParameterizedTest
  @MethodSource("ops")
  void writesNothingThatIsReadOnly(String op) {
    Set<String> toRefuse = new TreeSet<>();
    Set<String> toTake = new TreeSet<>();
    Map<String, Structs.Field> leaves = Structs.leaves(Call.struct(op));
    leaves.forEach((name, field) -> {
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
    Call.telling(op, call -> call.tensors().forEach((name, place) -> {
      try {
        with(call, place, RefusalTest::readOnly).build().close();
        taken.add(Call.generic(name));
      } catch (IllegalArgumentException e) {
        Matcher written =
            Pattern
                .compile(
                    "^" + FacadeTest.className(op) + ": (\\S+) is written, but .* is read-only$")
                .matcher(e.getMessage());
        assertTrue(written.find(), e.getMessage());
        refused.add(Call.generic(written.group(1)));
      }
    }));
    assertEquals(toRefuse, refused);
    assertEquals(toTake, taken);
  }

  private static Tensor readOnly(Tensor tensor) {
    ByteBuffer bytes =
        Structs.memory(tensor.address(), span(tensor) * tensor.dtype().bytes())
            .asByteBuffer()
            .asReadOnlyBuffer();
    return Tensor.of(bytes, tensor.dtype(), span(tensor)).strided(tensor.shape(), tensor.strides());
  }

  /** The scope of every tensor is held: an op neither is built nor runs when one is closed. */
  @ParameterizedTest
  @MethodSource("ops")
  void closedScopes(String op) {
    Set<String> held = new TreeSet<>();
    Set<String> given = new TreeSet<>();
    Call.telling(op, call -> call.tensors().forEach((name, place) -> {
      if (name.equals("order")) { // of which the facade takes an array
        return;
      }
      Scope scope = Scope.open();
      Op.Builder<?> builder = with(call, place, tensor -> copy(scope, tensor));
      given.add(Call.generic(name));
      try (Op sound = builder.build()) {
        scope.close();
        assertThrows(IllegalStateException.class, sound::run, name);
        assertThrows(IllegalStateException.class, builder::build, name);
        held.add(Call.generic(name));
      } catch (IllegalArgumentException e) { // half of what is in place
        scope.close();
      }
    }));
    assertEquals(given, held);
  }

  private static Tensor copy(Scope scope, Tensor tensor) {
    Tensor copy = scope.allocate(tensor.device(), tensor.dtype(), span(tensor));
    copy.byteBuffer().put(
        Structs.memory(tensor.address(), span(tensor) * tensor.dtype().bytes()).asByteBuffer());
    return copy.strided(tensor.shape(), tensor.strides());
  }

  /** Elements from the first to the last. */
  private static long span(Tensor tensor) {
    long span = 1;
    for (int i = 0; i < tensor.rank(); i++) {
      span += Math.max(tensor.size(i) - 1, 0) * tensor.strides()[i];
    }
    return span;
  }

  private static Op.Builder<?> with(
      Call call, Structs.Place place, UnaryOperator<Tensor> replacement) {
    long replaced = place.dl();
    return Facade.with(dl -> {
      Tensor tensor = Tensor.ofDlpack(dl);
      return dl == replaced ? replacement.apply(tensor) : tensor;
    }, call::builder);
  }
}
