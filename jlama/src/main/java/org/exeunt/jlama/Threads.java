// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.util.PhysicalCoreExecutor;
import org.exeunt.Backend;

/** exeunt's threads: as many as Jlama's, unless somebody has given a number. */
final class Threads {
  private static final int JLAMA = PhysicalCoreExecutor.instance.get().getCoreCount();
  private static final boolean GIVEN =
      System.getProperty("exeunt.threads") != null || System.getenv("EXEUNT_THREADS") != null;
  private static int used; // 0: as they were given

  static {
    use(JLAMA);
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
