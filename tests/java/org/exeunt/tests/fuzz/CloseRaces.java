// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests.fuzz;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.atomic.AtomicReference;
import org.bytedeco.javacpp.BytePointer;
import org.exeunt.Backend;
import org.exeunt.Device;
import org.exeunt.Op;
import org.exeunt.Scope;
import org.exeunt.Workspace;

/** An op that several threads run while others close what it needs. */
final class CloseRaces {
  private static final int THREADS = 4;
  private static final int ROUNDS = 6;

  private final long seed;
  private final Arena arena = new Arena();
  private final Map<String, Long> outcomes = new TreeMap<>();

  CloseRaces(long seed) {
    this.seed = seed;
  }

  Map<String, Long> outcomes() {
    return outcomes;
  }

  /** One race; what chance decides is repeatable, who wins is not. */
  void race(long number) {
    Random random = new Random(seed * 0x94d049bb133111ebL ^ number * 0xbf58476d1ce4e5b9L);
    try (Plan plan = Plan.any(random, arena)) {
      race(plan, random);
    }
  }

  private void race(Plan plan, Random random) {
    Spec.Owner[] owners = {Spec.Owner.SCOPE, Spec.Owner.OWN_POINTER, Spec.Owner.ADDRESS};
    plan.specs().forEach(spec -> spec.owner = owners[random.nextInt(owners.length)]);
    try (Trial trial = new Trial(arena, random, new HashSet<>())) {
      Scope tensors = trial.tensors();
      Scope ops = trial.ops();
      Workspace shared = random.nextBoolean() ? Workspace.in(ops, Device.CPU) : null;
      Op op;
      try {
        op = plan.fill(trial).build(ops, shared);
      } catch (IllegalArgumentException e) {
        return; // what is one tensor in the arena is two in a scope
      } catch (Throwable e) {
        throw new FacadeFuzz.Found("a valid op was refused: " + e + "\n    " + plan, e);
      }
      Op second = shared == null ? op : op(plan, trial, ops, shared);
      AtomicReference<Throwable> objection = new AtomicReference<>();
      CyclicBarrier start = new CyclicBarrier(THREADS);
      List<Thread> threads = new ArrayList<>();
      for (int t = 0; t < THREADS; t++) {
        int[] actions = random.ints(ROUNDS, 0, 16).toArray();
        Thread thread = thread(random.nextInt(4), () -> {
          try {
            start.await();
          } catch (Exception e) {
            objection.set(e);
          }
          for (int action : actions) {
            act(action, op, second, trial, shared, objection);
          }
        });
        threads.add(thread);
        thread.start();
      }
      for (Thread thread : threads) {
        thread.join();
      }
      if (objection.get() != null) {
        throw new FacadeFuzz.Found(objection.get() + " in a race\n    " + plan, objection.get());
      }
      op.close();
      second.close();
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    } catch (IllegalStateException e) {
      throw new FacadeFuzz.Found("what is not in use cannot be closed: " + e + "\n    " + plan, e);
    }
  }

  private static Op op(Plan plan, Trial trial, Scope ops, Workspace shared) {
    try {
      return plan.fill(trial).build(ops, shared);
    } catch (Throwable e) {
      throw new FacadeFuzz.Found("an op was refused when built again: " + e + "\n    " + plan, e);
    }
  }

  /** An ordinary thread, one of a small stack, or, where there are such, a virtual one. */
  private static Thread thread(int kind, Runnable work) {
    if (kind == 0) {
      return new Thread(null, work, "small", 160 << 10);
    }
    if (kind == 1) {
      try { // from JDK 21 on: Thread.ofVirtual().unstarted(work)
        Object builder = Thread.class.getMethod("ofVirtual").invoke(null);
        return (Thread) Class.forName("java.lang.Thread$Builder")
            .getMethod("unstarted", Runnable.class)
            .invoke(builder, work);
      } catch (ReflectiveOperationException e) {
        return new Thread(work);
      }
    }
    return new Thread(work);
  }

  private void act(int action, Op op, Op second, Trial trial, Workspace shared,
      AtomicReference<Throwable> objection) {
    String outcome;
    Scope tensors = trial.tensors();
    Scope ops = trial.ops();
    try {
      switch (action) {
        case 0 -> tensors.close();
        case 1 -> ops.close();
        case 9 -> {
          BytePointer pointer; // once: JavaCPP frees twice where two close at the same time
          while ((pointer = trial.pointers().poll()) != null) {
            pointer.close();
          }
        }
        case 2 -> op.close();
        case 3 -> second.run();
        case 4 -> tensors.allocate(Device.CPU, org.exeunt.DType.F32, 3, 5).toFloatArray();
        case 5 -> ops.allocatedBytes();
        case 6 -> {
          if (shared != null) {
            shared.bytes();
          }
        }
        case 7 -> Backend.setThreads(1 + op.hashCode() % 3);
        default -> op.run();
      }
      outcome = "done";
    } catch (Throwable t) {
      outcome = t.getClass().getSimpleName();
      boolean small =
          t instanceof StackOverflowError && Thread.currentThread().getName().equals("small");
      if (!small && Verdict.objection(t) != null) {
        objection.set(t);
      }
    }
    synchronized (outcomes) {
      outcomes.merge(outcome, 1L, Long::sum);
    }
  }
}
