// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector.lanes;

import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.locks.LockSupport;
import java.util.function.IntConsumer;

/**
 * Runs a task on a fixed number of threads, the first share on the calling one. The others spin for
 * a while between tasks before they sleep, so back-to-back tasks cost well under a microsecond.
 * They live as long as the process, and serve whatever the thread that asked for them runs.
 */
public final class Workers {
  private static final int SPINS = 20_000;
  private static final ThreadLocal<Map<Integer, Workers>> OWN =
      ThreadLocal.withInitial(HashMap::new);

  private final Worker[] workers;

  /** Those of the current thread, for so many threads. */
  public static Workers of(int threads) {
    return OWN.get().computeIfAbsent(threads, Workers::new);
  }

  private Workers(int threads) {
    workers = new Worker[threads - 1];
    for (int i = 0; i < workers.length; i++) {
      workers[i] = new Worker(i + 1);
      workers[i].start();
    }
  }

  public int threads() {
    return workers.length + 1;
  }

  /** Calls {@code task} with each thread's number and returns when all threads are done. */
  public void run(IntConsumer task) {
    for (Worker worker : workers) {
      worker.post(task);
    }
    task.accept(0);
    for (Worker worker : workers) {
      worker.await();
    }
  }

  /** Where the share of a thread begins, of {@code count} things; {@code threads()} is the end. */
  public int begin(int thread, int count) {
    return (int) ((long) count * thread / threads());
  }

  private static final class Worker extends Thread {
    private final int thread;
    private IntConsumer task;
    private volatile int posted;
    private volatile int done;
    private volatile boolean sleeping;
    private volatile RuntimeException failure;

    Worker(int thread) {
      super("vector-worker-" + thread);
      this.thread = thread;
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
          task.accept(thread);
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
