// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.gguf;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** An array of texts as a file has it: UTF-8, one after the other. */
public final class Strings {
  private static final int SHORT = 16;

  private byte[] bytes = new byte[1 << 16];
  private final int[] ends;
  private int size;

  /** None yet, with room for {@code most}. */
  Strings(int most) {
    ends = new int[most];
  }

  /** One more, out of UTF-8. */
  void add(byte[] from, int begin, int end) {
    int used = begin(size);
    int length = end - begin;
    if (length > bytes.length - used) {
      bytes = Arrays.copyOf(bytes, Math.max(2 * used, used + length));
    }
    if (length > SHORT) {
      System.arraycopy(from, begin, bytes, used, length);
    } else {
      for (int i = 0; i < length; i++) {
        bytes[used + i] = from[begin + i];
      }
    }
    ends[size++] = used + length;
  }

  public int size() {
    return size;
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
