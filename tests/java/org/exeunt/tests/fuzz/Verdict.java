// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests.fuzz;

import java.io.IOException;
import java.util.regex.Pattern;
import org.exeunt.DeviceLostException;
import org.exeunt.ExeuntException;

/** Whether what a call threw is one of the documented ways to refuse it. */
final class Verdict {
  /** Sentences of the JDK's own, which name none of our arguments. */
  private static final Pattern FOREIGN = Pattern.compile(
      "Cannot .* because .*|Index: .*|Index -?\\d+ out of bounds.*|.*out of bounds for length.*"
          + "|Range \\[.*|-?\\d+ > -?\\d+|-?\\d+|null|newPosition.*|newLimit.*|capacity < 0.*"
          + "|\\(?.*duplicate element.*|No enum constant.*|(integer|long) overflow|/ by zero"
          + "|class .* cannot be cast.*|argument type mismatch|wrong number of arguments.*",
      Pattern.DOTALL);

  private Verdict() {}

  /** Why this is no refusal; null if it is one. */
  static String objection(Throwable thrown) {
    String message = thrown.getMessage();
    String saidNothing = message == null || message.isBlank() || FOREIGN.matcher(message).matches()
        ? "does not say which argument is wrong"
        : null;
    if (thrown instanceof OutOfMemoryError) {
      return message == null ? "does not say what was asked for" : null;
    }
    if (thrown instanceof DeviceLostException || thrown instanceof ExeuntException) {
      return saidNothing;
    }
    Class<?> type = thrown.getClass();
    if (type == IllegalArgumentException.class || type == IllegalStateException.class
        || type == UnsupportedOperationException.class) {
      return saidNothing;
    }
    if (thrown instanceof IOException) { // of what reads and writes files
      return saidNothing;
    }
    if (type == NullPointerException.class || type == IndexOutOfBoundsException.class) {
      // Documented where it is a view or a null that is asked for: in words of exeunt's own.
      return saidNothing;
    }
    return "is not one of the documented exceptions";
  }
}
