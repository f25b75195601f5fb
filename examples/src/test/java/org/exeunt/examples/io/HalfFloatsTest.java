// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.io;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class HalfFloatsTest {
  @Test
  void everyHalfHasItsDefinedValue() {
    for (int bits = 0; bits < 1 << 16; bits++) {
      int exponent = bits >> 10 & 31;
      int fraction = bits & 0x3ff;
      double magnitude = switch (exponent) {
        case 0 -> fraction * 0x1p-24;
        case 31 -> fraction == 0 ? Double.POSITIVE_INFINITY : Double.NaN;
        default -> (1024 + fraction) * Math.scalb(1.0, exponent - 25);
      };
      float expected = (float) (bits < 0x8000 ? magnitude : -magnitude);
      assertEquals(expected, HalfFloats.fromF16((short) bits), Integer.toHexString(bits));
    }
  }

  @Test
  void everyBfloat16SurvivesTheRoundTrip() {
    for (int bits = 0; bits < 1 << 16; bits++) {
      float value = HalfFloats.fromBf16((short) bits);
      short back = HalfFloats.toBf16(value);
      assertTrue(Float.isNaN(value) ? Float.isNaN(HalfFloats.fromBf16(back)) : back == (short) bits,
          Integer.toHexString(bits));
    }
  }

  @Test
  void bfloat16RoundsTiesToEven() {
    assertEquals(0x3f80, HalfFloats.toBf16(Float.intBitsToFloat(0x3f80_8000)));
    assertEquals(0x3f82, HalfFloats.toBf16(Float.intBitsToFloat(0x3f81_8000)));
    assertEquals(0x3f81, HalfFloats.toBf16(Float.intBitsToFloat(0x3f80_8001)));
    assertEquals(0x7f80, HalfFloats.toBf16(Float.MAX_VALUE));
  }
}
