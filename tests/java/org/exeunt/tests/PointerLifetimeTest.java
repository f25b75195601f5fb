// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.refused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Op;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** JavaCPP pointers that are closed before, between and during the runs that use their memory. */
@ExtendWith(ForcedPath.class)
class PointerLifetimeTest {
  private static final long LARGE = 1 << 18; // its memory is unmapped where it is freed

  private static Tensor large(Pointer pointer) {
    return Tensor.of(pointer, DType.F32, Device.CPU, 1, LARGE);
  }

  /** In a process of its own, which would crash. */
  @Test
  void closedDuringRunsAndCopies() {
    String output = Subprocess.of(Closes.class).option("-Xmx256m").run();
    assertTrue(output.contains("closed 0 too early, 0 not at all"), output);
  }

  static final class Closes {
    private static final int ROUNDS = 150;

    public static void main(String[] args) throws InterruptedException {
      int late = 0;
      int early = 0;
      for (int round = 0; round < ROUNDS; round++) {
        long before = Pointer.totalBytes();
        try (Scope scope = Scope.open()) {
          PointerScope pointers = round % 3 == 0 ? new PointerScope() : null;
          FloatPointer pointer = new FloatPointer(LARGE);
          // Two pointers share one count of references.
          FloatPointer alias = round % 2 == 0 ? pointer : new FloatPointer(pointer);
          List<Runnable> uses = uses(scope, pointer, alias);
          AtomicInteger runs = new AtomicInteger();
          CountDownLatch started = new CountDownLatch(uses.size());
          AtomicReference<Throwable> wrong = new AtomicReference<>();
          List<Thread> threads = new ArrayList<>();
          for (Runnable use : uses) {
            Thread thread = new Thread(() -> untilClosed(use, started, runs, wrong));
            thread.start();
            threads.add(thread);
          }
          started.await();
          if (pointers != null) {
            pointers.close();
          }
          pointer.close(); // the second time, in a third of the rounds
          for (Thread thread : threads) {
            thread.join();
          }
          if (wrong.get() != null) {
            System.out.println(wrong.get());
            early++;
          }
          if (Pointer.totalBytes() > before) {
            System.out.println(pointer);
            late++;
          }
        }
      }
      System.out.println("closed " + early + " too early, " + late + " not at all");
    }

    private static List<Runnable> uses(Scope scope, FloatPointer pointer, FloatPointer alias) {
      Tensor a = large(pointer);
      Tensor b = large(alias);
      b.copyFrom(new float[(int) LARGE]);
      Tensor copy = scope.allocate(Device.CPU, DType.F32, 1, LARGE);
      Op first =
          Cosine.builder().a(a).b(b).out(scope.allocate(Device.CPU, DType.F32, 1)).build(scope);
      Op second =
          Cosine.builder().a(b).b(b).out(scope.allocate(Device.CPU, DType.F32, 1)).build(scope);
      return List.of(first::run, second::run,
          () -> b.copyTo(copy, Stream.DEFAULT), () -> a.row(0).slice(0, 7, 900).toFloatArray());
    }

    private static void untilClosed(Runnable use, CountDownLatch started, AtomicInteger runs,
        AtomicReference<Throwable> wrong) {
      try {
        use.run();
        started.countDown();
        while (true) {
          use.run();
          runs.incrementAndGet();
          // A pointer that is held may be taken again, closed or not: at times it must not be held.
          Thread.sleep(ThreadLocalRandom.current().nextInt(4));
        }
      } catch (IllegalStateException e) {
        if (!e.getMessage().contains("FloatPointer behind a tensor was closed")) {
          wrong.set(e);
        }
      } catch (Throwable t) {
        wrong.set(t);
      }
    }
  }

  /**
   * One or two closes by others, at every step of the taking and giving back of a run, but not one
   * while the other one frees: that frees twice with JavaCPP alone as well.
   */
  @Test
  void closedAtEveryStepOfARun() {
    int steps = new Closing().steps;
    List<String> lost = new ArrayList<>();
    for (int first = 1; first <= steps; first++) {
      int last = closedAt(first, Integer.MAX_VALUE, lost);
      for (int second = first; second <= last; second++) {
        closedAt(first, second, lost);
      }
    }
    assertTrue(steps > 10 && lost.size() <= 5, steps + " steps, lost if closed at " + lost);
  }

  /** How many steps there were. */
  private static int closedAt(int first, int second, List<String> lost) {
    String when = first + " and " + second;
    Closing closing = new Closing(first, second);
    assertTrue(closing.freed.get() <= 1, () -> "freed twice when closed at " + when);
    assertFalse(closing.letIn && closing.early, () -> "freed too early when closed at " + when);
    if (closing.freed.get() == 0) {
      assertTrue(closing.steps > Closing.PATIENCE && closing.referenceCount() > 0, when);
      lost.add(when);
    }
    return Math.min(closing.steps, Closing.PATIENCE);
  }

  /** Runs an op when it is made. Steps are what that thread asks of the pointer. */
  private static final class Closing extends FloatPointer {
    static final int PATIENCE = 50; // steps that a run without waiting does not have
    private static final FloatPointer MEMORY = new FloatPointer(8);

