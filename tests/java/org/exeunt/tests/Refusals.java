// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.function.Executable;

/** Checks that something is refused with an exception that says what is wrong. */
final class Refusals {
  private Refusals() {}

  static void refused(Class<? extends Throwable> type, Executable action, String... words) {
    Throwable thrown = assertThrows(type, action);
    for (String word : words) {
      assertTrue(String.valueOf(thrown.getMessage()).contains(word),
          () -> "'" + word + "' is not in: " + thrown.getMessage());
    }
  }

  static void invalid(Executable action, String... words) {
    refused(IllegalArgumentException.class, action, words);
  }
}
