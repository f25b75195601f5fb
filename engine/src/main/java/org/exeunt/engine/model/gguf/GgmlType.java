// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.gguf;

import java.nio.ByteBuffer;
import java.util.Arrays;
import org.exeunt.BlockFormat;
import org.exeunt.DType;

/** The tensor types this reader understands, and how a block of each becomes floats. */
public enum GgmlType {
  F32(0, 1, 4) {
    @Override
    void dequantizeBlock(ByteBuffer in, int at, float[] out, int to) {
      out[to] = in.getFloat(at);
    }
  },
  F16(1, 1, 2) {
    @Override
    void dequantizeBlock(ByteBuffer in, int at, float[] out, int to) {
      out[to] = DType.f16ToFloat(in.getShort(at));
    }
  },
  /** 32 four-bit values q; each is (q - 8) d. Byte j holds elements j (low) and j + 16 (high). */
  Q4_0(2, 32, 18) {
    @Override
    void dequantizeBlock(ByteBuffer in, int at, float[] out, int to) {
      float d = DType.f16ToFloat(in.getShort(at));
      for (int j = 0; j < 16; j++) {
        int pair = in.get(at + 2 + j);
        out[to + j] = ((pair & 15) - 8) * d;
        out[to + j + 16] = ((pair >> 4 & 15) - 8) * d;
      }
    }
  },
  /** 32 four-bit values q; each is q d + m. Nibbles as in {@link #Q4_0}. */
  Q4_1(3, 32, 20) {
    @Override
    void dequantizeBlock(ByteBuffer in, int at, float[] out, int to) {
      float d = DType.f16ToFloat(in.getShort(at));
      float m = DType.f16ToFloat(in.getShort(at + 2));
      for (int j = 0; j < 16; j++) {
        int pair = in.get(at + 4 + j);
        out[to + j] = (pair & 15) * d + m;
        out[to + j + 16] = (pair >> 4 & 15) * d + m;
      }
    }
  },
  /** 32 five-bit values q; each is (q - 16) d. Bit j of a word is bit 4 of element j. */
  Q5_0(6, 32, 22) {
    @Override
    void dequantizeBlock(ByteBuffer in, int at, float[] out, int to) {
      float d = DType.f16ToFloat(in.getShort(at));
      int fifth = in.getInt(at + 2);
      for (int j = 0; j < 16; j++) {
        int pair = in.get(at + 6 + j);
        out[to + j] = (fifthBit(fifth, j, pair & 15) - 16) * d;
        out[to + j + 16] = (fifthBit(fifth, j + 16, pair >> 4 & 15) - 16) * d;
      }
    }
  },
  /** 32 five-bit values q; each is q d + m. Bits as in {@link #Q5_0}. */
  Q5_1(7, 32, 24) {
    @Override
    void dequantizeBlock(ByteBuffer in, int at, float[] out, int to) {
      float d = DType.f16ToFloat(in.getShort(at));
      float m = DType.f16ToFloat(in.getShort(at + 2));
      int fifth = in.getInt(at + 4);
      for (int j = 0; j < 16; j++) {
        int pair = in.get(at + 8 + j);
        out[to + j] = fifthBit(fifth, j, pair & 15) * d + m;
        out[to + j + 16] = fifthBit(fifth, j + 16, pair >> 4 & 15) * d + m;
      }
    }
  },
  /** 32 signed bytes q; each is q d. */
  Q8_0(8, 32, 34) {
    @Override
    void dequantizeBlock(ByteBuffer in, int at, float[] out, int to) {
      float d = DType.f16ToFloat(in.getShort(at));
      for (int j = 0; j < 32; j++) {
        out[to + j] = in.get(at + 2 + j) * d;
      }
    }
  },
  /**
   * 8 groups of 32 four-bit values q; each is q s d - t e, where a group has scales s and t. Of 32
   * bytes, low halves hold one group, high halves the next.
   */
  Q4_K(12, 256, 144) {
    @Override
    void dequantizeBlock(ByteBuffer in, int at, float[] out, int to) {
      dequantizeGroups(in, at, false, out, to);
    }
  },
  /** As {@link #Q4_K}, with bit 4 of element j of a group in that bit of byte j of another 32. */
  Q5_K(13, 256, 176) {
    @Override
    void dequantizeBlock(ByteBuffer in, int at, float[] out, int to) {
      dequantizeGroups(in, at, true, out, to);
    }
  },
  /**
   * 16 groups of 16 six-bit values q; each is (q - 32) s d, where s is a group's signed byte. Four
   * times 32 elements share 64 bytes of low halves and 32 bytes of two more bits each.
   */
  Q6_K(14, 256, 210) {
    @Override
    void dequantizeBlock(ByteBuffer in, int at, float[] out, int to) {
      float d = DType.f16ToFloat(in.getShort(at + 208));
      for (int i = 0; i < 256; i++) {
        int quarter = i % 128 / 32;
        int low = half(in.get(at + i / 128 * 64 + i % 64), quarter / 2);
        int high = in.get(at + 128 + i / 128 * 32 + i % 32) >> 2 * quarter & 3;
        out[to + i] = ((high << 4 | low) - 32) * (in.get(at + 192 + i / 16) * d);
      }
    }
  },
  BF16(30, 1, 2) {
    @Override
    void dequantizeBlock(ByteBuffer in, int at, float[] out, int to) {
      out[to] = DType.bf16ToFloat(in.getShort(at));
    }
  };

