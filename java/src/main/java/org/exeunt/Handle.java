// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.concurrent.atomic.AtomicInteger;

/**
 * What the native library made and destroys again, shared by threads. Who uses it holds it
 * meanwhile: once it is closed it cannot be taken any more, and the last of those who have it
 * destroys it.
 */
final class Handle {
  /** A function of the library that destroys such a thing. */
  interface Destroy {
    int call(int deviceType, int deviceId, long handle);
  }

  /** Added to the number of users. */
  private static final int CLOSED = Integer.MIN_VALUE;

  private final String what;
  private final Device device;
  private final long value;
  private final Destroy destroy;
  private final AtomicInteger users = new AtomicInteger();

  Handle(String what, Device device, long value, Destroy destroy) {
    this.what = what;
    this.device = device;
    this.value = value;
    this.destroy = destroy;
  }

  boolean isOpen() {
    return users.get() >= 0;
  }

  /** The handle itself, which is good until this is closed. */
  long value() {
    if (!isOpen()) {
      throw closed();
    }
    return value;
  }

  /** The handle, good until {@link #release}. The caller has asked for {@link StackRoom}. */
  long acquire() {
    int now;
    do {
      now = users.get();
      if (now < 0) {
        throw closed();
      }
    } while (!users.weakCompareAndSetVolatile(now, now + 1));
    return value;
  }

  void release() {
    if (users.decrementAndGet() == CLOSED) {
      destroy();
    }
  }

  /** Closing twice is allowed. The caller has asked for {@link StackRoom}. */
  void close() {
    int now;
    do {
      now = users.get();
      if (now < 0) {
        return;
      }
    } while (!users.weakCompareAndSetVolatile(now, now + CLOSED));
    if (now == 0) {
      destroy();
    }
  }

  private void destroy() {
    Status.check(destroy.call(device.backend().dlpackCode(), device.id(), value));
  }

  private IllegalStateException closed() {
    return new IllegalStateException(what + " is closed");
  }
}
