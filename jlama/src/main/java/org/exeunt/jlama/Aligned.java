// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.tensor.AbstractTensor;
import com.google.common.collect.MapMaker;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.concurrent.ConcurrentMap;

/**
 * Elements at multiples of their size. Files that Jlama has quantised begin anywhere, so that
 * weights in them, mapped, may lie at odd addresses. Of such a weight a copy is made at its first
 * use, and kept as long as Jlama's tensor; what can be written is not copied, since it may change.
 */
@SuppressWarnings("rawtypes")
final class Aligned {
  private static final ConcurrentMap<AbstractTensor, MemorySegment> COPIES =
      new MapMaker().weakKeys().makeMap();

  private Aligned() {}

  /** The memory of a tensor, or a copy; null: neither can be had. */
  static MemorySegment of(AbstractTensor tensor, int elementBytes) {
    MemorySegment memory = tensor.getMemorySegment();
    if (memory.isNative() && memory.address() % elementBytes == 0) {
      return memory;
    }
    if (!memory.isReadOnly()) {
      return null;
    }
    MemorySegment copy = COPIES.get(tensor);
    return copy != null ? copy : COPIES.computeIfAbsent(tensor, Aligned::copy);
  }

  private static MemorySegment copy(AbstractTensor tensor) {
    MemorySegment memory = tensor.getMemorySegment();
    return Arena.ofAuto().allocate(memory.byteSize(), 64).copyFrom(memory);
  }
}
