// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.refused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;
import org.bytedeco.javacpp.FloatPointer;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitHead;
import org.exeunt.Op;
import org.exeunt.RowStats;
import org.exeunt.Scope;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** Who frees what, and what happens to those who come too late or at the same time. */
@ExtendWith(ForcedPath.class)
class LifetimeTest {
  private static final long ROWS = 8;
  private static final long VOCABULARY = 200_000;
  private static final int ATTEMPTS = 200;

  private static RowStats slowOp(Scope scope) {
    Tensor logits = scope.allocate(Device.CPU, DType.F32, ROWS, VOCABULARY);
    Statistics out = Statistics.allocate(scope, Device.CPU, ROWS, Statistic.ENTROPY);
    return RowStats.builder().logits(logits).out(out).build(scope);
  }

  /** Runs an op over and over until it throws, or until stopped. */
  private static final class Runner extends Thread {
    final AtomicReference<Throwable> end = new AtomicReference<>();
    final CountDownLatch started = new CountDownLatch(1);
    private final Op op;

    Runner(Op op) {
      this.op = op;
    }

    @Override
    public void run() {
      try {
        while (!isInterrupted()) {
          op.run();
          started.countDown();
        }
      } catch (IllegalStateException e) {
        end.set(e);
      }
    }
  }

  @Test
  void closeWhileRunningIsRefusedAndUseAfterCloseToo() throws InterruptedException {
    int refusals = 0;
    for (int i = 0; i < ATTEMPTS && refusals < 3; i++) {
      Scope scope = Scope.open();
      Runner runner = new Runner(slowOp(scope));
      runner.start();
      runner.started.await();
      while (scope.isOpen()) {
        try {
          scope.close();
        } catch (IllegalStateException e) {
          assertTrue(e.getMessage().contains("in use by 1"), e.getMessage());
          refusals++;
        }
      }
      runner.join();
      assertTrue(runner.end.get() != null, "the op ran on after its scope was closed");
    }
    assertTrue(refusals >= 3, "no close met a running op in " + ATTEMPTS + " attempts");
  }

  @Test
  void secondRunAtTheSameTimeIsRefused() throws InterruptedException {
    try (Scope scope = Scope.open()) {
      RowStats op = slowOp(scope);
      Runner runner = new Runner(op);
      runner.start();
      runner.started.await();
      int refused = 0;
      for (int i = 0; i < 100_000 && refused == 0 && runner.end.get() == null; i++) {
        try {
          op.run();
        } catch (IllegalStateException e) {
          assertTrue(
              e.getMessage().contains("RowStats is running in another thread"), e.getMessage());
          refused++;
        }
      }
      runner.interrupt();
      runner.join();
      assertTrue(refused > 0 || runner.end.get() != null, "no run met another");
      op.run(); // the op itself is unharmed
    }
  }

  @Test
  void differentOpsRunInParallelOnSharedInputs() throws InterruptedException {
    try (Scope scope = Scope.open()) {
      Random random = new Random(1);
      float[] values = new float[64 * 1000];
      for (int i = 0; i < values.length; i++) {
        values[i] = (float) random.nextGaussian();
      }
      Tensor logits = scope.allocate(Device.CPU, DType.F32, 64, 1000).copyFrom(values);
      Statistics reference = Statistics.allocate(scope, Device.CPU, 64, Statistic.ENTROPY);
      RowStats.compute(logits, reference);
      float[] expected = reference.entropy().toFloatArray();
      AtomicReference<Throwable> failure = new AtomicReference<>();
      Thread[] threads = new Thread[4];
      for (int t = 0; t < threads.length; t++) {
        threads[t] = new Thread(() -> {
          Statistics out = Statistics.allocate(scope, Device.CPU, 64, Statistic.ENTROPY);
          try (RowStats op = RowStats.builder().logits(logits).out(out).build()) {
            for (int i = 0; i < 50; i++) {
              op.run();
              assertEquals(
                  Arrays.toString(expected), Arrays.toString(out.entropy().toFloatArray()));
            }
          } catch (Throwable e) {
            failure.set(e);
          }
        });
        threads[t].start();
      }
      for (Thread thread : threads) {
        thread.join();
      }
      assertEquals(null, failure.get());
    }
  }

