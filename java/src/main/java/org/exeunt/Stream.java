// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.bytedeco.javacpp.Pointer;
import org.exeunt.jni.global.exeunt;

/**
 * Where runs queue their work. On the CPU every run is synchronous and the stream is ignored; on
 * CUDA a run returns once its work is queued, and work of one stream runs in order.
 *
 * <p>Runs never synchronise. {@link #synchronize()} does, and reports what failed on the way.
 *
 * <p>Streams may be shared by threads. Close a created stream only when no thread is about to queue
 * work on it.
 */
public final class Stream implements AutoCloseable {
  /** The default stream of whatever device an op runs on. */
  public static final Stream DEFAULT = new Stream(0, null, false);

  /** Captures that are under way; see {@link Capture}. Here, where a run has been anyway. */
  static volatile int captures;

  private final long handle;
  private final Device device;
  private final boolean owned;
  private volatile boolean closed;

  private Stream(long handle, Device device, boolean owned) {
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
    return new Stream(out[0], device, true);
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
    return new Stream(handle, device, false);
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
  public static Stream wrap(Pointer stream) {
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
  public static Stream wrap(Pointer stream, Device device) {
    return wrap(stream == null ? 0 : stream.address(), device);
  }

  /**
   * The native handle, a {@code cudaStream_t}.
   *
   * @return 0 for default streams and on the CPU
   * @throws IllegalStateException if the stream is closed
   */
  public long handle() {
    if (closed) {
      throw new IllegalStateException("stream is closed");
    }
    return handle;
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
    long stream = handle();
    if (device != null) {
      synchronize(device, stream);
      return;
    }
    Native.require();
    for (int id = 0; id < Backend.CUDA.deviceCount(); id++) {
      synchronize(Device.cuda(id), stream);
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
    long stream = handle();
    int id = device == null ? of.id() : device.id();
    Status.check(exeunt.exn_stream_wait(of.backend().dlpackCode(), id, stream, event.handle()));
    Capture.join(stream, event.capture());
  }

  /** Where it was created; null for {@link #DEFAULT}. */
  Device device() {
    return device;
  }

  /**
   * Destroys a stream of {@link #create}; work queued on it still completes. Does nothing for
   * wrapped streams and {@link #DEFAULT}. Closing twice is allowed.
   *
   * @throws IllegalStateException if the stream is being captured
   */
  @Override
  public synchronized void close() {
    if (owned && !closed) {
      if (Capture.of(handle) != null) {
        throw new IllegalStateException("stream is being captured");
      }
      closed = true;
      Status.check(exeunt.exn_stream_destroy(device.backend().dlpackCode(), device.id(), handle));
    }
  }

  /** The handle for a run on {@code target}, which CUDA streams must belong to. */
  long handleFor(Device target) {
    if (device != null && target.backend() == Backend.CUDA && !device.equals(target)) {
      throw new IllegalArgumentException(
          "stream: on " + device + ", but the tensors are on " + target);
    }
    return handle();
  }

  @Override
  public String toString() {
    return device == null
        ? "default stream"
        : "stream 0x" + Long.toHexString(handle) + " on " + device;
  }
}
