// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests.fuzz;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.BitSet;
import org.bytedeco.javacpp.Pointer;

/** The memory that all tensors of a trial lie in, with gaps between them that nothing may write. */
final class Arena {
  static final int BYTES = 1 << 17;
  private static final int GAP = 64;
  private static final byte UNTOUCHED = (byte) 0xa5;

  private final ByteBuffer memory = ByteBuffer.allocateDirect(BYTES).order(ByteOrder.nativeOrder());
  private final long address = new Pointer(memory).address();
  private final byte[] blank = new byte[BYTES];
  private final ByteBuffer before = ByteBuffer.allocateDirect(BYTES);
  private int used;

  Arena() {
    Arrays.fill(blank, UNTOUCHED);
    reset();
  }

  ByteBuffer memory() {
    return memory;
  }

  long address() {
    return address;
  }

  void reset() {
    memory.put(0, blank);
    used = GAP;
  }

  /** Offset of so many bytes, at a multiple of 8 that is often none of 64. */
  int take(long bytes) {
    int at = used;
    if (bytes > BYTES - GAP - at) {
      throw new IllegalStateException("a valid call needs more than the arena has: " + bytes);
    }
    used = at + (int) (bytes + 7 & -8) + GAP;
    return at;
  }

  void remember() {
    before.put(0, memory, 0, BYTES);
  }

  /** Offset of the first byte that has changed without being allowed to; -1 if there is none. */
  int firstStray(BitSet allowed) {
    int at = 0;
    while (at < BYTES) {
      int next = memory.slice(at, BYTES - at).mismatch(before.slice(at, BYTES - at));
      if (next < 0) {
        return -1;
      }
      at += next;
      if (!allowed.get(at)) {
        return at;
      }
      while (at < BYTES && allowed.get(at)) {
        at++;
      }
    }
    return -1;
  }
}
