// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.exeunt.DType;
import org.junit.jupiter.api.Test;

class DTypeTest {
  @Test
  void everyHalfSurvivesARoundTrip() {
    for (int bits = 0; bits < 1 << 16; bits++) {
      float half = DType.f16ToFloat((short) bits);
      float brain = DType.bf16ToFloat((short) bits);
      if (half == half) {
        assertEquals((short) bits, DType.floatToF16(half), Integer.toHexString(bits));
      } else {
        assertTrue(
            Float.isNaN(DType.f16ToFloat(DType.floatToF16(half))), Integer.toHexString(bits));
      }
      if (brain == brain) {
        assertEquals((short) bits, DType.floatToBf16(brain), Integer.toHexString(bits));
      } else {
        assertTrue(
            Float.isNaN(DType.bf16ToFloat(DType.floatToBf16(brain))), Integer.toHexString(bits));
      }
    }
    assertEquals(65504f, DType.f16ToFloat((short) 0x7bff));
    assertEquals(0x1p-24f, DType.f16ToFloat((short) 1));
  }

  /** Between two neighbours: the nearer one, and at the middle the even one. */
  @Test
  void roundsToNearestEven() {
    for (int bits = 0; bits < 0x7bff; bits++) {
      float low = DType.f16ToFloat((short) bits);
      float middle = (low + DType.f16ToFloat((short) (bits + 1))) / 2; // exact
      check(bits, middle, DType.floatToF16(Math.nextDown(middle)), DType.floatToF16(middle),
          DType.floatToF16(Math.nextUp(middle)));
      assertEquals((short) (bits | 0x8000), DType.floatToF16(-low));
    }
    for (int bits = 0; bits < 0x7f7f; bits++) {
      float low = DType.bf16ToFloat((short) bits);
      float middle = Float.intBitsToFloat(Float.floatToRawIntBits(low) + 0x8000);
      check(bits, middle, DType.floatToBf16(Math.nextDown(middle)), DType.floatToBf16(middle),
          DType.floatToBf16(Math.nextUp(middle)));
    }
    assertEquals(0x7c00, DType.floatToF16(65520f));
    assertEquals(0x7bff, DType.floatToF16(Math.nextDown(65520f)));
  }

  private static void check(int bits, float middle, short below, short at, short above) {
    int even = bits % 2 == 0 ? bits : bits + 1;
    assertEquals((short) bits, below, "below " + middle);
    assertEquals((short) even, at, "at " + middle);
    assertEquals((short) (bits + 1), above, "above " + middle);
  }
}
