// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests.fuzz;

import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.Consumer;
import java.util.function.Supplier;
import org.exeunt.AttentionScores;
import org.exeunt.HiredBudget;
import org.exeunt.Op;
import org.exeunt.StableMax;
import org.exeunt.Tensor;
import org.exeunt.cases.Cases;
import org.exeunt.cases.Facade;
import org.exeunt.cases.Steps;

/** A sound call of an op as its folder describes it, into which faults may be put. */
final class Plan implements AutoCloseable {
  /** What is done with the filled builder. */
  enum Ending {
    RUN_ONCE,
    RUN_ONCE_ON_STREAM,
    BUILD_AND_RUN,
    BUILD_IN_SCOPE,
    BUILD_SHARED,
    BUILD_TWICE,
    STEP,
    RUN_ON_NULL,
    RUN_CLOSED,
    RUN_BEHIND_SCOPE
  }

  /** Other ways to the same builder: what they choose is chosen again by the setters. */
  private static final Map<String, List<Supplier<Op.Builder<?>>>> DOORS = Map.of("attention_scores",
      List.of(AttentionScores::hired, AttentionScores::promptDistill, AttentionScores::gemFilter,
          AttentionScores::fastV,
          () -> AttentionScores.snapKv(3), () -> AttentionScores.heavyHitters(3)),
      "cross_entropy", List.of(StableMax::crossEntropy), "hired_budget",
      List.of(HiredBudget::asInCode));

  /** A number of the params. */
  record Scalar(String name, Class<?> type, int offset) {}

  final String op; // as in the C ABI
  final List<Scalar> scalars = new ArrayList<>();
  final List<Consumer<List<?>>> faults = new ArrayList<>(); // of the order of the setters
  int omitted = -1; // which cache, layer, selection or statistics is null
  Ending ending;
  private final Supplier<Op.Builder<?>> door;
  private final long handle;
  private final Map<Long, Spec> byAddress = new LinkedHashMap<>();

  /** Any op's, over the arena, which it overwrites. */
  static Plan any(Random random, Arena arena) {
    List<String> ops = List.copyOf(Facade.ops());
    return new Plan(ops.get(random.nextInt(ops.size())), random, arena);
  }

  Plan(String op, Random random, Arena arena) {
    this.op = op;
    arena.reset();
    handle = Cases.draw(op, random.nextLong(), arena.address(), Arena.BYTES);
    for (String line : Cases.drawnFields(handle)) {
      List<String> words = List.of(line.split(" "));
      long address = Long.parseLong(words.get(2));
      if (!words.get(1).equals("tensor")) {
        Class<?> type =
            Map.of("int32", int.class, "int64", long.class, "float", float.class, "double",
                   double.class)
                .get(words.get(1));
        scalars.add(new Scalar(words.get(0), type, (int) (address - arena.address())));
        continue;
      }
      Tensor tensor = Tensor.ofDlpack(address);
      long offset = tensor.address() == 0 ? 0 : tensor.address() - arena.address();
      Spec spec =
          byAddress.values()
              .stream()
              .filter(s -> s.offset == offset && !s.empty() && tensor.elements() > 0)
              .findFirst()
              .orElseGet(() -> new Spec(words.get(0), tensor, offset, words));
      spec.optional &= words.contains("optional");
      byAddress.put(address, spec);
    }
    List<Ending> endings = new ArrayList<>(List.of(Ending.values()));
    if (runMethods().isEmpty()) {
      endings.remove(Ending.STEP);
    }
    ending = endings.get(random.nextInt(endings.size()));
    List<Supplier<Op.Builder<?>>> doors = DOORS.getOrDefault(op, List.of());
    int which = random.nextInt(2 * doors.size() + 1);
    door = which < doors.size() ? doors.get(which) : null;
  }

  /** A builder with all that the plan says. */
  Op.Builder<?> fill(Trial trial) {
    int[] made = {0};
    Facade.Hook hook = new Facade.Hook() {
      @Override
      public Tensor tensor(long dl) {
        return byAddress.get(dl).value(trial);
      }

      @Override
      public boolean omits() {
        return made[0]++ == omitted;
      }
    };
    return Facade.with(hook, () -> {
      Steps<?> steps = Facade.steps(op, Cases.drawnParams(handle));
      if (door != null) {
        steps.beginWith(door);
      }
      faults.forEach(fault -> fault.accept(steps.calls()));
      return steps.fill();
    });
  }

  List<Spec> specs() {
    return byAddress.values().stream().distinct().toList();
  }

  Class<?> built() {
    return Arrays.stream(Op.class.getPermittedSubclasses())
        .filter(c -> c.getSimpleName().equalsIgnoreCase(op.replace("_", "")))
        .findFirst()
        .orElseThrow();
  }

  /** The methods by which an op with a step runs: those of its own class. */
  List<Method> runMethods() {
    return Arrays.stream(built().getDeclaredMethods())
        .filter(m -> Modifier.isPublic(m.getModifiers()) && m.getName().equals("run"))
        .sorted((a, b) -> a.toString().compareTo(b.toString()))
        .toList();
  }

  @Override
  public void close() {
    Cases.release(handle);
  }

  @Override
  public String toString() {
    return op + " " + specs() + "\n      then " + ending;
  }
}
