// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.exeunt.jni.global.exeunt;

/**
 * A capture that is under way, and what its graph will use: the ops that ran and the tensors that
 * were copied on its streams, held from then on.
 */
final class Capture {
  private static final Map<Long, Capture> BY_STREAM = new ConcurrentHashMap<>();

  private final Device device;
  private final long stream;
  private final Set<Op> ops = new LinkedHashSet<>();
  private final List<Tensor> tensors = new ArrayList<>();
  private boolean over; // as the sets, guarded by itself

  private Capture(Device device, long stream) {
    this.device = device;
    this.stream = stream;
  }

  static Capture begin(Device device, long stream) {
    Capture capture = new Capture(device, stream);
    Status.check(exeunt.exn_graph_begin(device.backend().dlpackCode(), device.id(), stream));
    synchronized (BY_STREAM) {
      BY_STREAM.put(stream, capture);
      Stream.captures++;
    }
    return capture;
  }

  /** The one that a stream takes part in; null: none. */
  static Capture of(long stream) {
    return Stream.captures == 0 ? null : BY_STREAM.get(stream);
  }

  /** A stream takes part from here on; null: there is no capture to take part in. */
  static void join(long stream, Capture capture) {
    if (capture != null) {
      synchronized (BY_STREAM) {
        if (!capture.isOver()) {
          BY_STREAM.put(stream, capture);
        }
      }
    }
  }

  /** An op has been recorded, which the caller holds. */
  static void note(long stream, Op op) {
    Capture capture = of(stream);
    if (capture != null) {
      capture.add(op);
    }
  }

  /** A copy has been recorded, whose tensors the caller holds. */
  static void note(long stream, Tensor... copied) {
    Capture capture = of(stream);
    if (capture != null) {
      for (Tensor tensor : copied) {
        capture.add(tensor);
      }
    }
  }

  private synchronized void add(Op op) {
    if (!over && ops.add(op)) {
      op.holdForGraph();
    }
  }

  private synchronized void add(Tensor tensor) {
    if (!over) {
      tensor.acquire();
      tensors.add(tensor);
    }
  }

  private synchronized boolean isOver() {
    return over;
  }

  /** Ends it; the graph's handle. What was noted is held on by the caller, until {@link #letGo}. */
  long end() {
    long[] out = new long[1];
    Status.check(exeunt.exn_graph_end(device.backend().dlpackCode(), device.id(), stream, out));
    leaveStreams();
    return out[0];
  }

  /** Gives it up, whatever became of it. */
  void abort() {
    try {
      Status.check(exeunt.exn_graph_abort(device.backend().dlpackCode(), device.id(), stream));
    } finally {
      leaveStreams();
      letGo();
    }
  }

  private void leaveStreams() {
    synchronized (BY_STREAM) {
      synchronized (this) {
        if (over) {
          return;
        }
        over = true;
      }
      BY_STREAM.values().removeIf(this::equals);
      Stream.captures--;
    }
  }

  synchronized void letGo() {
    ops.forEach(Op::letGo);
    tensors.forEach(Tensor::release);
    ops.clear();
    tensors.clear();
  }
}
