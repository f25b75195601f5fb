// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.global.exeunt;

/**
 * What the rows of weights are made of, where that is no elements as they are: blocks as GGUF files
 * hold them, in the layouts that ggml defines, or what a {@link Packed} made. Such weights [N,D] are
 * a U8 tensor [N, {@link #rowBytes}(D)]; blocks need no alignment.
 */
public enum BlockFormat {
  /** 32 elements in 18 bytes: {@code d (q - 8)}, q of four bits. */
  Q4_0(exeunt.EXN_BLOCKS_Q4_0, 32, 18),
  /** 32 elements in 20 bytes: {@code d q + m}, q of four bits. */
  Q4_1(exeunt.EXN_BLOCKS_Q4_1, 32, 20),
  /** 32 elements in 22 bytes: {@code d (q - 16)}, q of five bits. */
  Q5_0(exeunt.EXN_BLOCKS_Q5_0, 32, 22),
  /** 32 elements in 24 bytes: {@code d q + m}, q of five bits. */
  Q5_1(exeunt.EXN_BLOCKS_Q5_1, 32, 24),
  /** 32 elements in 34 bytes: {@code d q}, q of eight bits with a sign. */
  Q8_0(exeunt.EXN_BLOCKS_Q8_0, 32, 34),
  /** 256 elements in 144 bytes: {@code d s q - dmin t}, q of four bits, s and t of 32 elements. */
  Q4_K(exeunt.EXN_BLOCKS_Q4_K, 256, 144),
  /** 256 elements in 176 bytes: {@code d s q - dmin t}, q of five bits, s and t of 32 elements. */
  Q5_K(exeunt.EXN_BLOCKS_Q5_K, 256, 176),
  /** 256 elements in 210 bytes: {@code d s (q - 32)}, q of six bits, s of 16 elements. */
  Q6_K(exeunt.EXN_BLOCKS_Q6_K, 256, 210),
  /** Rows of {@link #Q4_0} that a {@link Packed} rearranged. */
  PACKED_Q4_0(exeunt.EXN_BLOCKS_Q4_0 + exeunt.EXN_BLOCKS_PACKED, 32, 18),
  /** Rows of {@link #Q4_1} that a {@link Packed} rearranged. */
  PACKED_Q4_1(exeunt.EXN_BLOCKS_Q4_1 + exeunt.EXN_BLOCKS_PACKED, 32, 20),
  /** Rows of {@link #Q5_0} that a {@link Packed} rearranged. */
  PACKED_Q5_0(exeunt.EXN_BLOCKS_Q5_0 + exeunt.EXN_BLOCKS_PACKED, 32, 22),
  /** Rows of {@link #Q5_1} that a {@link Packed} rearranged. */
  PACKED_Q5_1(exeunt.EXN_BLOCKS_Q5_1 + exeunt.EXN_BLOCKS_PACKED, 32, 24),
  /** Rows of {@link #Q8_0} that a {@link Packed} rearranged. */
  PACKED_Q8_0(exeunt.EXN_BLOCKS_Q8_0 + exeunt.EXN_BLOCKS_PACKED, 32, 34),
  /** Rows of {@link #Q4_K} that a {@link Packed} rearranged. */
  PACKED_Q4_K(exeunt.EXN_BLOCKS_Q4_K + exeunt.EXN_BLOCKS_PACKED, 256, 144),
  /** Rows of {@link #Q5_K} that a {@link Packed} rearranged. */
  PACKED_Q5_K(exeunt.EXN_BLOCKS_Q5_K + exeunt.EXN_BLOCKS_PACKED, 256, 176),
  /** Rows of {@link #Q6_K} that a {@link Packed} rearranged. */
  PACKED_Q6_K(exeunt.EXN_BLOCKS_Q6_K + exeunt.EXN_BLOCKS_PACKED, 256, 210),
  /** Rows of F32 that a {@link Packed} arranged in panels; for {@link Linear} alone. */
  PACKED_F32(exeunt.EXN_BLOCKS_PACKED_F32, 1, 4),
  /** Rows of F16 that a {@link Packed} arranged in panels; for {@link Linear} alone. */
  PACKED_F16(exeunt.EXN_BLOCKS_PACKED_F16, 1, 2),
  /** Rows of BF16 that a {@link Packed} arranged in panels; for {@link Linear} alone. */
  PACKED_BF16(exeunt.EXN_BLOCKS_PACKED_BF16, 1, 2);

  private final int tag;
  private final int elements;
  private final int bytes;

  BlockFormat(int tag, int elements, int bytes) {
    this.tag = tag;
    this.elements = elements;
    this.bytes = bytes;
  }

  /** For the field of a params struct; null stands for weights without blocks. */
  static int tagOf(BlockFormat format) {
    return format == null ? exeunt.EXN_BLOCKS_NONE : format.tag;
  }

  /** The format with such a tag, which the library gave. */
  static BlockFormat ofTag(int tag) {
    for (BlockFormat format : values()) {
      if (format.tag == tag) {
        return format;
      }
    }
    throw new IllegalStateException("no format has the tag " + tag);
  }

  /**
   * The number of this format in ggml and in GGUF files, and of {@code EXN_BLOCKS_*}; of packed rows
   * that of their format and {@code EXN_BLOCKS_PACKED}, or {@code EXN_BLOCKS_PACKED_F32} and the
   * like.
   *
   * @return the number
   */
  public int tag() {
    return tag;
  }

  /**
   * Bytes of a row.
   *
   * @param columns elements of the row, a multiple of those of a block
   * @return the bytes
   * @throws IllegalArgumentException if columns are negative, too many, or fill no whole blocks
   */
  public long rowBytes(long columns) {
    if (columns < 0 || columns % elements != 0) {
      throw new IllegalArgumentException(
          "columns is " + columns + ", but " + this + " has blocks of " + elements + " elements");
    }
    try {
      return Math.multiplyExact(columns / elements, (long) bytes);
    } catch (ArithmeticException e) {
      throw new IllegalArgumentException("columns is " + columns + ", too many", e);
    }
  }
}
