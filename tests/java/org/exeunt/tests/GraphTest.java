// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.util.concurrent.atomic.AtomicReference;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Event;
import org.exeunt.ExeuntException;
import org.exeunt.Graph;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Graphs, events and pinned memory; what a CPU makes of them. */
class GraphTest {
  private static final float[] ONES = {1, 1};

  /** On the emulated device, in a process of its own. */
  static final class OnDevice {
    private static final Device GPU = Device.cuda(0);

    public static void main(String[] arguments) throws ReflectiveOperationException {
      Method test = OnDevice.class.getDeclaredMethod(arguments[0]);
      try {
        test.invoke(null);
      } catch (InvocationTargetException e) {
        throw new AssertionError(arguments[0], e.getCause());
      }
      System.out.println("passed: " + arguments[0]);
    }

    /** Cosines of rows with themselves. */
    private static Cosine cosine(Scope scope, Tensor rows, Tensor out) {
      return Cosine.builder().a(rows).b(rows).out(out).build(scope);
    }

    static void launchesWhatWasCaptured() {
      try (Scope scope = Scope.open(); Stream stream = Stream.create(GPU)) {
        Tensor rows = scope.copyOf(new float[] {3, 4, 0, 2}, 2, 2);
        Tensor out = scope.copyOf(new float[] {9, 9}, 2);
        Tensor host = scope.allocatePinned(GPU, DType.F32, 2);
        Cosine op = cosine(scope, rows, out);
        op.run(stream);
        out.copyFrom(new float[] {9, 9});
        try (Graph graph = Graph.capture(stream, () -> {
          op.run(stream);
          host.copyFrom(out, stream);
        }); Event done = Event.create(GPU)) {
          assertEquals(GPU, graph.device());
          assertArrayEquals(new float[] {9, 9}, out.toFloatArray(), "captured, not run");
          for (int launch = 0; launch < 3; launch++) {
            host.copyFrom(new float[] {7, 7});
            graph.launch(launch == 1 ? Stream.DEFAULT : stream);
            done.record(launch == 1 ? Stream.DEFAULT : stream);
            done.synchronize();
            assertTrue(done.isReached());
            assertArrayEquals(ONES, host.toFloatArray(), 1e-6f);
          }
        }
      }
    }

    static void holdsWhatItUses() {
      Scope scope = Scope.open();
      Stream stream = Stream.create(GPU);
      Tensor rows = scope.copyOf(new float[] {3, 4}, 1, 2);
      Cosine op = Cosine.builder().a(rows).b(rows).out(scope.allocate(DType.F32, 1)).build();
      Graph graph = Graph.capture(stream, () -> {
        op.run(stream);
        op.run(stream);
      });
      message("Cosine is part of a graph, which has to be closed first", op::close);
      message("scope is in use by 1 running call(s) or graph(s)", scope::close);
      graph.launch(stream);
      op.run(stream);
      stream.synchronize();
      graph.close();
      graph.close();
      message("graph is closed", () -> graph.launch(stream));
      op.close();
      scope.close();
      stream.close();
    }

    static void refusalsSpoilNothing() {
      try (Scope scope = Scope.open(); Stream stream = Stream.create(GPU)) {
        Tensor rows = scope.copyOf(new float[] {3, 4}, 1, 2);
        Tensor out = scope.copyOf(new float[] {9}, 1);
        Cosine op = cosine(scope, rows, out);
        try (Graph graph = Graph.capture(stream, () -> {
          assertThrows(IllegalArgumentException.class,
              () -> cosine(scope, rows, scope.allocate(DType.F32, 2)));
          message("stream: on cuda:1, but the tensors are on cuda:0",
              () -> op.run(Stream.wrap(0, Device.cuda(1))));
          assertThrows(
              IllegalArgumentException.class, () -> Graph.capture(stream, () -> {}).close());
          message("stream is being captured", stream::close);
          op.run(stream);
        })) {
          graph.launch(stream);
          stream.synchronize();
          assertEquals(1, out.toFloatArray()[0], 1e-6f);
        }
      }
    }

