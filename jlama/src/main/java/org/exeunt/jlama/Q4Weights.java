// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.tensor.Q4ByteBufferTensor;
import com.google.common.collect.MapMaker;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Optional;
import java.util.concurrent.ConcurrentMap;
import java.util.stream.IntStream;

/**
 * Jlama's 4-bit weights as GGUF's Q4_0. Both have blocks of 32 with the same 16 bytes of quants;
 * Jlama keeps the scales in f32 elsewhere, Q4_0 as f16 before each block's quants. So each weight
 * is copied at its first product, 18 bytes a block, and kept as long as Jlama's tensor.
 */
final class Q4Weights {
  private static final int BLOCK = Q4ByteBufferTensor.BLOCK_SIZE;
  private static final int QUANTS = BLOCK / 2;
  private static final int BYTES = QUANTS + Short.BYTES;
  private static final ValueLayout.OfShort F16 =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfFloat F32 =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private static final ConcurrentMap<Q4ByteBufferTensor, Optional<Q4Weights>> PACKED =
      new MapMaker().weakKeys().makeMap();

  private final MemorySegment blocks;
  private final int columns;

  private Q4Weights(MemorySegment blocks, int columns) {
    this.blocks = blocks;
    this.columns = columns;
  }

  /** The copy of a weight; null if it cannot be had. */
  static Q4Weights of(Q4ByteBufferTensor tensor) {
    Optional<Q4Weights> packed = PACKED.get(tensor);
    if (packed == null) {
      packed = PACKED.computeIfAbsent(tensor, Q4Weights::pack);
    }
    return packed.orElse(null);
  }

  /** A part of the rows; null where it begins or ends within a block. */
  LinearCall.Matrix matrix(int row, int column, int rows, int part) {
    if (column % BLOCK != 0 || part % BLOCK != 0) {
      return null;
    }
    long stride = (long) columns / BLOCK * BYTES;
    long first = row * stride + (long) column / BLOCK * BYTES;
    return new LinearCall.Matrix(
        blocks.address() + first, Element.U8, rows, (long) part / BLOCK * BYTES, stride);
  }

  private static Optional<Q4Weights> pack(Q4ByteBufferTensor tensor) {
    int columns = tensor.shape().last();
    if (tensor.dims() != 2 || tensor.shape().isSparse() || columns % BLOCK != 0) {
      return Optional.empty();
    }
    int rows = tensor.shape().first();
    int rowBlocks = columns / BLOCK;
    MemorySegment quants = tensor.getMemorySegment();
    MemorySegment scales = tensor.getBlockF().getMemorySegment();
    MemorySegment packed = Arena.ofAuto().allocate((long) rows * rowBlocks * BYTES, 64);
    boolean exact = IntStream.range(0, rows).parallel().allMatch(row -> {
      float worst = 0;
      float largest = 0;
      for (long block = (long) row * rowBlocks; block < (row + 1L) * rowBlocks; block++) {
        float scale = scales.get(F32, block * Float.BYTES);
        short half = Float.floatToFloat16(scale);
        worst = Math.max(worst, Math.abs(Float.float16ToFloat(half) - scale));
        largest = Math.max(largest, Math.abs(scale));
        packed.set(F16, block * BYTES, half);
        MemorySegment.copy(quants, block * QUANTS, packed, block * BYTES + Short.BYTES, QUANTS);
      }
      return worst <= largest * 0x1p-11f;
    });
    return exact ? Optional.of(new Q4Weights(packed, columns)) : Optional.empty();
  }
}
