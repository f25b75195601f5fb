// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.global.exeunt;

/**
 * A point in the work of a stream, which the host and other streams can wait for, or ask about
 * without waiting. On the CPU, where every run is synchronous, an event is reached when it is
 * recorded.
 *
 * <p>Thread-safe. Closed while others use it, an event goes when the last of their calls returns;
 * calls that come later throw {@link IllegalStateException}.
 */
public final class Event implements AutoCloseable {
  private final Handle handle;
  private final Device device;
  private volatile Capture capture; // of its last record; null: of none

  private Event(long handle, Device device) {
    this.handle = new Handle("event", device, handle, exeunt::exn_event_destroy);
    this.device = device;
  }

  /**
   * Creates an event that was never recorded, which counts as reached.
   *
   * @param device where it will be recorded
   * @return an event to close when done
   * @throws ExeuntException if the device's backend is not available, with the reason
   */
  public static Event create(Device device) {
    Native.require();
    Named.present("device", device);
    device.backend().require();
    long[] out = new long[1];
    Status.check(exeunt.exn_event_create(device.backend().dlpackCode(), device.id(), out));
    return new Event(out[0], device);
  }

  /**
   * Where it is recorded.
   *
   * @return the device it was created for
   */
  public Device device() {
    return device;
  }

  /**
   * The native handle, on CUDA a {@code cudaEvent_t}.
   *
   * @return never 0; valid until the event is closed
   * @throws IllegalStateException if the event is closed
   */
  public long handle() {
    return handle.value();
  }

  /**
   * The event stands from here on for all that is queued on the stream so far. In a capture ({@link
   * Graph}) it is a point of the graph, for {@link Stream#waitFor} alone.
   *
   * @param stream of the event's device, or {@link Stream#DEFAULT}
   * @throws IllegalArgumentException if the stream belongs to another device
   * @throws IllegalStateException if the event or the stream is closed
   * @throws ExeuntException if the backend failed
   */
  public void record(Stream stream) {
    Device of = Named.present("stream", stream).device();
    if (of != null && !of.equals(device)) {
      throw new IllegalArgumentException("stream: on " + of + ", but the event is on " + device);
    }
    StackRoom.require();
    long queue = stream.acquire();
    try {
      use((type, id, event) -> exeunt.exn_event_record(type, id, event, queue));
      capture = Capture.of(queue);
    } finally {
      stream.release();
    }
  }

  /**
   * Whether the work that the event stands for is done; does not wait.
   *
   * @return true also if the event was never recorded
   * @throws IllegalArgumentException if it was recorded in a capture last, which that spoils
   * @throws IllegalStateException if the event is closed
   * @throws ExeuntException if work before it failed
   * @throws DeviceLostException if the device context is lost
   */
  public boolean isReached() {
    int[] reached = new int[1];
    use((type, id, event) -> exeunt.exn_event_query(type, id, event, reached));
    return reached[0] == 1;
  }

  /**
   * Waits until the work that the event stands for is done.
   *
   * @throws IllegalArgumentException if it was recorded in a capture last, which that spoils
   * @throws IllegalStateException if the event is closed
   * @throws ExeuntException if work before it failed
   * @throws DeviceLostException if the device context is lost
   */
  public void synchronize() {
    use(exeunt::exn_event_synchronize);
  }

  /**
   * The time from another event to this one; waits for both. CUDA resolves about half a
   * microsecond.
   *
   * @param start recorded on the same device
   * @return milliseconds; negative if this event came first
   * @throws IllegalArgumentException if one of the two was never recorded, or recorded in a capture
   *     last, or {@code start} is on another device
   * @throws IllegalStateException if one of the two is closed
   * @throws ExeuntException if work before them failed
   */
  public float millisecondsSince(Event start) {
    if (!Named.present("start", start).device.equals(device)) {
      throw new IllegalArgumentException(
          "start: on " + start.device + ", but the event is on " + device);
    }
    float[] milliseconds = new float[1];
    StackRoom.require();
    long from = start.handle.acquire();
    try {
      use((type, id, to) -> exeunt.exn_event_elapsed(type, id, from, to, milliseconds));
    } finally {
      start.handle.release();
    }
    return milliseconds[0];
  }

  /** A function of the library with this event. */
  interface Use {
    int call(int deviceType, int deviceId, long event);
  }

  /** Calls it while the event is held. */
  void use(Use use) {
    StackRoom.require();
    long event = handle.acquire();
    try {
      Status.check(use.call(device.backend().dlpackCode(), device.id(), event));
    } finally {
      handle.release();
    }
  }

  /** The capture of its last record, which may be over; null: it was not in one. */
  Capture capture() {
    return capture;
  }

  /**
   * Destroys the event, or has the last of those who use it just now do so. Closing twice is
   * allowed.
   */
  @Override
  public void close() {
    StackRoom.require();
    handle.close();
  }
}
