// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.bytedeco.javacpp.Pointer;
import org.exeunt.jni.global.exeunt;
import org.jspecify.annotations.Nullable;

/**
 * Where runs queue their work. On the CPU every run is synchronous and the stream is ignored; on
 * CUDA a run returns once its work is queued, and work of one stream runs in order.
 *
 * <p>Runs never synchronise. {@link #synchronize()} does, and reports what failed on the way.
 *
 * <p>Thread-safe. Closed while others queue work on it or wait for it, a stream goes when the last
 * of their calls returns; calls that come later throw {@link IllegalStateException}.
 */
public final class Stream implements AutoCloseable {
  /** The default stream of whatever device an op runs on. */
  public static final Stream DEFAULT = new Stream(0, null, null);

  /** Captures that are under way; see {@link Capture}. Here, where a run has been anyway. */
  static volatile int captures;

  private final long handle;
  private final Device device;
  private final Handle owned; // null: somebody else destroys it

  private Stream(long handle, Device device, Handle owned) {
    this.handle = handle;
    this.device = device;
    this.owned = owned;
  }

  /**
   * Creates a stream.
   *
   * @param device its device; on the CPU the stream stands for immediate execution
   * @return a stream to close when done
   * @throws ExeuntException if the device's backend is not available, with the reason
   */
  public static Stream create(Device device) {
    Native.require();
    Named.present("device", device);
    device.backend().require();
    long[] out = new long[1];
    Status.check(exeunt.exn_stream_create(device.backend().dlpackCode(), device.id(), out));
    return new Stream(
        out[0], device, new Handle("stream", device, out[0], exeunt::exn_stream_destroy));
  }

  /**
   * Wraps a {@code cudaStream_t} that belongs to somebody else; {@link #close()} does not destroy
   * it.
   *
   * @param handle the stream's handle; 0 is the device's default stream
   * @param device the CUDA device it was created on
   * @return the stream
   */
  public static Stream wrap(long handle, Device device) {
    return new Stream(handle, device, null);
  }

  /**
   * Wraps a {@code cudaStream_t} of device {@code cuda:0}; {@link #close()} does not destroy it.
   *
   * @param handle the stream's handle; 0 is the device's default stream
   * @return the stream
   */
  public static Stream wrap(long handle) {
    return wrap(handle, Device.cuda(0));
  }

  /**
   * Wraps the stream of another JavaCPP binding, such as {@code
   * org.bytedeco.cuda.cudart.CUstream_st}, of device {@code cuda:0}. The pointer is read now and
   * not kept.
   *
   * @param stream the handle; null is the default stream
   * @return the stream
   */
  public static Stream wrap(@Nullable Pointer stream) {
    return wrap(stream, Device.cuda(0));
  }

  /**
   * Wraps the stream of another JavaCPP binding, such as {@code
   * org.bytedeco.cuda.cudart.CUstream_st}. The pointer is read now and not kept.
   *
   * @param stream the handle; null is the default stream
   * @param device the CUDA device it was created on
   * @return the stream
   */
  public static Stream wrap(@Nullable Pointer stream, Device device) {
    return wrap(stream == null ? 0 : stream.address(), device);
  }

  /**
   * The native handle, a {@code cudaStream_t}.
   *
   * @return 0 for default streams and on the CPU; valid until the stream is closed
   * @throws IllegalStateException if the stream is closed
   */
  public long handle() {
    return owned == null ? handle : owned.value();
  }

  /**
   * Waits until everything queued on this stream is done. {@link #DEFAULT} stands for the default
   * streams of all devices.
   *
   * @throws ExeuntException if work on the stream failed
   * @throws DeviceLostException if the device context is lost
   * @throws IllegalStateException if the stream is closed
   */
  public void synchronize() {
    if (device != null) {
      StackRoom.require();
      long stream = acquire();
      try {
        synchronize(device, stream);
      } finally {
        release();
      }
      return;
    }
    Native.require();
    for (int id = 0; id < Backend.CUDA.deviceCount(); id++) {
      synchronize(Device.cuda(id), handle);
    }
  }

  private static void synchronize(Device device, long stream) {
    Native.require();
    device.backend().require();
    Status.check(exeunt.exn_stream_synchronize(device.backend().dlpackCode(), device.id(), stream));
  }

  /**
   * What is queued on this stream from here on waits for the event, as it was recorded last, on
   * whatever stream. The host does not wait. In a capture ({@link Graph}) this stream takes part in
   * it from here on if the event does.
   *
   * @param event recorded before; else there is nothing to wait for
   * @throws IllegalArgumentException if the event is of another backend
   * @throws IllegalStateException if the stream or the event is closed
   * @throws ExeuntException if the backend failed
   */
  public void waitFor(Event event) {
    Device of = Named.present("event", event).device();
    if (device != null && device.backend() != of.backend()) {
      throw new IllegalArgumentException("event: on " + of + ", but the stream is on " + device);
    }
    StackRoom.require();
    long stream = acquire();
    try {
      int id = device == null ? of.id() : device.id();
      event.use((type, same, point) -> exeunt.exn_stream_wait(type, id, stream, point));
      Capture.join(stream, event.capture());
    } finally {
      release();
    }
  }

  /** Where it was created; null for {@link #DEFAULT}. */
  Device device() {
    return device;
  }

  /**
   * Destroys a stream of {@link #create}, or has the last of those who use it just now do so; work
   * queued on it still completes. Does nothing for wrapped streams and {@link #DEFAULT}. Closing
   * twice is allowed.
   *
   * @throws IllegalStateException if the stream is being captured
   */
  @Override
  public void close() {
    if (owned == null) {
      return;
    }
    StackRoom.require();
    if (owned.isOpen() && Capture.of(handle) != null) {
      throw new IllegalStateException("stream is being captured");
    }
    owned.close();
  }

  /** The handle, good until {@link #release}. The caller has asked for {@link StackRoom}. */
  long acquire() {
    return owned == null ? handle : owned.acquire();
  }

  void release() {
    if (owned != null) {
      owned.release();
    }
  }

  /** The same for a run on {@code target}, which CUDA streams must belong to. */
  long acquireFor(Device target) {
    if (device != null && target.backend() == Backend.CUDA && !device.equals(target)) {
      throw new IllegalArgumentException(
          "stream: on " + device + ", but the tensors are on " + target);
    }
    return acquire();
  }

  @Override
  public String toString() {
    return device == null
        ? "default stream"
        : "stream 0x" + Long.toHexString(handle) + " on " + device;
  }
}
