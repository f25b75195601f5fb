// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.concurrent.atomic.AtomicLong;
import org.bytedeco.javacpp.Pointer;
import org.exeunt.jni.global.exeunt;
import org.exeunt.presets.Direct;

/** Raw memory of tensors, parameter blocks and workspaces. */
final class Memory {
  private Memory() {}

  /** What memory is for, and how much of that was allocated and is not yet freed. */
  enum Use {
    TENSOR,
    WORKSPACE,
    ARGUMENTS;

    private final AtomicLong held = new AtomicLong();

    long held() {
      return held.get();
    }
  }

  static long allocate(Use use, Device device, long bytes) {
    long[] out = new long[1];
    Status.check(exeunt.exn_alloc(device.backend().dlpackCode(), device.id(), bytes, out));
    use.held.addAndGet(bytes);
    return out[0];
  }

  /** @param bytes as they were allocated; they no longer count, even where this throws */
  static void free(Use use, Device device, long address, long bytes) {
    use.held.addAndGet(-bytes);
    Status.check(exeunt.exn_free(device.backend().dlpackCode(), device.id(), address));
  }

  /** Host memory that copies to and from a device reach in a stream's order. */
  static long allocateHost(Use use, Device device, long bytes) {
    long[] out = new long[1];
    Status.check(exeunt.exn_host_alloc(device.backend().dlpackCode(), device.id(), bytes, out));
    use.held.addAndGet(bytes);
    return out[0];
  }

  static void freeHost(Use use, Device device, long address, long bytes) {
    use.held.addAndGet(-bytes);
    Status.check(exeunt.exn_host_free(device.backend().dlpackCode(), device.id(), address));
  }

  static void copy(
      Device dstDevice, long dst, Device srcDevice, long src, long bytes, long stream) {
    Status.check(exeunt.exn_copy(dst, dstDevice.backend().dlpackCode(), dstDevice.id(), src,
        srcDevice.backend().dlpackCode(), srcDevice.id(), bytes, stream));
  }

  /** A buffer over host memory that somebody else frees. */
  static ByteBuffer view(long address, long bytes) {
    if (bytes > Integer.MAX_VALUE) {
      throw new UnsupportedOperationException(
          bytes + " bytes do not fit a java.nio buffer (at most " + Integer.MAX_VALUE + ")");
    }
    if (bytes == 0) {
      return ByteBuffer.allocateDirect(0).order(ByteOrder.nativeOrder());
    }
    if (address == 0) {
      throw new IllegalStateException("a tensor of " + bytes + " bytes has no memory: address 0");
    }
    return Direct.view(address, bytes).order(ByteOrder.nativeOrder());
  }

  /** A JavaCPP pointer made from an address; owns nothing. */
  static final class Address extends Pointer {
    Address(long address, long bytes) {
      this.address = address;
      this.limit = bytes;
      this.capacity = bytes;
    }

    /** Limit and capacity count bytes; an unknown class would count addresses. */
    @Override
    public int sizeof() {
      return 1;
    }
  }
}
