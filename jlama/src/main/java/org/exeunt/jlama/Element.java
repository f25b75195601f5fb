// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.safetensors.DType;
import org.exeunt.jni.global.exeunt;

/** What matrices consist of, in DLPack's numbers. */
enum Element {
  F32(exeunt.kDLFloat, 32),
  F16(exeunt.kDLFloat, 16),
  BF16(exeunt.kDLBfloat, 16),
  U8(exeunt.kDLUInt, 8);

  final byte code;
  final byte bits;

  Element(int code, int bits) {
    this.code = (byte) code;
    this.bits = (byte) bits;
  }

  int bytes() {
    return bits / Byte.SIZE;
  }

  /** Of a tensor of Jlama; null: none of these. */
  static Element of(DType type) {
    return switch (type) {
      case F32 -> F32;
      case F16 -> F16;
      case BF16 -> BF16;
      default -> null;
    };
  }
}
