// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

/** Conversions between f32 and bfloat16 bit patterns. */
public final class Bfloat16 {
  private Bfloat16() {}

  /** Nearest bfloat16 of a finite value, ties to even. */
  public static short round(float value) {
    int bits = Float.floatToRawIntBits(value);
    return (short) ((bits + 0x7fff + (bits >>> 16 & 1)) >>> 16);
  }

  /** The f32 value of a bfloat16, which is exact. */
  public static float widen(short bits) {
    return Float.intBitsToFloat(bits << 16);
  }
}
