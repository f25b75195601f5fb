// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.llama;

import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * One block of memory for all weights of a model, handed out piece by piece.
 *
 * <p>Most matrices of a small model are shorter than a huge page; only together do they get huge
 * pages from the system, and in the order of use they are read as one long stream.
 */
final class WeightArena {
  private static final long ALIGNMENT = 64;

  private final Tensor memory;
  private long used;

  /** Reserves {@code bytes}, which must cover {@link #sizeOf} of every piece. */
  WeightArena(Scope scope, long bytes) {
    memory = scope.allocate(Device.CPU, DType.U8, bytes);
  }

  Tensor memory() {
    return memory;
  }

  /** The bytes a piece takes. */
  static long sizeOf(DType type, long... shape) {
    long bytes = type.bytes();
    for (long extent : shape) {
      bytes = Math.multiplyExact(bytes, extent);
    }
    return Math.addExact(bytes, ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }

  /** The next piece. */
  Tensor take(DType type, long... shape) {
    Tensor piece = memory.reinterpret(type, used, shape);
    used += sizeOf(type, shape);
    return piece;
  }
}