  @Test
  void closedPointer() {
    try (Scope scope = Scope.open()) {
      FloatPointer pointer = new FloatPointer(8);
      Tensor a = Tensor.of(pointer, DType.F32, Device.CPU, 2, 4);
      Tensor out = scope.allocate(Device.CPU, DType.F32, 2);
      Cosine op = Cosine.builder().a(a).b(a).out(out).build(scope);
      op.run();
      pointer.close();
      assertFalse(a.isAlive());
      refused(IllegalStateException.class, op::run, "FloatPointer", "closed");
      refused(
          IllegalStateException.class, () -> Cosine.compute(a, a, out), "FloatPointer", "closed");
      refused(IllegalStateException.class, a::toFloatArray, "FloatPointer", "closed");
    }
  }

  @Test
  void scopeCountsWhatItHolds() {
    try (Scope scope = Scope.open()) {
      scope.allocate(Device.CPU, DType.F32, 10, 10);
      scope.allocate(Device.CPU, DType.U8, 3);
      assertEquals(403, scope.allocatedBytes());
    }
  }

  /** In a process with a small Java heap, where memory that is not given back shows. */
  @Test
  @Tag("any-jdk") // nothing that is measured waits for a collector
  void noOffHeapGrowth() {
    String output = Subprocess.of(OffHeapGrowth.class).option("-Xmx24m").run();
    for (String what : OffHeapGrowth.WHAT) {
      assertTrue(output.contains(what + " grown by"), output);
      String kib = output.replaceAll("(?s).*" + what + " grown by (-?\\d+) .*", "$1");
      assertTrue(Long.parseLong(kib) < OffHeapGrowth.MOST_KIB, output);
    }
  }

  /** Builds, runs and closes many ops; each kind would leave several times what is allowed. */
  static final class OffHeapGrowth {
    static final List<String> WHAT = List.of("blocks", "workspaces", "scopes");
    static final long MOST_KIB = 40_000;

    public static void main(String[] args) throws IOException {
      try (Scope scope = Scope.open()) {
        Tensor a = scope.allocate(Device.CPU, DType.F32, 2, 4);
        Tensor out = scope.allocate(Device.CPU, DType.F32, 2);
        Cosine.Builder cosine = Cosine.builder().a(a).b(a).out(out);
        measure("blocks", 100_000, () -> runAndClose(cosine, scope, null));
        ExitHead.Builder large = withWorkspace(scope, 256);
        measure("workspaces", 2_000, () -> runAndClose(large, scope, null));
        ExitHead.Builder small = withWorkspace(scope, 128);
        float[] values = new float[20_000];
        measure("scopes", 2_000, () -> {
          try (Scope passing = Scope.open()) {
            passing.copyOf(values, values.length);
            Workspace shared = Workspace.in(passing, Device.CPU);
            runAndClose(small, passing, shared);
            runAndClose(large, passing, shared);
            large.build(passing).run();
          }
        });
      }
    }

    /** A workspace of some 400 bytes for each row. */
    private static ExitHead.Builder withWorkspace(Scope scope, long rows) {
      Tensor hidden = scope.allocate(Device.CPU, DType.F32, rows, 16);
      Tensor weight = scope.allocate(Device.CPU, DType.F32, 40, 16);
      return ExitHead.builder()
          .hidden(hidden.copyFrom(new float[(int) hidden.elements()]))
          .weight(weight.copyFrom(new float[(int) weight.elements()]))
          .out(Statistics.allocate(scope, Device.CPU, rows, Statistic.ENTROPY));
    }

    private static void runAndClose(Op.Builder<?> builder, Scope scope, Workspace shared) {
      try (Op op = builder.build(scope, shared)) {
        op.run();
      }
      try (Op op = builder.build(null, shared)) {
        op.run();
      }
    }

    private static void measure(String what, int times, Runnable round) throws IOException {
      for (int i = 0; i < times / 10; i++) {
        round.run();
      }
      long before = residentKib();
      for (int i = 0; i < times; i++) {
        round.run();
      }
      System.out.println(what + " grown by " + (residentKib() - before) + " KiB");
    }

    private static long residentKib() throws IOException {
      return Files.readAllLines(Path.of("/proc/self/status"))
          .stream()
          .filter(line -> line.startsWith("VmRSS:"))
          .mapToLong(line -> Long.parseLong(line.replaceAll("\\D+", "")))
          .findFirst()
          .orElseThrow();
    }
  }
}
