// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import org.bytedeco.javacpp.FloatPointer;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitRule;
import org.exeunt.FfnSkipRule;
import org.exeunt.Linear;
import org.exeunt.Op;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Runs that end in a StackOverflowError, wherever it hits, leave nothing taken: the op runs again
 * and its scope closes. In processes of their own, each with another compiler.
 */
class StackOverflowTest {
  @ParameterizedTest
  @ValueSource(strings = {"-Xint", "-XX:TieredStopAtLevel=1", "-XX:TieredStopAtLevel=4"})
  void everythingIsGivenBack(String compiler) {
    String output =
        Subprocess.of(Overflows.class)
            .option(compiler)
            .option("-Dexeunt.quick=" + Setup.quick())
            .option("-XX:MaxJavaStackTraceDepth=4") // else all of the time goes into traces
            .run();
    System.out.print(output);
    assertTrue(output.matches("(?s).*\\d{4,} runs overflowed, 0 were stuck.*"), output);
  }

  /** One way to take and to give back what belongs to tensors. */
  private interface Use {
    void once();
  }

  /** Overflows the stack at every depth, in threads with stacks of several sizes. */
  static final class Overflows {
    private static final int ROUNDS = 2;
    private static final int WARM = 12_000;

    /** Levels of recursion before the end in which a run is tried: some 20 KiB and more. */
    private static final int LEVELS = 400;

    private static final long[] STACK_KIB =
        Setup.quick() ? new long[] {192} : new long[] {192, 1024};

    private static long overflows;
    private static long stuck;
    private static int deepest;

    public static void main(String[] args) throws InterruptedException {
      for (long kib : STACK_KIB) {
        Thread thread = new Thread(null, Overflows::uses, "stack of " + kib, kib << 10);
        thread.start();
        thread.join();
      }
      System.out.println(overflows + " runs overflowed, " + stuck + " were stuck");
    }

    private static void uses() {
      deepest = 0;
      Scope scope = Scope.open();
      try (FloatPointer pointer = new FloatPointer(32)) {
        List<Use> uses = new ArrayList<>();
        Tensor own = scope.allocate(Device.CPU, DType.F32, 2, 16);
        own.copyFrom(new float[32]);
        Tensor foreign = Tensor.of(pointer, DType.F32, Device.CPU, 2, 16);
        foreign.copyFrom(new float[32]);
        Workspace shared = Workspace.in(scope, Device.CPU);
        for (Tensor a : new Tensor[] {own, foreign}) {
          Tensor out = scope.allocate(Device.CPU, DType.F32, 2);
          Cosine cosine = Cosine.builder().a(a).b(own).out(out).build(scope);
          uses.add(cosine::run);
          Tensor product = scope.allocate(Device.CPU, DType.F32, 2, 2);
          Op linear = Linear.builder().input(a).weight(own).out(product).build(scope, shared);
          uses.add(linear::run);
          uses.add(() -> own.copyFrom(a, Stream.DEFAULT));
          uses.add(a::toFloatArray);
          uses.add(shared::bytes);
        }
        Tensor score = scope.allocate(Device.CPU, DType.F32, 2).copyFrom(new float[2]);
        Tensor state = ExitRule.allocateState(scope, Device.CPU, 2);
        ExitRule rule =
            ExitRule.builder()
                .score(score)
                .state(state)
                .threshold(ExitRule.Comparator.GE, .5f)
                .build(scope);
        uses.add(() -> rule.run(1, true, false));
        FfnSkipRule skip =
            FfnSkipRule.builder()
                .cosine(score)
                .state(FfnSkipRule.allocateState(scope, Device.CPU, 2))
                .skip(scope.allocate(Device.CPU, DType.U8, 2))
                .modelLayers(4)
                .coldLayers(1, 3)
                .warmUp(0)
                .threshold(.5f)
                .build(scope);
        uses.add(() -> skip.run(-1, 0));
        for (Use use : uses) {
          overflow(use);
        }
        try {
          scope.close();
        } catch (IllegalStateException e) {
          System.out.println(Thread.currentThread().getName() + ": " + e.getMessage());
          stuck++;
        }
      }
    }

    private static void overflow(Use use) {
      for (int i = 0; i < WARM; i++) { // until it is compiled
        use.once();
      }
      for (int round = 0; round < ROUNDS; round++) {
        shift(use, round, 0, 0, 0);
        try {
          use.once();
        } catch (IllegalStateException e) {
          System.out.println(Thread.currentThread().getName() + ": " + e.getMessage());
          stuck++;
        }
      }
    }

    /** Other frames in front: each round meets other distances from the stack's end. */
    private static void shift(Use use, int frames, long a, long b, long c) {
      if (frames > 0) {
        shift(use, frames - 1, a + 1, b + a, c + b);
        return;
      }
      if (deepest == 0) {
        try {
          descend(use, 1, Integer.MAX_VALUE);
        } catch (StackOverflowError e) {
          overflows++;
        }
      }
      try {
        descend(use, 1, deepest - LEVELS);
      } catch (StackOverflowError e) {
        overflows++;
      }
    }

    /** Runs at every level from one on, until the stack is full. */
    private static void descend(Use use, int level, int first) {
      deepest = level;
      if (level >= first) {
        try {
          use.once();
        } catch (StackOverflowError e) {
          overflows++; // no call: there is no stack for one
        }
      }
      descend(use, level + 1, first);
    }
  }
}
