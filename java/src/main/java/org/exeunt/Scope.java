// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Owns native memory and frees it at {@link #close()}: the tensors it allocated and the ops built
 * into it.
 *
 * <p>Use after close is an {@link IllegalStateException}, never a crash: every op acquires the
 * scopes of its tensors while it runs, and a scope that is acquired refuses to close. On CUDA a run
 * has returned before its work is done; closing then waits for the device. Nothing is freed by the
 * garbage collector.
 *
 * <p>Buffers from {@link Tensor#byteBuffer()} and the like are plain views: do not touch them after
 * the close.
 *
 * <p>Thread-safe.
 */
public final class Scope implements AutoCloseable {
  private static final int CLOSED = -1;
  // Known to compilers, so that it costs nothing where it is false.
  private static final boolean WATCHED = Boolean.getBoolean("exeunt.leaks");
  private static final AtomicLong OWNING = new AtomicLong();

  // No VarHandle, with which a JVM that has just started would take milliseconds.
  private final AtomicInteger users = new AtomicInteger();
  private final Set<Object> owned = new LinkedHashSet<>(); // ops, Allocations
  private long allocatedBytes;
  private final Leak leak = WATCHED ? Leak.watch(this) : null;

  private Scope() {}

  /**
   * Opens an empty scope. With {@code -Dexeunt.leaks=true} it remembers where, and the logger
   * "org.exeunt" is told if the garbage collector finds it before it was closed.
   *
   * @return a scope for a try-with-resources statement
   * @throws UnsatisfiedLinkError if the native library could not be loaded; the message says what
   *     was tried
   */
  public static Scope open() {
    Native.require();
    return new Scope();
  }

  /**
   * Allocates a compact tensor on {@link Device#defaultDevice()}.
   *
   * @param dtype element type
   * @param shape extents; none for a scalar
   * @return the tensor; its contents are undefined
   * @see #allocate(Device, DType, long...)
   */
  public Tensor allocate(DType dtype, long... shape) {
    return allocate(Device.defaultDevice(), dtype, shape);
  }

  /**
   * Allocates a compact tensor: 64-byte aligned, and from 2 MiB on the CPU in huge pages where the
   * system grants them. During a capture ({@link Graph}) it allocates at once and is not recorded.
   *
   * @param device where
   * @param dtype element type
   * @param shape extents, each 0 or more; none for a scalar
   * @return the tensor, valid until this scope closes; its contents are undefined
   * @throws IllegalArgumentException if an extent is negative or the size overflows
   * @throws IllegalStateException if this scope is closed
   * @throws ExeuntException if the device's backend is not available, with the reason
   * @throws OutOfMemoryError if the device has not enough memory
   */
  public Tensor allocate(Device device, DType dtype, long... shape) {
    Named.present("device", device);
    long bytes = Tensor.byteSize(dtype, shape);
    StackRoom.require();
    acquire();
    try {
      long address = allocateBytes(Memory.Use.TENSOR, device, bytes);
      count(bytes);
      return new Tensor(
          address, dtype, shape.clone(), Tensor.compactStrides(shape), device, this, null);
    } finally {
      release();
    }
  }

  /**
   * Allocates a compact tensor in host memory that copies to and from a CUDA device reach in their
   * stream's order, while others make {@link Tensor#copyFrom(Tensor, Stream)} wait: so a decision
   * is read back beside the host's own work. It is pinned, so take little.
   *
   * <pre>{@code
   * Tensor decision = scope.allocatePinned(gpu, DType.I32, 1);
   * rule.run(stream);
   * decision.copyFrom(exitLayer, stream);
   * event.record(stream);
   * // ... queue what does not depend on it ...
   * event.synchronize();
   * int layer = decision.intBuffer().get(0);
   * }</pre>
   *
   * @param device which copies; the tensor itself is one of {@link Device#CPU}, and for that device
   *     ordinary memory
   * @param dtype element type
   * @param shape extents, each 0 or more; none for a scalar
   * @return the tensor, valid until this scope closes, before which copies must be done; its
   *     contents are undefined
   * @throws IllegalArgumentException if an extent is negative or the size overflows
   * @throws IllegalStateException if this scope is closed
   * @throws ExeuntException if the device's backend is not available, with the reason
   * @throws OutOfMemoryError if the system does not grant so much
   */
  public Tensor allocatePinned(Device device, DType dtype, long... shape) {
    Named.present("device", device);
    long bytes = Tensor.byteSize(dtype, shape);
    StackRoom.require();
    acquire();
    try {
      long address = allocateBytes(Memory.Use.TENSOR, device, bytes, true);
      count(bytes);
      return new Tensor(
          address, dtype, shape.clone(), Tensor.compactStrides(shape), Device.CPU, this, null);
    } finally {
      release();
    }
  }

  /**
   * Allocates a tensor on {@link Device#defaultDevice()} and fills it; synchronises.
   *
   * @param dtype element type; values are rounded to it
   * @param values elements in row-major order
   * @param shape extents; their product is the number of values
   * @return the filled tensor
   */
  public Tensor copyOf(DType dtype, float[] values, long... shape) {
    Tensor tensor = allocate(dtype, shape);
    try {
      return tensor.copyFrom(values);
    } catch (RuntimeException | Error e) {
      discard(e, tensor);
      throw e;
    }
  }

  /**
   * Allocates an F32 tensor on {@link Device#defaultDevice()} and fills it; synchronises.
   *
   * @param values elements in row-major order
   * @param shape extents; their product is the number of values
   * @return the filled tensor
   */
  public Tensor copyOf(float[] values, long... shape) {
    return copyOf(DType.F32, values, shape);
  }

  /**
   * Allocates an I32 tensor on {@link Device#defaultDevice()} and fills it; synchronises.
   *
   * @param values elements in row-major order
   * @param shape extents; their product is the number of values
   * @return the filled tensor
   */
  public Tensor copyOf(int[] values, long... shape) {
    Tensor tensor = allocate(DType.I32, shape);
    try {
      return tensor.copyFrom(values);
    } catch (RuntimeException | Error e) {
      discard(e, tensor);
      throw e;
    }
  }

  /**
   * Whether the scope is still open.
   *
   * @return false after {@link #close()}
   */
  public boolean isOpen() {
    return users.get() != CLOSED;
  }

  /**
   * Bytes of all tensors allocated here; workspaces are not counted.
   *
   * @return bytes since the scope was opened
   */
  public synchronized long allocatedBytes() {
    return allocatedBytes;
  }

  /**
   * Closes the ops built into this scope, then frees its tensors; on CUDA waits for the work queued
   * on their devices. Closing twice is allowed.
   *
   * @throws IllegalStateException if an op that uses this scope is running, or part of a {@link
   *     Graph} that is open; nothing is freed then
   * @throws DeviceLostException if a device was lost meanwhile; the scope is closed all the same
   */
  @Override
  public void close() {
    StackRoom.require();
    if (!users.compareAndSet(0, CLOSED)) {
      int now = users.get();
      if (now == CLOSED) {
        return;
      }
      throw new IllegalStateException("scope is in use by " + now + " running call(s) or graph(s)");
    }
    if (WATCHED) {
      leak.closed();
    }
    Throwable failure = null;
    for (Object resource : takeOwned()) {
      try {
        if (resource instanceof Op op) {
          op.closeWithScope();
        } else {
          ((Allocation) resource).free();
        }
      } catch (Throwable t) {
        if (failure == null) {
          failure = t;
        } else if (failure != t) {
          failure.addSuppressed(t);
        }
      }
    }
    if (failure instanceof Error error) {
      throw error;
    } else if (failure != null) {
      throw (RuntimeException) failure;
    }
  }

  /** Keeps the scope open until {@link #release}. The caller has asked for {@link StackRoom}. */
  void acquire() {
    int now;
    do {
      now = users.get();
      if (now == CLOSED) {
        throw new IllegalStateException(
            "scope is closed: its tensors and ops cannot be used any more");
      }
    } while (!users.weakCompareAndSetVolatile(now, now + 1));
  }

  void release() {
    int before = users.getAndDecrement();
    assert before > 0;
  }

  /** Registers what to close with this scope; the caller holds an acquisition. */
  synchronized void own(Object resource) {
    if (owned.isEmpty()) {
      OWNING.incrementAndGet();
    }
    owned.add(resource);
  }

  /** Forgets what was closed earlier. */
  synchronized void disown(Object resource) {
    if (owned.remove(resource) && owned.isEmpty()) {
      OWNING.decrementAndGet();
    }
  }

  /** Scopes of this process that own something. */
  static long owning() {
    return OWNING.get();
  }

  /**
   * Frees tensors that a call had allocated here, and handed to no one, before {@code cause} ended
   * it.
   */
  void discard(Throwable cause, Tensor... tensors) {
    for (Tensor tensor : tensors) {
      Allocation allocation = takeAllocation(tensor.address());
      if (allocation == null) {
        continue; // the scope is closed
      }
      try {
        allocation.free();
        count(-Tensor.byteSize(tensor.dtype(), tensor.shape()));
      } catch (RuntimeException e) {
        cause.addSuppressed(e);
      }
    }
  }

  /** Memory that goes with this scope, or earlier by {@link #free}. */
  long allocateBytes(Memory.Use use, Device device, long bytes) {
    return allocateBytes(use, device, bytes, false);
  }

  private long allocateBytes(Memory.Use use, Device device, long bytes, boolean pinned) {
    device.backend().require();
    StackRoom.require();
    acquire();
    try {
      Allocation allocation = new Allocation(use, device, pinned, bytes);
      own(allocation); // first: nothing may fail once there is memory
      boolean done = false;
      try {
        allocation.address =
            pinned ? Memory.allocateHost(use, device, bytes) : Memory.allocate(use, device, bytes);
        done = true;
      } finally {
        if (!done) {
          disown(allocation);
        }
      }
      return allocation.address;
    } finally {
      release();
    }
  }

  /** Gives back what {@link #allocateBytes} gave. */
  void free(long address) {
    Allocation allocation = takeAllocation(address);
    if (allocation != null) { // else the scope is closed
      allocation.free();
    }
  }

  private synchronized Allocation takeAllocation(long address) {
    for (Object resource : owned) {
      if (resource instanceof Allocation allocation && allocation.address == address) {
        disown(resource);
        return allocation;
      }
    }
    return null;
  }

  /** Memory of a tensor or a workspace. */
  private static final class Allocation {
    final Memory.Use use;
    final Device device;
    final boolean pinned; // host memory for copies of that device
    final long bytes;
    long address; // 0: there is none yet

    Allocation(Memory.Use use, Device device, boolean pinned, long bytes) {
      this.use = use;
      this.device = device;
      this.pinned = pinned;
      this.bytes = bytes;
    }

    void free() {
      if (address == 0) {
        return;
      }
      if (pinned) {
        Memory.freeHost(use, device, address, bytes);
      } else {
        Memory.free(use, device, address, bytes);
      }
    }
  }

  private synchronized void count(long bytes) {
    allocatedBytes += bytes;
    if (WATCHED) {
      leak.count(bytes);
    }
  }

  /** In reverse order: an op goes before the tensors it uses. */
  private synchronized List<Object> takeOwned() {
    List<Object> reversed = new ArrayList<>(owned);
    Collections.reverse(reversed);
    if (!owned.isEmpty()) {
      OWNING.decrementAndGet();
    }
    owned.clear();
    return reversed;
  }
}
