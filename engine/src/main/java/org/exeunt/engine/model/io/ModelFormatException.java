// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.io;

import java.io.IOException;
import java.nio.file.Path;

/**
 * A model file does not say what its format requires; the message names the file, the field and the
 * values.
 */
public final class ModelFormatException extends IOException {
  private static final long serialVersionUID = 1L;
  private static final int LONGEST = 600;

  /**
   * @param file the offending file
   * @param problem one sentence: the field and the values that disagree
   */
  public ModelFormatException(Path file, String problem) {
    super(file + ": " + printable(problem));
  }

  /** Names come from the file: they may be of any length, and hold what a terminal obeys. */
  private static String printable(String problem) {
    String text = problem.length() <= LONGEST
        ? problem
        : problem.substring(0, LONGEST / 2) + " [...] "
            + problem.substring(problem.length() - LONGEST / 2);
    return text.replaceAll("[\\p{Cntrl}\\p{Cs}\\u2028\\u2029]", "\ufffd");
  }
}
