// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model;

import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * One block of memory for what is converted of a model, handed out piece by piece.
 *
 * <p>Most matrices of a small model are shorter than a huge page; only together do they get huge
 * pages from the system, and in the order of use they are read as one long stream.
 */
final class WeightArena {
  private static final long ALIGNMENT = 64;

  private final Tensor memory;
  private long used;

  private WeightArena(Tensor memory) {
    this.memory = memory;
  }

  /** An arena that only counts: what its pieces hold is never read. */
  static WeightArena counting() {
    return new WeightArena(Tensor.ofAddress(ALIGNMENT, DType.U8, Device.CPU, Long.MAX_VALUE));
  }

  /** One for as much as another has handed out. */
  static WeightArena like(Scope scope, WeightArena counted) {
    return new WeightArena(scope.allocate(Device.CPU, DType.U8, counted.used));
  }

  /** What has been handed out. */
  Tensor memory() {
    return memory.rows(0, used);
  }

  /** The next piece. */
  Tensor take(DType type, long... shape) {
    Tensor piece = memory.reinterpret(type, used, shape);
    used = Math.addExact(used, (piece.byteSize() + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    return piece;
  }
}
