// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import java.nio.ByteBuffer;
import java.nio.IntBuffer;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * What all of a decoder's places to {@link Waiting wait} share: which rows go in, and sequence and
 * position of the rows that go in or come out.
 */
final class WaitingDoor {
  static final int TAGS = 2;

  private final Tensor tagTensor;
  private final Tensor maskTensor;
  private final IntBuffer sequences;
  private final IntBuffer positions;
  private final ByteBuffer mask;

  WaitingDoor(Scope scope, int rows) {
    tagTensor = scope.allocate(Device.CPU, DType.I32, TAGS, rows);
    maskTensor = scope.allocate(Device.CPU, DType.U8, rows);
    sequences = tagTensor.row(0).intBuffer();
    positions = tagTensor.row(1).intBuffer();
    mask = maskTensor.byteBuffer();
  }

  Tensor tagTensor() {
    return tagTensor;
  }

  Tensor maskTensor() {
    return maskTensor;
  }

  /** The sequence of each row. */
  IntBuffer sequences() {
    return sequences;
  }

  /** The position of each row. */
  IntBuffer positions() {
    return positions;
  }

  /** Not 0 for a row that goes in. */
  ByteBuffer mask() {
    return mask;
  }
}
