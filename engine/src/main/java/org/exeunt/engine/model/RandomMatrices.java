// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Random;
import org.exeunt.BlockFormat;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** Matrices whose elements are of the size that a model's have, in an arena of their own. */
final class RandomMatrices {
  /** Elements of a pattern that all matrices repeat: no time depends on it. */
  private static final int PATTERN = 1 << 20;

  private final WeightArena arena;
  private final BlockFormat blocks; // null: BF16
  private final byte[] pattern; // null: what the matrices hold is not read

  /** For who counts. */
  RandomMatrices(WeightArena arena, BlockFormat blocks) {
    this(arena, blocks, null);
  }

  private RandomMatrices(WeightArena arena, BlockFormat blocks, byte[] pattern) {
    this.arena = arena;
    this.blocks = blocks;
    this.pattern = pattern;
  }

  /** The same with memory for what these have counted. */
  RandomMatrices allocated(Scope scope) {
    return new RandomMatrices(WeightArena.like(scope, arena), blocks, pattern(blocks));
  }

  /** What all became; null: blocks. */
  DType type() {
    return blocks == null ? DType.BF16 : null;
  }

  Tensor memory() {
    return arena.memory();
  }

  /** Elements from 1/64 to 1/32 of either sign, or blocks of such. */
  private static byte[] pattern(BlockFormat blocks) {
    int bytes = blocks == null ? 2 * PATTERN : (int) blocks.rowBytes(PATTERN);
    byte[] random = new byte[bytes];
    new Random(1).nextBytes(random);
    ByteBuffer at = ByteBuffer.wrap(random).order(ByteOrder.LITTLE_ENDIAN);
    if (blocks == null) {
      for (int i = 0; i < bytes; i += 2) {
        at.putShort(i, (short) (at.getShort(i) & 0x807f | 121 << 7));
      }
      return random;
    }
    if (blocks != BlockFormat.Q4_0) {
      throw new IllegalArgumentException("random weights are BF16 or Q4_0, not " + blocks);
    }
    for (int i = 0; i < bytes; i += (int) blocks.rowBytes(32)) {
      at.putShort(i, (short) (7 << 10)); // d is 1/256
    }
    return random;
  }

  Tensor ones(int length) {
    Tensor vector = arena.take(DType.F32, length);
    if (pattern != null) {
      float[] one = new float[length];
      Arrays.fill(one, 1);
      vector.copyFrom(one);
    }
    return vector;
  }

  Weight matrix(int rows, int columns) {
    Tensor matrix = blocks == null
        ? arena.take(DType.BF16, rows, columns)
        : arena.take(DType.U8, rows, blocks.rowBytes(columns));
    if (pattern != null) {
      ByteBuffer to = matrix.byteBuffer();
      while (to.hasRemaining()) {
        to.put(pattern, 0, Math.min(pattern.length, to.remaining()));
      }
    }
    return new Weight(matrix, blocks, columns);
  }
}
