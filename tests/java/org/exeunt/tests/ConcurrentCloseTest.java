// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.bytedeco.javacpp.FloatPointer;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitHead;
import org.exeunt.Op;
import org.exeunt.Scope;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * Scopes, ops, workspaces and pointers that are closed while others run, build, copy and allocate.
 * In processes of their own: what was freed too early would take them down.
 */
@ExtendWith(ForcedPath.class)
class ConcurrentCloseTest {
  @Test
  void threads() {
    check(Subprocess.of(Storm.class, "platform"));
  }

  /** 192 KiB are enough for everything but the virtual machine's own. */
  @Test
  void threadsWithSmallStacks() {
    check(Subprocess.of(Storm.class, "small"));
  }

  @Test
  void virtualThreads() {
    int version = Runtime.version().feature();
    if (version < 21) {
      System.out.println("SKIPPED: Java " + version + " has no virtual threads");
    }
    Assumptions.assumeTrue(version >= 21, "no virtual threads");
    check(Subprocess.of(Storm.class, "virtual"));
  }

  private static void check(Subprocess storm) {
    String output = storm.option("-Xmx256m").run();
    System.out.print(output);
    assertTrue(output.matches("(?s).*\\d{4,} uses, \\d{2,} refusals, 0 failures\n"), output);
  }

  /** What a thread does over and over with what the others close. */
  private interface Use {
    void once(int round);
  }

  static final class Storm {
    private static final int ROUNDS = 150;
    private static final long ROWS = 6;
    private static final long DIM = 32;
    private static final long SMALL = 192 << 10;

    private static final AtomicLong uses = new AtomicLong();
    private static final AtomicLong refusals = new AtomicLong();
    private static final AtomicReference<Throwable> failure = new AtomicReference<>();

    public static void main(String[] args) throws Exception {
      for (int round = 0; round < ROUNDS && failure.get() == null; round++) {
        storm(args[0]);
      }
      if (failure.get() != null) {
        failure.get().printStackTrace(System.out);
      }
      System.out.println(args[0] + " threads: " + uses + " uses, " + refusals + " refusals, "
          + (failure.get() == null ? 0 : 1) + " failures");
    }

    private static void storm(String kind) throws Exception {
      Scope scope = Scope.open();
      Scope other = Scope.open();
      FloatPointer pointer = new FloatPointer(ROWS * DIM);
      Workspace shared = Workspace.in(other, Device.CPU);
      Tensor weight = scope.allocate(Device.CPU, DType.F32, 64, DIM).copyFrom(new float[64 * 32]);
      Tensor hidden = Tensor.of(pointer, DType.F32, Device.CPU, ROWS, DIM);
      hidden.copyFrom(new float[(int) (ROWS * DIM)]);
      Op first = head(hidden, weight, scope).build(scope, shared);
      Op second = head(weight.rows(0, ROWS), weight, scope).build(scope, shared);
      Tensor cosines = scope.allocate(Device.CPU, DType.F32, ROWS);
      Op third = Cosine.builder().a(hidden).b(hidden).out(cosines).build(other);
      List<Use> all = List.of(round
          -> first.run(),
          round
          -> second.run(),
          round
          -> third.run(),
          round
          -> third.run(), // by two at once
          round
          -> head(hidden, weight, scope).build(other, shared).run(),
          round
          -> scope.allocate(Device.CPU, DType.F32, 3).copyFrom(new float[3]),
          round
          -> weight.rows(0, ROWS).copyFrom(hidden, Stream.DEFAULT),
          round
          -> hidden.slice(1, 0, 3).toFloatArray(),
          round
          -> shared.bytes(),
          round
          -> close(round, 20, first),
          round
          -> close(round % 15 == 0 ? round : 0, 30, pointer), // twice
          round -> close(round, 40, scope), round -> close(round, 50, other));
      CountDownLatch go = new CountDownLatch(1);
      List<Thread> threads = new ArrayList<>();
      for (Use use : all) {
        threads.add(start(kind, () -> work(use, go)));
      }
      go.countDown();
      for (Thread thread : threads) {
        thread.join();
      }
      // Nobody runs any more, so all of it closes.
      first.close();
      second.close();
      third.close();
      scope.close();
      other.close();
      pointer.close();
    }

    private static ExitHead.Builder head(Tensor hidden, Tensor weight, Scope scope) {
      return ExitHead.builder().hidden(hidden).weight(weight).out(
          Statistics.allocate(scope, Device.CPU, ROWS, Statistic.ENTROPY));
    }

    private static void close(int round, int when, AutoCloseable what) {
      if (round < when) {
        Thread.onSpinWait();
        return;
      }
      try {
        what.close();
      } catch (RuntimeException e) {
        throw e;
      } catch (Exception e) {
        throw new AssertionError(e);
      }
    }

    private static void work(Use use, CountDownLatch go) {
      try {
        go.await();
        for (int round = 0; round < 60; round++) {
          try {
            use.once(round);
            uses.incrementAndGet();
          } catch (IllegalStateException e) {
            refusals.incrementAndGet();
          }
        }
      } catch (Throwable t) {
        failure.compareAndSet(null, t);
      }
    }

    private static Thread start(String kind, Runnable work) throws ReflectiveOperationException {
      if (kind.equals("virtual")) {
        Method start = Thread.class.getMethod("startVirtualThread", Runnable.class);
        return (Thread) start.invoke(null, work);
      }
      Thread thread = new Thread(null, work, kind, kind.equals("small") ? SMALL : 0);
      thread.start();
      return thread;
    }
  }
}
