// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.io;

/** Conversions between the 16-bit float formats and {@code float}; Java 17 has none of its own. */
public final class HalfFloats {
  private HalfFloats() {}

  /** The value of an IEEE binary16; exact. */
  public static float fromF16(short half) {
    int bits = half & 0x7fff;
    int sign = (half & 0x8000) << 16;
    if (bits >= 0x7c00) {
      return Float.intBitsToFloat(sign | 0x7f80_0000 | (bits & 0x3ff) << 13);
    }
    if (bits < 0x0400) {
      // A subnormal half is a multiple of 2^-24, which a float holds exactly.
      float magnitude = bits * 0x1p-24f;
      return sign == 0 ? magnitude : -magnitude;
    }
    return Float.intBitsToFloat(sign | (bits << 13) + 0x3800_0000);
  }

  /** The value of a bfloat16; exact. */
  public static float fromBf16(short bits) {
    return Float.intBitsToFloat(bits << 16);
  }

  /** The bfloat16 nearest to {@code value}, ties to even; a NaN stays a NaN. */
  public static short toBf16(float value) {
    int bits = Float.floatToRawIntBits(value);
    if (Float.isNaN(value)) {
      return (short) (bits >>> 16 | 0x40);
    }
    return (short) (bits + 0x7fff + (bits >>> 16 & 1) >>> 16);
  }
}
