// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.gguf;

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