    static void workThatThrowsGivesUp() {
      try (Scope scope = Scope.open(); Stream stream = Stream.create(GPU)) {
        Tensor rows = scope.copyOf(new float[] {3, 4}, 1, 2);
        Tensor out = scope.copyOf(new float[] {9}, 1);
        Cosine op = Cosine.builder().a(rows).b(rows).out(out).build();
        IllegalStateException thrown =
            assertThrows(IllegalStateException.class, () -> Graph.capture(stream, () -> {
              op.run(stream);
              throw new IllegalStateException("enough");
            }));
        assertEquals("enough", thrown.getMessage());
        stream.synchronize();
        assertEquals(9, out.toFloatArray()[0]);
        op.run(stream);
        stream.synchronize();
        assertEquals(1, out.toFloatArray()[0], 1e-6f);
        op.close(); // no graph holds it
      }
    }

    static void spoiltCapturesSaySo() {
      try (Scope scope = Scope.open(); Stream stream = Stream.create(GPU)) {
        Tensor rows = scope.copyOf(new float[] {3, 4}, 1, 2);
        Cosine op = cosine(scope, rows, scope.allocate(DType.F32, 1));
        ExeuntException spoilt =
            assertThrows(ExeuntException.class, () -> Graph.capture(stream, () -> {
              op.run(stream);
              assertThrows(ExeuntException.class, stream::synchronize);
            }));
        assertTrue(
            spoilt.getMessage().contains("cudaErrorStreamCaptureInvalidated"), spoilt.getMessage());
        op.run(stream);
        stream.synchronize();
      }
    }

    static void streamsJoinByEvents() {
      try (Scope scope = Scope.open(); Stream stream = Stream.create(GPU);
          Stream side = Stream.create(GPU); Event fork = Event.create(GPU);
          Event join = Event.create(GPU)) {
        Tensor rows = scope.copyOf(new float[] {3, 4}, 1, 2);
        Tensor out = scope.copyOf(new float[] {9}, 1);
        Cosine op = Cosine.builder().a(rows).b(rows).out(out).build();
        try (Graph graph = Graph.capture(stream, () -> {
          fork.record(stream);
          side.waitFor(fork);
          op.run(side);
          join.record(side);
          stream.waitFor(join);
        })) {
          message("Cosine is part of a graph, which has to be closed first", op::close);
          graph.launch(side);
          side.synchronize();
          assertEquals(1, out.toFloatArray()[0], 1e-6f);
        }
        op.close();
        ExeuntException apart =
            assertThrows(ExeuntException.class, () -> Graph.capture(stream, () -> {
              fork.record(stream);
              side.waitFor(fork);
              rows.copyTo(scope.allocate(DType.F32, 1, 2), side);
            }));
        assertTrue(apart.getMessage().contains("Unjoined"), apart.getMessage());
        side.waitFor(fork); // of a capture that is over
        side.synchronize();
      }
    }

    static void othersMayAllocateAndBuild() throws InterruptedException {
      try (Scope scope = Scope.open(); Stream stream = Stream.create(GPU)) {
        Tensor rows = scope.copyOf(new float[] {3, 4}, 1, 2);
        Tensor out = scope.copyOf(new float[] {9}, 1);
        Cosine op = cosine(scope, rows, out);
        AtomicReference<Throwable> failure = new AtomicReference<>();
        try (Graph graph = Graph.capture(stream, () -> {
          Thread other = new Thread(() -> {
            try (Scope own = Scope.open()) {
              Tensor theirs = own.copyOf(new float[] {0, 1}, 1, 2);
              Tensor result = own.allocate(DType.F32, 1);
              Cosine.compute(theirs, theirs, result);
              assertEquals(1, result.toFloatArray()[0], 1e-6f);
            } catch (Throwable t) {
              failure.set(t);
            }
          });
          other.start();
          try {
            other.join();
          } catch (InterruptedException e) {
            throw new IllegalStateException(e);
          }
          try (Scope own = Scope.open()) {
            own.allocate(DType.F32, 1000);
          }
          op.run(stream);
        })) {
          assertNull(failure.get());
          graph.launch(stream);
          stream.synchronize();
          assertEquals(1, out.toFloatArray()[0], 1e-6f);
        }
      }
    }

