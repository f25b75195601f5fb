// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/**
 * What is said to the {@link System.Logger} "org.exeunt". Asking for a logger takes a new JVM tens
 * of milliseconds, so a load is mentioned only where {@code -Dexeunt.log=true} asks for it.
 */
final class Log {
  private static final System.Logger LOGGER = System.getLogger("org.exeunt");

  private Log() {}

  static void info(String sentence) {
    LOGGER.log(System.Logger.Level.INFO, sentence);
  }

  /** A logger of its own, so that who knows it need not hear it again. */
  static void untested(String platform) {
    System.getLogger("org.exeunt.untested")
        .log(System.Logger.Level.WARNING,
            "exeunt's libraries for " + platform + " were built, but never run by its tests");
  }

  static void warn(String sentence, Throwable cause) {
    LOGGER.log(System.Logger.Level.WARNING, sentence, cause);
  }
}
