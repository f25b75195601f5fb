// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.util.PhysicalCoreExecutor;
import org.exeunt.Backend;

/** exeunt's threads: as many as Jlama's, unless somebody has given a number. */
final class Threads {
  private static final int JLAMA = PhysicalCoreExecutor.instance.get().getCoreCount();

  static {
    if (System.getProperty("exeunt.threads") == null && System.getenv("EXEUNT_THREADS") == null) {
      Backend.setThreads(JLAMA);
    }
  }

  private Threads() {}

  /** To be asked when Jlama's number is settled: from the first product on. */
  static int settle() {
    return JLAMA;
  }
}
