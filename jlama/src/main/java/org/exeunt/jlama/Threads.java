// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.util.PhysicalCoreExecutor;
import org.exeunt.Backend;

/**
 * exeunt's threads, unless somebody has given a number. Of Jlama's products each part comes on a
 * thread of Jlama's; one of exeunt's beside these would take the core of another part. The model
 * class has as many as Jlama's.
 */
final class Threads {
  /** Parts that Jlama cuts a product into at most. */
  static final int MOST_PARTS = 8;

  private static final int JLAMA = PhysicalCoreExecutor.instance.get().getCoreCount();
  private static final boolean GIVEN =
      System.getProperty("exeunt.threads") != null || System.getenv("EXEUNT_THREADS") != null;
  private static int used; // 0: as they were given

  static {
    use(JLAMA <= MOST_PARTS ? 1 : JLAMA);
  }

  private Threads() {}

  /** To be asked when Jlama's number is settled: from the first product on. */
  static int settle() {
    return JLAMA;
  }

  /** How steps choose between all threads and one; a number that was given is kept. */
  static Pace pace() {
    return new Pace(GIVEN ? 1 : JLAMA, Threads::use);
  }

  private static synchronized void use(int threads) {
    if (!GIVEN && used != threads) {
      Backend.setThreads(threads);
      used = threads;
    }
  }
}
