// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;
import org.exeunt.Backend;
import org.exeunt.BlockFormat;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitHead;
import org.exeunt.Linear;
import org.exeunt.Op;
import org.exeunt.RowStats;
import org.exeunt.Scope;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** Ops that share a workspace. */
@ExtendWith(ForcedPath.class)
class WorkspaceTest {
  private static final long DIM = 96;
  private Scope scope;

  @BeforeEach
  void open() {
    scope = Scope.open();
  }

  @AfterEach
  void close() {
    scope.close();
  }

  private Tensor random(Device device, int seed, long... shape) {
    Tensor tensor = scope.allocate(device, DType.F32, shape);
    Random random = new Random(seed);
    float[] values = new float[(int) tensor.elements()];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return tensor.copyFrom(values);
  }

  private Linear.Builder linear(long rows) {
    Tensor out = scope.allocate(Device.CPU, DType.F32, rows, 24);
    return Linear.builder()
        .input(random(Device.CPU, 1, rows, DIM))
        .weight(random(Device.CPU, 2, 24, DIM))
        .out(out);
  }

  @Test
  @Tag("kernels")
  void sharingChangesNoBit() {
    Device device = Device.defaultDevice();
    Workspace shared = Workspace.in(scope);
    assertEquals(device, shared.device());
    assertEquals(0, shared.bytes());
    Tensor weight = random(device, 7, 400, DIM);
    long[] rows = {3, 40, 8};
    Op[] ops = new Op[rows.length];
    Tensor[] together = new Tensor[rows.length];
    float[][] expected = new float[rows.length][];
    long most = 0;
    for (int i = 0; i < rows.length; i++) {
      Tensor hidden = random(device, i, rows[i], DIM);
      Statistics alone = Statistics.allocate(scope, rows[i], Statistic.ENTROPY);
      Op own = ExitHead.builder().hidden(hidden).weight(weight).out(alone).build(scope);
      assertTrue(own.workspaceBytes() > 0, "this op was chosen because it needs some");
      most = Math.max(most, own.workspaceBytes());
      expected[i] = run(own, alone.entropy());
      Statistics out = Statistics.allocate(scope, rows[i], Statistic.ENTROPY);
      together[i] = out.entropy();
      ops[i] = ExitHead.builder().hidden(hidden).weight(weight).out(out).build(scope, shared);
      assertEquals(own.workspaceBytes(), ops[i].workspaceBytes());
      assertEquals(most, shared.bytes());
      run(ops[0], together[0]); // what it was built with has been outgrown
    }
    for (int round = 0; round < 2; round++) {
      for (int i = 0; i < rows.length; i++) {
        together[i].copyFrom(new float[expected[i].length]);
        assertArrayEquals(expected[i], run(ops[i], together[i]));
      }
    }
    ops[1].close(); // takes nothing along
    assertArrayEquals(expected[2], run(ops[2], together[2]));
    assertEquals(most, shared.bytes());
  }

  @Test
  void whatItHasOutgrownIsFreed() {
    Workspace shared = Workspace.in(scope, Device.CPU);
    long[] taken = new long[2]; // by the op, beside the workspace
    for (int i = 0; i < 2; i++) {
      Linear.Builder linear = linear(i == 0 ? 3 : 90);
      long before = Backend.heldBytes() - shared.bytes();
      linear.build(scope, shared);
      taken[i] = Backend.heldBytes() - shared.bytes() - before;
    }
    assertTrue(taken[0] > 0);
    assertEquals(taken[0], taken[1]);
  }

  private static float[] run(Op op, Tensor result) {
    op.run();
    Stream.DEFAULT.synchronize();
    return result.toFloatArray();
  }

  @Test
  void onlyOneOfThemRunsAtATime() throws InterruptedException {
    Workspace shared = Workspace.in(scope, Device.CPU);
    Tensor logits = scope.allocate(Device.CPU, DType.F32, 8, 200_000);
    logits.copyFrom(new float[8 * 200_000]);
    Statistics out = Statistics.allocate(scope, Device.CPU, 8, Statistic.ENTROPY);
    RowStats slow = RowStats.builder().logits(logits).out(out).build(scope, shared);
    Linear quick = linear(5).build(scope, shared);
    Linear.Builder another = linear(5);
    CountDownLatch started = new CountDownLatch(1);
    AtomicReference<Throwable> end = new AtomicReference<>();
    Thread runner = new Thread(() -> {
      try {
        while (!Thread.currentThread().isInterrupted()) {
          slow.run();
          started.countDown();
        }
      } catch (IllegalStateException e) {
        end.set(e);
      }
    });
    runner.start();
    started.await();
    int runs = 0;
    int builds = 0;
    for (int i = 0; i < 100_000 && (runs == 0 || builds == 0) && end.get() == null; i++) {
      try {
        quick.run();
      } catch (IllegalStateException e) {
        assertTrue(e.getMessage().startsWith("Linear: another op"), e.getMessage());
        runs++;
      }
      try {
        another.build(scope, shared).close();
      } catch (IllegalStateException e) {
        assertTrue(e.getMessage().startsWith("workspace: another op"), e.getMessage());
        builds++;
      }
    }
    runner.interrupt();
    runner.join();
    assertTrue(runs + builds > 0 || end.get() != null, "none met another");
    quick.run(); // they are unharmed
    slow.run();
    another.build(scope, shared).run();
  }

