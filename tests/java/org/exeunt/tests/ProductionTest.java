// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import org.exeunt.Backend;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.NativeMemory;
import org.exeunt.Op;
import org.exeunt.RowStats;
import org.exeunt.Scope;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

/** What docs/production.md promises to those who watch a process. */
@Tag("any-jdk")
class ProductionTest {
  private static final String DONE = "done" + System.lineSeparator();

  /** Does what its first argument names, and prints what can be seen of that. */
  static final class Watched {
    public static void main(String[] arguments) throws Exception {
      switch (arguments[0]) {
        case "record":
          recordRun(arguments.length > 1);
          break;
        case "forget":
          forget();
          for (int i = 0; i < 20; i++) {
            System.gc();
            Thread.sleep(50);
          }
          break;
        default:
          run();
      }
      System.out.println("done");
    }

    private static void recordRun(boolean runs) throws Exception {
      Path file = Files.createTempFile("exeunt", ".jfr");
      try (Recording recording = new Recording()) {
        if (runs) {
          recording.enable("org.exeunt.OpRun");
          recording.enable("org.exeunt.NativeMemory").with("period", "endChunk");
        }
        recording.start();
        run();
        recording.stop();
        recording.dump(file);
        RecordingFile.readAllEvents(file)
            .stream()
            .filter(event -> event.getEventType().getName().startsWith("org.exeunt."))
            .map(Watched::line)
            .forEach(System.out::println);
      } finally {
        Files.delete(file);
      }
    }

    private static String line(RecordedEvent event) {
      StringBuilder line = new StringBuilder(event.getEventType().getName());
      for (String field : List.of("op", "path", "bytes", "device", "tensors", "workspace",
               "library", "version", "isa", "threads", "failure", "scopes")) {
        if (event.hasField(field)) {
          line.append(' ').append(field).append('=').append((Object) event.getValue(field));
        }
      }
      return line + (event.getDuration().isZero() ? "" : " took time");
    }

    private static void run() {
      try (Scope scope = Scope.open()) {
        Tensor a = scope.copyOf(new float[] {3, 4}, 1, 2);
        Tensor out = scope.allocate(DType.F32, 1);
        Cosine.builder().a(a).b(a).out(out).build(scope).run();
      }
    }

    private static void forget() {
      Scope.open().allocate(Device.CPU, DType.F32, 3);
      Scope.open().close();
    }
  }

  private static List<String> events(String... arguments) {
    return Subprocess.of(Watched.class, arguments)
        .soon()
        .run()
        .lines()
        .filter(line -> line.startsWith("org.exeunt."))
        .toList();
  }

  @Test
  void recordsLoadBuildAndRun() {
    List<String> events = events("record", "runs");
    assertTrue(events.contains("org.exeunt.LibraryLoad library=" + Backend.library()
                   + " version=" + Backend.version() + " isa=" + Backend.isa()
                   + " threads=" + Backend.threads() + " failure= took time"),
        events::toString);
    assertTrue(
        events.contains("org.exeunt.OpBuild op=Cosine device=cpu tensors=20 workspace=0 took time"),
        events::toString);
    assertTrue(events.contains("org.exeunt.OpRun op=Cosine path=cpu/" + Backend.isa()
                   + "/cosine bytes=20 took time"),
        events::toString);
    assertTrue(events.contains("org.exeunt.NativeMemory tensors=0 scopes=0"), events::toString);
  }

  @Test
  void recordsNoRunsUnlessTheyAreSwitchedOn() {
    List<String> events = events("record");
    assertTrue(
        events.stream().anyMatch(e -> e.startsWith("org.exeunt.OpBuild ")), events::toString);
    assertFalse(events.stream().anyMatch(e -> e.startsWith("org.exeunt.OpRun ")), events::toString);
  }

  @Test
  void saysWhereAScopeWasOpenedThatNobodyClosed() {
    String output =
        Subprocess.of(Watched.class, "forget").option("-Dexeunt.leaks=true").soon().run();
    String sentence = "a scope became unreachable without close(): its tensors, 12 bytes, stay";
    assertTrue(output.contains(sentence), output);
    assertTrue(output.contains("Watched.forget(ProductionTest.java:"), output);
    assertEquals(1, output.split("became unreachable", -1).length - 1, output);
    assertEquals(DONE, Subprocess.of(Watched.class, "forget").soon().run());
  }

  @Test
  void saysWhatWasLoaded() {
    String output = Subprocess.of(Watched.class, "run").option("-Dexeunt.log=true").soon().run();
    assertTrue(
        output.matches("(?s).*INFO: exeunt " + Backend.version() + " was loaded from "
            + Pattern.quote(Backend.library().toString()) + " in [0-9.]+ ms, runs on cpu .*"),
        output);
    assertEquals(DONE, Subprocess.of(Watched.class, "run").soon().run());
  }

  /** The parts are those of the whole, each with what it is for. */
  @Test
  void countsMemoryByUse() {
    NativeMemory before = NativeMemory.held();
    try (Scope scope = Scope.open(); Scope other = Scope.open()) {
      assertEquals(before, NativeMemory.held());
      Tensor logits = scope.allocate(Device.CPU, DType.F32, 2, 100_000);
      Statistics out = Statistics.allocate(scope, Device.CPU, 2, Statistic.ARGMAX);
      expect(before, 800_008, 0, false, 1);
      Op own = RowStats.builder().logits(logits).out(out).build(scope);
      assertTrue(own.workspaceBytes() > 0);
      expect(before, 800_008, own.workspaceBytes(), true, 1);
      Workspace shared = Workspace.in(other, Device.CPU);
      RowStats.builder().logits(logits).out(out).build(scope, shared);
      expect(before, 800_008, own.workspaceBytes() + shared.bytes(), true, 2);
      own.close();
      expect(before, 800_008, shared.bytes(), true, 2);
    }
    assertEquals(before, NativeMemory.held());
  }

  private static void expect(
      NativeMemory before, long tensors, long workspaces, boolean arguments, int scopes) {
    NativeMemory held = NativeMemory.held();
    assertEquals(tensors, held.tensors() - before.tensors());
    assertEquals(workspaces, held.workspaces() - before.workspaces());
    assertEquals(arguments, held.arguments() > before.arguments());
    assertEquals(scopes, held.scopes() - before.scopes());
    assertEquals(Backend.heldBytes(), held.total());
    assertEquals(held.total(),
        Stream.of(held.tensors(), held.workspaces(), held.arguments())
            .mapToLong(Long::longValue)
            .sum());
  }
}
