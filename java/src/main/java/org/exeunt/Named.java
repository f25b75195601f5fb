// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

/** Refuses nulls in words that say which argument they are. */
final class Named {
  private Named() {}

  /** The value, which must be there. */
  static <T> T present(String name, T value) {
    if (value == null) {
      throw new IllegalArgumentException(name + " is null");
    }
    return value;
  }
}
