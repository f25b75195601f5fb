// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.lang.ref.Cleaner;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Remembers where a scope was opened, and says so if the garbage collector finds it before {@link
 * #closed}. Must not know the scope itself.
 */
final class Leak implements Runnable {
  private static final Cleaner CLEANER = Cleaner.create();

  private final AtomicLong bytes = new AtomicLong();
  private volatile Throwable opened = new Throwable("a scope was opened here");
  private Cleaner.Cleanable cleanable;

  private Leak() {}

  static Leak watch(Scope scope) {
    Leak leak = new Leak();
    leak.cleanable = CLEANER.register(scope, leak);
    return leak;
  }

  void count(long more) {
    bytes.addAndGet(more);
  }

  void closed() {
    opened = null;
    cleanable.clean();
  }

  @Override
  public void run() {
    Throwable where = opened;
    if (where != null) {
      Log.warn("a scope became unreachable without close(): its tensors, " + bytes
              + " bytes, stay allocated until the process ends",
          where);
    }
  }
}
