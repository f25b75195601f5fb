// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.gguf;

import java.nio.charset.StandardCharsets;

/** An array of texts as a file has it: UTF-8, one behind the other. */
public final class Strings {
  private final byte[] bytes;
  private final int[] ends;

  Strings(byte[] bytes, int... ends) {
    this.bytes = bytes;
    this.ends = ends;
  }

  public int size() {
    return ends.length;
  }

  /** The bytes of all of them; not copied. */
  public byte[] bytes() {
    return bytes;
  }

  /** Where text {@code index} begins in {@link #bytes()}. */
  public int begin(int index) {
    return index == 0 ? 0 : ends[index - 1];
  }

  /** Where text {@code index} ends. */
  public int end(int index) {
    return ends[index];
  }

  public String get(int index) {
    return new String(bytes, begin(index), end(index) - begin(index), StandardCharsets.UTF_8);
  }
}
