// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.gguf;

import java.nio.ByteBuffer;
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
  BF16(30, 1, 2) {
    @Override
    void dequantizeBlock(ByteBuffer in, int at, float[] out, int to) {
      out[to] = DType.bf16ToFloat(in.getShort(at));
    }
  };

  private final int id;
  private final int blockElements;
  private final int blockBytes;

  GgmlType(int id, int blockElements, int blockBytes) {
    this.id = id;
    this.blockElements = blockElements;
    this.blockBytes = blockBytes;
  }

  abstract void dequantizeBlock(ByteBuffer in, int at, float[] out, int to);

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
