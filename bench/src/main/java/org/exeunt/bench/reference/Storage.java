// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import org.exeunt.DType;

/** How the elements of a tensor are stored. */
public enum Storage {
  F32(4),
  BF16(2),
  F16(2);

  private final int bytes;

  Storage(int bytes) {
    this.bytes = bytes;
  }

  /** Bytes of one element. */
  public int bytes() {
    return bytes;
  }

  /** The nearest number that can be stored. */
  public float stored(float value) {
    return this == F32 ? value : widen(bits(value));
  }

  /** The bits of a 16-bit element. */
  short bits(float value) {
    return this == BF16 ? Bfloat16.round(value) : DType.floatToF16(value);
  }

  private float widen(short bits) {
    return this == BF16 ? Bfloat16.widen(bits) : DType.f16ToFloat(bits);
  }

  /** The storage that a case table calls {@code name}. */
  public static Storage of(String name) {
    switch (name) {
      case "f32":
        return F32;
      case "bf16":
        return BF16;
      case "f16":
        return F16;
      default:
        throw new IllegalArgumentException("no benchmark stores its tensors as " + name);
    }
  }
}
