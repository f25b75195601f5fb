// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.report;

import java.io.Console;

/** Where what is printed goes. */
public final class Terminal {
  private Terminal() {}

  /**
   * Whether somebody sits before it, so that lines can be written over. Newer JDKs have a console
   * elsewhere too, and a method of their own for this.
   */
  public static boolean isThere() {
    Console console = System.console();
    if (console == null) {
      return false;
    }
    try {
      return (Boolean) Console.class.getMethod("isTerminal").invoke(console);
    } catch (ReflectiveOperationException e) {
      return true;
    }
  }
}
