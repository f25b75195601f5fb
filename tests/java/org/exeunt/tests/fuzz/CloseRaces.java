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
  private final Recipes recipes = new Recipes(arena);
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
    Plan plan = recipes.any(random);
    plan.specs().forEach(spec ->
        spec.owner = random.nextInt(3) > 0 ? Spec.Owner.SCOPE : Spec.Owner.ADDRESS);
    try (Trial trial = new Trial(arena, random, new HashSet<>())) {
      Scope tensors = trial.tensors();
      Scope ops = trial.ops();
      Workspace shared = random.nextBoolean() ? Workspace.in(ops, Device.CPU) : null;
      Op op;
      try {
        Op.Builder<?> builder = (Op.Builder<?>) plan.factory.value(trial);
        for (Plan.Step step : plan.steps) {
          Node.call(trial, step.setter(), builder, step.arguments());
        }
        op = builder.build(ops, shared);
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
        Thread thread = new Thread(() -> {
          try {
            start.await();
          } catch (Exception e) {
            objection.set(e);
          }
          for (int action : actions) {
            act(action, op, second, tensors, ops, shared, objection);
          }
        });
        threads.add(thread);
        thread.start();
      }
      for (Thread thread : threads) {
        thread.join();
      }
      if (objection.get() != null) {
        throw new FacadeFuzz.Found(
            objection.get() + " in a race\n    " + plan, objection.get());
      }
      op.close();
      second.close();
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    } catch (IllegalStateException e) {
      throw new FacadeFuzz.Found("what nobody uses cannot be closed: " + e + "\n    " + plan, e);
    }
  }

  private static Op op(Plan plan, Trial trial, Scope ops, Workspace shared) {
    try {
      Op.Builder<?> builder = (Op.Builder<?>) plan.factory.value(trial);
      for (Plan.Step step : plan.steps) {
        Node.call(trial, step.setter(), builder, step.arguments());
      }
      return builder.build(ops, shared);
    } catch (Throwable e) {
      throw new FacadeFuzz.Found("an op was refused when built again: " + e + "\n    " + plan, e);
    }
  }

  private void act(int action, Op op, Op second, Scope tensors, Scope ops, Workspace shared,
      AtomicReference<Throwable> objection) {
    String outcome;
    try {
      switch (action) {
        case 0 -> tensors.close();
        case 1 -> ops.close();
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
      if (Verdict.objection(t) != null) {
        objection.set(t);
      }
    }
    synchronized (outcomes) {
      outcomes.merge(outcome, 1L, Long::sum);
    }
  }
}