  /** All of them, for messages. */
  static final String NAMES =
      String.join(", ", Arrays.stream(values()).map(GgmlType::name).toList());

  private final int id;
  private final int blockElements;
  private final int blockBytes;

  GgmlType(int id, int blockElements, int blockBytes) {
    this.id = id;
    this.blockElements = blockElements;
    this.blockBytes = blockBytes;
  }

  abstract void dequantizeBlock(ByteBuffer in, int at, float[] out, int to);

  /** The lower half of a byte for even numbers, the upper half for odd ones. */
  private static int half(int pair, int number) {
    return pair >> 4 * (number & 1) & 15;
  }

  private static int fifthBit(int bits, int bit, int low) {
    return (bits >> bit & 1) << 4 | low;
  }

  /** A block of {@link #Q4_K}, or {@link #Q5_K}, whose fifth bits lie before the others. */
  private static void dequantizeGroups(ByteBuffer in, int at, boolean five, float[] out, int to) {
    float d = DType.f16ToFloat(in.getShort(at));
    float e = DType.f16ToFloat(in.getShort(at + 2));
    int quants = at + (five ? 48 : 16);
    for (int group = 0; group < 8; group++) {
      float scale = scale(in, at + 4, group, 0) * d;
      float least = scale(in, at + 4, group, 4) * e;
      for (int j = 0; j < 32; j++) {
        int low = half(in.get(quants + group / 2 * 32 + j), group);
        int q = five ? fifthBit(in.get(at + 16 + j), group, low) : low;
        out[to + group * 32 + j] = q * scale - least;
      }
    }
  }

  /**
   * A six-bit scale of a group, out of twelve bytes: those of the first four groups lie at
   * {@code first}, with two bits each of the last four groups' above them.
   *
   * @param first 0: what multiplies, 4: what is subtracted
   */
  private static int scale(ByteBuffer in, int at, int group, int first) {
    if (group < 4) {
      return in.get(at + first + group) & 63;
    }
    int low = half(in.get(at + 4 + group), first / 4);
    return (in.get(at + first + group - 4) >> 6 & 3) << 4 | low;
  }

  /** The number that stands for this type in a file. */
  public int id() {
    return id;
  }

  /** Elements that share one block; a row is a whole number of blocks. */
  public int blockElements() {
    return blockElements;
  }

  public int blockBytes() {
    return blockBytes;
  }

  /** The blocks that exeunt's ops take as they are; null of plain elements. */
  public BlockFormat blocks() {
    for (BlockFormat format : BlockFormat.values()) {
      if (format.tag() == id) {
        return format;
      }
    }
    return null;
  }

  /** Of plain elements; null of blocks. */
  public DType dtype() {
    return switch (this) {
      case F32 -> DType.F32;
      case F16 -> DType.F16;
      case BF16 -> DType.BF16;
      default -> null;
    };
  }

  /** The type with this id, or null. */
  static GgmlType byId(int id) {
    for (GgmlType type : values()) {
      if (type.id == id) {
        return type;
      }
    }
    return null;
  }

  /** Dequantises whole blocks from {@code in} until {@code out} is full. */
  void dequantize(ByteBuffer in, float[] out) {
    for (int block = 0; block * blockElements < out.length; block++) {
      dequantizeBlock(in, block * blockBytes, out, block * blockElements);
    }
  }
}
