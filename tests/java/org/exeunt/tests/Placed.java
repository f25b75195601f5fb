// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.fail;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;

/**
 * A host tensor on the device under test, at its offset from a 64-byte boundary, between guards
 * that must not change.
 */
final class Placed {
  private static final int GUARD = 64;
  private static final byte CANARY = 0x7B;

  private final HostTensor host;
  private final Tensor memory;
  private final Tensor tensor;
  private final int start;

  Placed(Scope scope, HostTensor host) {
    this.host = host;
    int width = host.dtype.bytes();
    start = GUARD + host.offset * width;
    int size = start + host.bytes.capacity() + GUARD;
    memory = scope.allocate(Device.defaultDevice(), DType.U8, size);
    ByteBuffer staging = staging(size);
    staging.put(0, CANARY);
    HostTensor.repeat(staging, 1);
    staging.put(start, host.bytes, 0, host.bytes.capacity());
    memory.copyFrom(Tensor.of(staging, size), Stream.DEFAULT);
    Stream.DEFAULT.synchronize();
    tensor =
        memory
            .reinterpret(host.dtype, start, host.bytes.capacity() / width)
            .strided(host.shape, host.strides());
  }

  private static ByteBuffer staging(int size) {
    return ByteBuffer.allocateDirect(size).order(ByteOrder.nativeOrder());
  }

  Tensor tensor() {
    return tensor;
  }

  /** The tensor's contents now. Checks that nobody wrote around it or into its gaps. */
  HostTensor read() {
    int size = (int) memory.elements();
    ByteBuffer now = staging(size);
    Tensor.of(now, size).copyFrom(memory, Stream.DEFAULT);
    Stream.DEFAULT.synchronize();
    int end = start + host.bytes.capacity();
    assertCanaries(now, 0, start);
    assertCanaries(now, end, size);
    HostTensor read = host.like();
    read.bytes.put(0, now, start, host.bytes.capacity());
    assertGapsUntouched(read);
    return read;
  }

  private void assertCanaries(ByteBuffer now, int begin, int end) {
    for (int i = begin; i < end; i++) {
      if (now.get(i) != CANARY) {
        fail("byte " + (i - start) + " outside a tensor was written");
      }
    }
  }

  private void assertGapsUntouched(HostTensor read) {
    int width = host.dtype.bytes();
    for (int r = 0; r + 1 < host.rows; r++) {
      for (int i = (r * host.stride + host.cols) * width; i < (r + 1) * host.stride * width; i++) {
        if (host.bytes.get(i) != read.bytes.get(i)) {
          fail("gap after row " + r + " was written");
        }
      }
    }
  }

  void assertUnchanged() {
    assertEquals(host.bytes, read().bytes, "an input was written");
  }
}
