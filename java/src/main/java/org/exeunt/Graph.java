// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import org.exeunt.jni.global.exeunt;

/**
 * A sequence of runs and copies on a CUDA stream, captured once and launched as a whole: a decode
 * step is a hundred small kernels, and launching each of them costs more than many of them take.
 *
 * <pre>{@code
 * try (Stream stream = Stream.create(gpu)) {
 *   step.forEach(op -> op.run(stream));  // once: CUDA loads a kernel's code at its first launch
 *   try (Graph graph = Graph.capture(stream, () -> {
 *     step.forEach(op -> op.run(stream));
 *     decision.copyFrom(exitLayer, stream);  // to host memory of allocatePinned
 *   })) {
 *     for (int token = 0; token < tokens; token++) {
 *       graph.launch(stream);
 *     }
 *   }
 * }
 * }</pre>
 *
 * <p>Shapes, addresses and numbers are those of the capture, such as the layer that {@link
 * ExitRule} was asked about; what the tensors hold is read at each launch.
 *
 * <p>A graph holds what it uses: its ops, their scopes and the JavaCPP pointers of their
 * tensors refuse to be closed, or stay until it is closed itself. It is for the memory that they
 * have, as an op is. Between a launch and the end of its work, no op of it may run elsewhere.
 *
 * <p>Thread-safe. Launches of one graph run one after the other.
 */
public final class Graph implements AutoCloseable {
  private final Device device;
  private final Capture held;
  private final long handle;
  private boolean closed;

  private Graph(Device device, Capture held, long handle) {
    this.device = device;
    this.held = held;
    this.handle = handle;
  }

  /**
   * Records what is queued on a stream, instead of running it. Streams that wait for an event of
   * the capture ({@link Stream#waitFor}) take part in it, and this one has to wait for them before
   * the end.
   *
   * <p>The capture is this thread's: others may allocate, free and synchronise meanwhile. The work
   * may allocate and build ops, which happens at once and is not recorded, but not wait for a
   * stream of the capture or ask its events, which spoils it, nor read or fill tensors, which may.
   * An op that is refused spoils nothing: where the work catches its exception, the capture goes
   * on. Where the work throws, the capture is given up, and the stream runs again what is queued
   * on it.
   *
   * @param stream of a CUDA device, created or wrapped; not the default stream
   * @param work queues ops and copies on the stream, on this thread
   * @return the graph, to close when done
   * @throws IllegalArgumentException if the stream is the default stream, or is being captured
   * @throws UnsupportedOperationException if the stream is of the CPU, where runs are synchronous
   * @throws ExeuntException if the capture was spoilt, or streams are left for which this one does
   *     not wait
   */
  public static Graph capture(Stream stream, Runnable work) {
    Named.present("stream", stream);
    Named.present("work", work);
    Native.require();
    Device device = stream.device();
    if (device == null) {
      throw new IllegalArgumentException(
          "stream: the default stream cannot be captured, Stream.create makes one that can");
    }
    device.backend().require();
    StackRoom.require();
    long queue = stream.acquire();
    try {
      Capture capture = Capture.begin(device, queue);
      try {
        work.run();
        return new Graph(device, capture, capture.end());
      } catch (RuntimeException | Error e) {
        try {
          capture.abort();
        } catch (RuntimeException also) {
          e.addSuppressed(also);
        }
        throw e;
      }
    } finally {
      stream.release();
    }
  }

  /**
   * Where it runs.
   *
   * @return the device of the stream that was captured
   */
  public Device device() {
    return device;
  }

  /**
   * Queues all that was captured; does not synchronise.
   *
   * @param stream of the same device, not being captured; need not be the one of the capture
   * @throws IllegalArgumentException if the stream belongs to another device
   * @throws IllegalStateException if the graph or the stream is closed, or the stream is being
   *     captured
   * @throws ExeuntException if the backend failed
   * @throws DeviceLostException if the device context is lost
   */
  public synchronized void launch(Stream stream) {
    if (closed) {
      throw new IllegalStateException("graph is closed");
    }
    Device of = Named.present("stream", stream).device();
    if (of != null && !of.equals(device)) {
      throw new IllegalArgumentException("stream: on " + of + ", but the graph is on " + device);
    }
    StackRoom.require();
    long queue = stream.acquire();
    try {
      if (Capture.of(queue) != null) {
        throw new IllegalStateException("stream is being captured, which takes no other graph");
      }
      Status.check(
          exeunt.exn_graph_launch(device.backend().dlpackCode(), device.id(), handle, queue));
    } finally {
      stream.release();
    }
  }

  /**
   * Destroys the graph and lets go of what it used; launches that are queued still complete.
   * Closing twice is allowed.
   */
  @Override
  public synchronized void close() {
    if (closed) {
      return;
    }
    closed = true;
    try {
      Status.check(exeunt.exn_graph_destroy(device.backend().dlpackCode(), device.id(), handle));
    } finally {
      held.letGo();
    }
  }
}
