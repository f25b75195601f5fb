// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.util.Locale;

/** What goes on around the calls of an op: programs do not repeat one on a quiet machine. */
public enum Scene {
  /** Call after call. */
  LOOP(""),
  /** Idle for a while, then calls for a moment, over and over. */
  BURSTS("in bursts"),
  /** Beside a process of low priority that keeps a core busy. */
  NEIGHBOUR("beside a neighbour"),
  /** Two threads call at once. */
  CALLERS("from two callers");

  private final String words;

  Scene(String words) {
    this.words = words;
  }

  /** The name in options and parameters. */
  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }

  /** For people. */
  public String words() {
    return words;
  }

  /** Threads that call. */
  int callers() {
    return this == CALLERS ? 2 : 1;
  }

  /** The scene with this name. */
  public static Scene of(String name) {
    return valueOf(name.toUpperCase(Locale.ROOT));
  }
}