    static void wrongArguments() {
      try (Stream stream = Stream.create(GPU); Event event = Event.create(GPU);
          Event cpu = Event.create(Device.CPU)) {
        message("stream: the default stream cannot be captured, Stream.create makes one that can",
            () -> Graph.capture(Stream.DEFAULT, () -> {}));
        assertThrows(IllegalArgumentException.class, () -> Graph.capture(null, () -> {}));
        assertThrows(IllegalArgumentException.class, () -> Graph.capture(stream, null));
        assertThrows(IllegalArgumentException.class, () -> stream.waitFor(null));
        assertThrows(IllegalArgumentException.class, () -> event.record(null));
        assertThrows(IllegalArgumentException.class, () -> Event.create(null));
        try (Graph empty = Graph.capture(stream, () -> {})) {
          message("stream: on cuda:1, but the graph is on cuda:0",
              () -> empty.launch(Stream.wrap(0, Device.cuda(1))));
          message("stream is being captured, which takes no other graph",
              () -> Graph.capture(stream, () -> empty.launch(stream)));
          empty.launch(stream);
        }
        message("event: on cpu, but the stream is on cuda:0", () -> stream.waitFor(cpu));
        message("stream: on cuda:1, but the event is on cuda:0",
            () -> event.record(Stream.wrap(0, Device.cuda(1))));
        message("start: on cpu, but the event is on cuda:0", () -> event.millisecondsSince(cpu));
        assertThrows(IllegalArgumentException.class, () -> event.millisecondsSince(event));
        event.record(stream);
        assertEquals(0, event.millisecondsSince(event));
      }
    }

    private static void message(String expected, Runnable call) {
      assertEquals(expected, assertThrows(RuntimeException.class, call::run).getMessage());
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"launchesWhatWasCaptured", "holdsWhatItUses", "refusalsSpoilNothing",
          "workThatThrowsGivesUp", "spoiltCapturesSaySo", "streamsJoinByEvents",
          "othersMayAllocateAndBuild", "wrongArguments"})
  void onTheEmulatedDevice(String test) {
    Assumptions.assumeTrue(Files.exists(Setup.emulator()), Setup.emulator() + " was not built");
    String output =
        Subprocess.of(OnDevice.class, test)
            .option("-Dexeunt.backend=cuda")
            .option("-Dexeunt.cuda.library=" + Setup.emulator())
            .run();
    assertTrue(output.contains("passed: " + test), output);
  }

  @Test
  void aCpuHasNoGraphs() {
    try (Stream stream = Stream.create(Device.CPU)) {
      UnsupportedOperationException e =
          assertThrows(UnsupportedOperationException.class, () -> Graph.capture(stream, () -> {}));
      assertTrue(e.getMessage().contains("CPU"), e.getMessage());
    }
  }

  @Test
  void eventsOfACpu() {
    try (Stream stream = Stream.create(Device.CPU); Event start = Event.create(Device.CPU);
        Event end = Event.create(Device.CPU)) {
      assertTrue(start.isReached(), "never recorded");
      start.record(stream);
      end.record(Stream.DEFAULT);
      stream.waitFor(end);
      end.synchronize();
      assertTrue(end.isReached());
      float milliseconds = end.millisecondsSince(start);
      assertTrue(milliseconds >= 0 && milliseconds < 60_000, () -> "" + milliseconds);
      start.close();
      start.close();
      assertEquals("event is closed",
          assertThrows(IllegalStateException.class, start::isReached).getMessage());
      assertThrows(IllegalStateException.class, () -> end.millisecondsSince(start));
    }
  }

  @Test
  void pinnedMemoryIsHostMemory() {
    Scope scope = Scope.open();
    Tensor tensor = scope.allocatePinned(Device.CPU, DType.F32, 2, 3);
    assertEquals(Device.CPU, tensor.device());
    assertEquals(24, scope.allocatedBytes());
    assertEquals(0, tensor.address() % 64);
    tensor.copyFrom(new float[] {1, 2, 3, 4, 5, 6});
    assertEquals(6, tensor.floatBuffer().get(5));
    assertThrows(
        IllegalArgumentException.class, () -> scope.allocatePinned(Device.CPU, DType.F32, -1));
    assertThrows(IllegalArgumentException.class, () -> scope.allocatePinned(null, DType.F32, 1));
    scope.close();
    assertFalse(tensor.isAlive());
    assertThrows(IllegalStateException.class, () -> scope.allocatePinned(Device.CPU, DType.F32, 1));
  }
}
