// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector.lanes;

import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.locks.LockSupport;
import java.util.function.IntConsumer;

/**
 * Runs a task in a fixed number of parts, the first one on the calling thread. The others spin for
 * a while between tasks before they sleep, so back-to-back tasks cost well under a microsecond.
 * They live as long as the process, and serve whatever the thread that asked for them runs.
 */
public final class Workers {
  private static final int SPINS = 20_000;
  private static final ThreadLocal<Map<Integer, Workers>> OWN =
      ThreadLocal.withInitial(HashMap::new);

  private final Worker[] workers;

  /** Those of the current thread, for so many parts. */
  public static Workers of(int parts) {
    return OWN.get().computeIfAbsent(parts, Workers::new);
  }

  private Workers(int parts) {
    workers = new Worker[parts - 1];
    for (int i = 0; i < workers.length; i++) {
      workers[i] = new Worker(i + 1);
      workers[i].start();
    }
  }

  public int parts() {
    return workers.length + 1;
  }

  /** Calls {@code task} with each part's number and returns when all parts are done. */
  public void run(IntConsumer task) {
    for (Worker worker : workers) {
      worker.post(task);
    }
    task.accept(0);
    for (Worker worker : workers) {
      worker.await();
    }
  }

  /** Where part {@code part} of {@code count} things begins; part {@code parts()} is the end. */
  public int begin(int part, int count) {
    return (int) ((long) count * part / parts());
  }

  private static final class Worker extends Thread {
    private final int part;
    private IntConsumer task;
    private volatile int posted;
    private volatile int done;
    private volatile boolean sleeping;
    private volatile RuntimeException failure;

    Worker(int part) {
      super("vector-worker-" + part);
      this.part = part;
      setDaemon(true);
    }

    void post(IntConsumer next) {
      task = next;
      posted++;
      if (sleeping) {
        LockSupport.unpark(this);
      }
    }

    void await() {
      while (done != posted) {
        Thread.onSpinWait();
      }
      if (failure != null) {
        throw failure;
      }
    }

    @Override
    public void run() {
      while (true) {
        waitForTask();
        try {
          task.accept(part);
        } catch (RuntimeException e) {
          failure = e;
        }
        done = posted;
      }
    }

    private void waitForTask() {
      for (int i = 0; i < SPINS; i++) {
        if (posted != done) {
          return;
        }
        Thread.onSpinWait();
      }
      sleeping = true;
      while (posted == done) {
        LockSupport.park(this);
      }
      sleeping = false;
    }
  }
}