  /** Where another instruction set needs a larger workspace, the next run makes it larger. */
  @Test
  void opsOutliveAChangeOfTheInstructionSet() {
    String before = Backend.isa();
    int grown = 0;
    try {
      for (String from : Backend.isas()) {
        for (String to : Backend.isas()) {
          for (DType dtype : new DType[] {DType.F32, DType.BF16}) {
            grown += runsOnBoth(from, to, dtype);
          }
          grown += blocksRunOnBoth(from, to);
        }
      }
    } finally {
      Backend.setIsa(before);
    }
    if (grown == 0) {
      System.out.println("SKIPPED: no op needs a larger workspace on another of " + Backend.isas());
    }
  }

  private int runsOnBoth(String from, String to, DType dtype) {
    int grown = 0;
    for (Workspace shared : new Workspace[] {null, Workspace.in(scope, Device.CPU)}) {
      Backend.setIsa(from);
      Tensor out = scope.allocate(Device.CPU, dtype, 20, 24);
      Linear.Builder linear =
          Linear.builder()
              .input(random(dtype, 1, 20, DIM))
              .weight(random(dtype, 2, 24, DIM))
              .out(out);
      Statistics statistics = Statistics.allocate(scope, Device.CPU, 20, Statistic.ENTROPY);
      ExitHead.Builder head =
          ExitHead.builder()
              .hidden(random(dtype, 3, 20, DIM))
              .weight(random(dtype, 4, 200, DIM))
              .out(statistics);
      Op first = linear.build(scope, shared);
      Op second = head.build(scope, shared);
      run(first, out);
      run(second, statistics.entropy());
      long[] built = {first.workspaceBytes(), second.workspaceBytes()};
      Backend.setIsa(to);
      float[] product = run(first, out);
      float[] entropy = run(second, statistics.entropy());
      try (Op again = linear.build(); Op headAgain = head.build()) {
        assertArrayEquals(run(again, out), product, from + " to " + to);
        assertArrayEquals(run(headAgain, statistics.entropy()), entropy, from + " to " + to);
        assertTrue(first.workspaceBytes() >= again.workspaceBytes());
        assertTrue(second.workspaceBytes() >= headAgain.workspaceBytes());
      }
      grown += first.workspaceBytes() > built[0] ? 1 : 0;
      grown += second.workspaceBytes() > built[1] ? 1 : 0;
      first.close();
      second.close();
    }
    return grown;
  }

  /** Sets that multiply bytes keep the inputs' here. */
  private int blocksRunOnBoth(String from, String to) {
    Tensor weight = scope.allocate(Device.CPU, DType.U8, 24, BlockFormat.Q8_0.rowBytes(DIM));
    byte[] blocks = new byte[(int) weight.elements()];
    for (int i = 0; i < blocks.length; i++) {
      // The scales, of two bytes in 34, become a small number.
      blocks[i] = i % 34 == 0 ? 0 : i % 34 == 1 ? (byte) 0x20 : (byte) (7 * i);
    }
    weight.byteBuffer().put(blocks);
    Tensor out = scope.allocate(Device.CPU, DType.F32, 20, 24);
    Linear.Builder linear =
        Linear.builder()
            .input(random(Device.CPU, 1, 20, DIM))
            .weight(weight)
            .weightBlocks(BlockFormat.Q8_0)
            .out(out);
    int grown = 0;
    for (Workspace shared : new Workspace[] {null, Workspace.in(scope, Device.CPU)}) {
      Backend.setIsa(from);
      try (Op op = linear.build(null, shared)) {
        long built = op.workspaceBytes();
        long held = Backend.heldBytes();
        Backend.setIsa(to);
        float[] product = run(op, out);
        assertEquals(op.workspaceBytes() - built, Backend.heldBytes() - held, from + " to " + to);
        grown += op.workspaceBytes() > built ? 1 : 0;
        try (Op again = linear.build()) {
          assertArrayEquals(run(again, out), product, from + " to " + to);
        }
      }
    }
    return grown;
  }

  private Tensor random(DType dtype, int seed, long... shape) {
    float[] values = random(Device.CPU, seed, shape).toFloatArray();
    return scope.allocate(Device.CPU, dtype, shape).copyFrom(values);
  }

  @Test
  void itGoesWithItsScope() {
    Scope passing = Scope.open();
    Workspace shared = Workspace.in(passing, Device.CPU);
    Linear op = linear(5).build(scope, shared);
    op.run();
    long counted = passing.allocatedBytes();
    assertEquals(0, counted, "workspaces are not counted");
    passing.close();
    refused(IllegalStateException.class, op::run, "scope is closed");
    refused(IllegalStateException.class, () -> linear(5).build(scope, shared), "scope is closed");
    op.close();
  }

  @Test
  void anotherDeviceIsRefused() {
    Workspace elsewhere = Workspace.in(scope, Device.cuda(3));
    refused(IllegalArgumentException.class,
        ()
            -> linear(5).build(scope, elsewhere),
        "workspace", elsewhere.device().toString(), Device.CPU.toString());
    refused(NullPointerException.class, () -> Workspace.in(null, Device.CPU), "owner");
    refused(NullPointerException.class, () -> Workspace.in(scope, null), "device");
  }
}
