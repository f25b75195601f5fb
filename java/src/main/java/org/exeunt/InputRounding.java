// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.global.exeunt;

/** How inputs are rounded to meet weights of {@link BlockFormat} blocks, each 32 elements alone. */
public enum InputRounding {
  /** To multiples of a power of two, with 15 bits. */
  INT16(exeunt.EXN_INPUT_INT16),
  /**
   * To multiples of 1/127 of the largest magnitude: an error 128 times as large, and a half to
   * four fifths of the time of several rows where the CPU multiplies bytes. On the CPU alone, and for weights of
   * blocks alone.
   */
  INT8(exeunt.EXN_INPUT_INT8);

  final int code;

  InputRounding(int code) {
    this.code = code;
  }
}