    final AtomicInteger freed = new AtomicInteger();
    boolean letIn = true;
    volatile boolean early;
    int steps;
    private final Thread runner = Thread.currentThread();
    private final CountDownLatch waitedFor = new CountDownLatch(1);
    private final List<Thread> closers = new ArrayList<>();
    private final List<Integer> when;
    private boolean running;
    private boolean deallocating;
    private boolean looked;
    private volatile boolean givesBack; // a run that was let in looks twice then

    Closing(Integer... when) {
      super((Pointer) null);
      this.when = List.of(when);
      deallocator(this::free);
      address = MEMORY.address();
      limit = capacity = 8;
      try (Scope scope = Scope.open()) {
        Tensor a = Tensor.of(this, DType.F32, Device.CPU, 1, 8);
        Op op =
            Cosine.builder().a(a).b(a).out(scope.allocate(Device.CPU, DType.F32, 1)).build(scope);
        running = true;
        try {
          op.run();
        } catch (IllegalStateException e) {
          letIn = false;
        }
        if (when.length > 0) {
          refused(IllegalStateException.class, op::run, "Closing behind a tensor was closed");
        }
        running = false;
        waitedFor.countDown();
        for (Thread closer : closers) {
          closer.join();
        }
      } catch (InterruptedException e) {
        throw new IllegalStateException(e);
      }
    }

    private void step() {
      if (Thread.currentThread() != runner || !running) {
        return;
      }
      steps++;
      for (int at : when) {
        if (at == steps && closers.stream().noneMatch(Thread::isAlive)) {
          Thread closer = new Thread(this::close);
          closers.add(closer);
          closer.start();
          while (closer.isAlive() && closer.getState() != Thread.State.WAITING) {
            Thread.yield();
          }
        }
      }
      if (steps > PATIENCE) {
        waitedFor.countDown();
      }
    }

    private void free() {
      freed.incrementAndGet();
      early |= !givesBack;
      if (deallocating) {
        step();
      } else if (Thread.currentThread() != runner) {
        try {
          waitedFor.await();
        } catch (InterruptedException e) {
          throw new IllegalStateException(e);
        }
      }
    }

    @Override
    public int referenceCount() {
      givesBack |= looked;
      looked = running;
      step();
      return super.referenceCount();
    }

    @Override
    public <P extends Pointer> P retainReference() {
      looked = false;
      step();
      return super.retainReference();
    }

    @Override
    public boolean releaseReference() {
      step();
      return super.releaseReference();
    }

    @Override
    public void deallocate() {
      step();
      deallocating = true;
      super.deallocate();
    }
  }

  /** What it does to the count of references: close() goes on to free at once. */
  @Test
  void closeBetweenRunsFreesAtOnce() {
    long before = Pointer.totalBytes();
    try (Scope scope = Scope.open()) {
      FloatPointer pointer = new FloatPointer(LARGE);
      assertEquals(0, pointer.referenceCount());
      Tensor a = large(pointer);
      Tensor again = large(pointer);
      assertEquals(1, pointer.referenceCount(), "as many tensors as one likes");
      Tensor out = scope.allocate(Device.CPU, DType.F32, 1);
      Cosine op = Cosine.builder().a(a).b(again.rows(0, 1)).out(out).build(scope);
      for (int i = 0; i < 3; i++) {
        op.run();
        a.toFloatArray();
        assertEquals(1, pointer.referenceCount(), "runs give back what they took");
      }
      assertTrue(a.isAlive());
      pointer.close();
      assertEquals(before, Pointer.totalBytes());
      assertFalse(a.isAlive() || again.isAlive());
      refused(IllegalStateException.class, op::run, "FloatPointer", "closed");
      refused(IllegalStateException.class, a::toFloatArray, "FloatPointer", "closed");
      refused(IllegalStateException.class, () -> a.copyTo(a, Stream.DEFAULT), "closed");
    }
  }

  /** A pointer made of another does not know its address any more once that was closed. */
  @Test
  void closeOfThePointerItWasMadeOf() {
    FloatPointer pointer = new FloatPointer(LARGE);
    FloatPointer part = pointer.getPointer(16);
    Tensor tensor = Tensor.of(part, DType.F32, Device.CPU, 8);
    tensor.copyFrom(new float[8]);
    pointer.close();
    assertFalse(part.isNull());
    assertFalse(tensor.isAlive());
    refused(IllegalStateException.class, tensor::toFloatArray, "FloatPointer", "closed");
  }

  @Test
  void pointersWithoutAnOwnerAreTheCallersWord() {
    try (FloatPointer owner = new FloatPointer(1f, 2f)) {
      Tensor tensor = Tensor.of(new Bare(owner.address()), DType.F32, Device.CPU, 2);
      assertEquals(2, tensor.toFloatArray()[1]);
      assertTrue(tensor.isAlive());
      assertEquals(0, owner.referenceCount());
    }
  }

  private static final class Bare extends Pointer {
    Bare(long address) {
      this.address = address;
    }
  }

  @Test
  void scopedPointersLiveAsLongAsTheirScope() {
    long before = Pointer.totalBytes();
    Tensor tensor;
    try (PointerScope scope = new PointerScope()) {
      FloatPointer pointer = new FloatPointer(LARGE);
      tensor = large(pointer);
      tensor.toFloatArray();
      assertEquals(1, pointer.referenceCount());
    }
    assertFalse(tensor.isAlive());
    assertEquals(before, Pointer.totalBytes());
  }
}
