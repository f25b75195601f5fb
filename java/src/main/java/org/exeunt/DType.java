// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.global.exeunt;

/** Element type of a {@link Tensor}. */
public enum DType {
  /** IEEE binary32. */
  F32(exeunt.kDLFloat, 32),
  /** IEEE binary16. */
  F16(exeunt.kDLFloat, 16),
  /** bfloat16: the upper half of a binary32. */
  BF16(exeunt.kDLBfloat, 16),
  /** IEEE binary64. */
  F64(exeunt.kDLFloat, 64),
  /** Signed 32-bit integer. */
  I32(exeunt.kDLInt, 32),
  /** Signed 64-bit integer. */
  I64(exeunt.kDLInt, 64),
  /** Unsigned byte; also masks and flags, 0 or 1. */
  U8(exeunt.kDLUInt, 8);

  final byte code;
  final byte bits;

  DType(int code, int bits) {
    this.code = (byte) code;
    this.bits = (byte) bits;
  }

  /**
   * Bytes of one element.
   *
   * @return 1, 2, 4 or 8
   */
  public int bytes() {
    return bits / 8;
  }

  /**
   * Whether the elements are floating-point numbers.
   *
   * @return true for F32, F16, BF16, F64
   */
  public boolean isFloat() {
    return code != exeunt.kDLInt && code != exeunt.kDLUInt;
  }

  static DType of(int code, int bits, int lanes) {
    for (DType type : values()) {
      if (type.code == code && type.bits == bits && lanes == 1) {
        return type;
      }
    }
    throw new IllegalArgumentException(
        "DLPack dtype (code " + code + ", bits " + bits + ", lanes " + lanes + ") has no DType");
  }

  /**
   * Widens a bfloat16; exact.
   *
   * @param bits the bfloat16's bits
   * @return its value
   */
  public static float bf16ToFloat(short bits) {
    return Float.intBitsToFloat(bits << 16);
  }

  /**
   * Rounds to bfloat16, to nearest with ties to even. A NaN stays a NaN.
   *
   * @param value any float
   * @return the bfloat16's bits
   */
  public static short floatToBf16(float value) {
    int bits = Float.floatToRawIntBits(value);
    if (value != value) {
      return (short) (bits >>> 16 | 0x40);
    }
    return (short) (bits + 0x7fff + (bits >>> 16 & 1) >>> 16);
  }

  /**
   * Widens a binary16; exact, subnormal numbers included.
   *
   * @param bits the binary16's bits
   * @return its value
   */
  public static float f16ToFloat(short bits) {
    int exponent = bits >>> 10 & 0x1f;
    int fraction = bits & 0x3ff;
    float magnitude;
    if (exponent == 0) {
      magnitude = fraction * 0x1p-24f;
    } else if (exponent == 31) {
      magnitude = Float.intBitsToFloat(0x7f800000 | fraction << 13);
    } else {
      magnitude = Float.intBitsToFloat(exponent + 112 << 23 | fraction << 13);
    }
    return bits < 0 ? -magnitude : magnitude;
  }

  /**
   * Rounds to binary16, to nearest with ties to even. A NaN stays a NaN; beyond 65519.99 the result
   * is infinite.
   *
   * @param value any float
   * @return the binary16's bits
   */
  public static short floatToF16(float value) {
    int bits = Float.floatToRawIntBits(value);
    int sign = bits >>> 16 & 0x8000;
    float magnitude = Math.abs(value);
    if (value != value) {
      return (short) (sign | 0x7e00);
    }
    if (magnitude >= 65520f) {
      return (short) (sign | 0x7c00);
    }
    if (magnitude < 0x1p-14f) { // subnormal: the sum with 0.5 rounds at 2^-24
      return (short) (sign | Float.floatToRawIntBits(magnitude + 0.5f) - 0x3f000000);
    }
    int rebased = Float.floatToRawIntBits(magnitude) - (112 << 23);
    return (short) (sign | rebased + 0xfff + (rebased >>> 13 & 1) >>> 13);
  }
}
