// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.gguf;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.ByteBuffer;
import org.junit.jupiter.api.Test;

class GgmlTypeTest {
  private static final short ONE_AND_A_HALF = 0x3e00;
  private static final short MINUS_TWO = (short) 0xc000;

  @Test
  void fourBitNibblesAreHalfABlockApart() {
    float[] out = new float[32];
    GgmlType.Q4_0.dequantize(nibbles(GgufBuilder.little(18).putShort(ONE_AND_A_HALF)), out);
    for (int j = 0; j < 16; j++) {
      assertEquals((j - 8) * 1.5f, out[j]);
      assertEquals((15 - j - 8) * 1.5f, out[j + 16]);
    }
  }

  @Test
  void fourBitWithOffsetAddsIt() {
    float[] out = new float[32];
    ByteBuffer block = GgufBuilder.little(20).putShort(ONE_AND_A_HALF).putShort(MINUS_TWO);
    GgmlType.Q4_1.dequantize(nibbles(block), out);
    for (int j = 0; j < 16; j++) {
      assertEquals(j * 1.5f - 2, out[j]);
      assertEquals((15 - j) * 1.5f - 2, out[j + 16]);
    }
  }

  /** Low nibbles rise, high nibbles fall. */
  private static ByteBuffer nibbles(ByteBuffer block) {
    for (int j = 0; j < 16; j++) {
      block.put((byte) ((15 - j) << 4 | j));
    }
    return block;
  }

  @Test
  void fifthBitsLieInAWord() {
    int fifth = 0xa5_0f_93_c6;
    float[] out = new float[32];
    GgmlType.Q5_0.dequantize(
        nibbles(GgufBuilder.little(22).putShort(ONE_AND_A_HALF).putInt(fifth)), out);
    float[] offset = new float[32];
    ByteBuffer block = GgufBuilder.little(24).putShort(ONE_AND_A_HALF).putShort(MINUS_TWO);
    GgmlType.Q5_1.dequantize(nibbles(block.putInt(fifth)), offset);
    for (int j = 0; j < 32; j++) {
      int q = (j < 16 ? j : 31 - j) + (fifth >>> j & 1) * 16;
      assertEquals((q - 16) * 1.5f, out[j], "element " + j);
      assertEquals(q * 1.5f - 2, offset[j], "element " + j);
    }
  }

  /** Of eight groups: s 1, 2, 3, 63, 17, 34, 51, 62 and t 4, 5, 6, 60, 33, 18, 49, 7. */
  private static final byte[] SIX_BITS = {0x41, (byte) 0x82, (byte) 0xc3, (byte) 0xff, (byte) 0x84,
      0x45, (byte) 0xc6, 0x3c, 0x11, 0x22, 0x13, 0x7e};
  private static final int[] S = {1, 2, 3, 63, 17, 34, 51, 62};
  private static final int[] T = {4, 5, 6, 60, 33, 18, 49, 7};

  /** Two groups share 32 bytes. */
  private static ByteBuffer pairsOfGroups(ByteBuffer block) {
    for (int pair = 0; pair < 4; pair++) {
      for (int j = 0; j < 32; j++) {
        block.put((byte) ((3 * j + pair & 15) << 4 | (j + pair & 15)));
      }
    }
    return block;
  }

  private static int inPair(int group, int j) {
    return (group % 2 == 0 ? j : 3 * j) + group / 2 & 15;
  }

  @Test
  void fourBitGroupsHaveScalesOfSixBits() {
    float[] out = new float[256];
    ByteBuffer block = GgufBuilder.little(144).putShort(ONE_AND_A_HALF).putShort(MINUS_TWO);
    GgmlType.Q4_K.dequantize(pairsOfGroups(block.put(SIX_BITS)), out);
    for (int i = 0; i < 256; i++) {
      assertEquals(
          1.5f * S[i / 32] * inPair(i / 32, i % 32) + 2 * T[i / 32], out[i], "element " + i);
    }
  }

  /** Byte j has the fifth bits of element j of all groups. */
  @Test
  void fiveBitGroupsHaveTheirFifthBitsAcross() {
    float[] out = new float[256];
    ByteBuffer block = GgufBuilder.little(176).putShort(ONE_AND_A_HALF).putShort(MINUS_TWO);
    block.put(SIX_BITS);
    for (int j = 0; j < 32; j++) {
      block.put((byte) (j * 37));
    }
    GgmlType.Q5_K.dequantize(pairsOfGroups(block), out);
    for (int i = 0; i < 256; i++) {
      int q = inPair(i / 32, i % 32) + (i % 32 * 37 >> i / 32 & 1) * 16;
      assertEquals(1.5f * S[i / 32] * q + 2 * T[i / 32], out[i], "element " + i);
    }
  }

  @Test
  void sixBitGroupsOfSixteenHaveSignedScales() {
    int[] q = new int[256];
    byte[] low = new byte[128];
    byte[] high = new byte[64];
    for (int half = 0; half < 2; half++) {
      for (int j = 0; j < 128; j++) {
        q[half * 128 + j] = (half * 128 + j) * 7 + 3 & 63;
        low[half * 64 + j % 64] |= (byte) ((q[half * 128 + j] & 15) << (j < 64 ? 0 : 4));
        high[half * 32 + j % 32] |= (byte) ((q[half * 128 + j] >> 4) << j / 32 * 2);
      }
    }
    ByteBuffer block = GgufBuilder.little(210).put(low).put(high);
    for (int group = 0; group < 16; group++) {
      block.put((byte) (group * 9 - 70));
    }
    float[] out = new float[256];
    GgmlType.Q6_K.dequantize(block.putShort(ONE_AND_A_HALF), out);
    for (int i = 0; i < 256; i++) {
      assertEquals((q[i] - 32) * ((i / 16 * 9 - 70) * 1.5f), out[i], "element " + i);
    }
  }

  @Test
  void eightBitBytesAreSigned() {
    ByteBuffer blocks = GgufBuilder.little(68);
    for (int block = 0; block < 2; block++) {
      blocks.putShort(block == 0 ? ONE_AND_A_HALF : MINUS_TWO);
      for (int j = 0; j < 32; j++) {
        blocks.put((byte) (j * 8 - 128));
      }
    }
    float[] out = new float[64];
    GgmlType.Q8_0.dequantize(blocks, out);
    assertEquals(-192f, out[0]);
    assertEquals(120 * 1.5f, out[31]);
    assertEquals(256f, out[32]);
    assertEquals(-240f, out[63]);
  }

  @Test
  void plainTypesAreReadElementByElement() {
    float[] out = new float[2];
    GgmlType.F32.dequantize(GgufBuilder.little(8).putFloat(3).putFloat(-0f), out);
    assertEquals(3f, out[0]);
    assertEquals(-0f, out[1]);
    GgmlType.F16.dequantize(
        GgufBuilder.little(4).putShort(ONE_AND_A_HALF).putShort(MINUS_TWO), out);
    assertEquals(1.5f, out[0]);
    assertEquals(-2f, out[1]);
    GgmlType.BF16.dequantize(
        GgufBuilder.little(4).putShort((short) 0x3fc0).putShort((short) 0xc000), out);
    assertEquals(1.5f, out[0]);
    assertEquals(-2f, out[1]);
  }
}
