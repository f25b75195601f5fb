// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.bytedeco.javacpp.FloatPointer;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Event;
import org.exeunt.ExitHead;
import org.exeunt.Op;
import org.exeunt.Packed;
import org.exeunt.Scope;
import org.exeunt.Screen;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

/**
 * Scopes, ops, workspaces, pointers, events, streams, screens and packed rows that are closed while
 * others run, build, copy, allocate, record, wait and save.
 * In processes of their own: what was freed too early would take them down.
 */
@ExtendWith(ForcedPath.class)
class ConcurrentCloseTest {
  @Test
  void threads() {
    check(Subprocess.of(Storm.class, "platform"));
  }

  /** 192 KiB are enough for everything but the virtual machine's own. */
  @Test
  void threadsWithSmallStacks() {
    check(Subprocess.of(Storm.class, "small"));
  }

  @Test
  void virtualThreads() {
    int version = Runtime.version().feature();
    if (version < 21) {
      System.out.println("SKIPPED: Java " + version + " has no virtual threads");
    }
    Assumptions.assumeTrue(version >= 21, "no virtual threads");
    check(Subprocess.of(Storm.class, "virtual"));
  }

  @Test
  void eventsAndStreams() {
    check(Subprocess.of(QueueStorm.class));
  }

  /** There the emulator refuses events and streams that are gone. */
  @Test
  void eventsAndStreamsOnTheEmulatedDevice() {
    Assumptions.assumeTrue(Files.exists(Setup.emulator()), Setup.emulator() + " was not built");
    check(Subprocess.of(QueueStorm.class)
            .option("-Dexeunt.quick=" + Setup.quick())
            .option("-Dexeunt.backend=cuda")
            .option("-Dexeunt.cuda.library=" + Setup.emulator()));
  }

  /** Closes are refused while a file is written, but for those that just miss the end of that. */
  @Test
  void imagesThatAreSaved(@TempDir Path folder) {
    String output = check(Subprocess.of(ImageStorm.class, folder.toString()));
    Matcher closes = Pattern.compile("held (\\d+), let go (\\d+)\\R").matcher(output);
    assertTrue(closes.find(), output);
    int held = Integer.parseInt(closes.group(1));
    assertTrue(held > 0 && held >= Integer.parseInt(closes.group(2)), output);
  }

  private static String check(Subprocess storm) {
    String output = storm.option("-Xmx256m").run();
    System.out.print(output);
    assertTrue(output.matches("(?s).*\\d{4,} uses, [1-9]\\d* refusals, 0 failures\\R"), output);
    return output;
  }

  /** What a thread does over and over with what the others close. */
  private interface Use {
    void once(int round);
  }

  /** What such threads have in common. */
  private static final class Threads {
    private static final long SMALL = 192 << 10;

    private static final AtomicLong uses = new AtomicLong();
    private static final AtomicLong refusals = new AtomicLong();
    private static final AtomicReference<Throwable> failure = new AtomicReference<>();

    static boolean failed() {
      return failure.get() != null;
    }

    static void report(String what) {
      if (failed()) {
        failure.get().printStackTrace(System.out);
      }
      System.out.println(what + ": " + uses + " uses, " + refusals + " refusals, "
          + (failed() ? 1 : 0) + " failures");
    }

    /** A thread for each use, all at once, each so many times. */
    static void run(String kind, int times, List<Use> all) throws Exception {
      CountDownLatch go = new CountDownLatch(1);
      List<Thread> threads = new ArrayList<>();
      for (Use use : all) {
        threads.add(start(kind, () -> work(use, times, go)));
      }
      go.countDown();
      for (Thread thread : threads) {
        thread.join();
      }
    }

    static void close(int round, int when, AutoCloseable what) {
      if (round < when) {
        Thread.onSpinWait();
        return;
      }
      try {
        what.close();
      } catch (RuntimeException e) {
        throw e;
      } catch (Exception e) {
        throw new AssertionError(e);
      }
    }

    private static void work(Use use, int times, CountDownLatch go) {
      try {
        go.await();
        for (int round = 0; round < times && !failed(); round++) {
          try {
            use.once(round);
            uses.incrementAndGet();
          } catch (IllegalStateException e) {
            refusals.incrementAndGet();
          }
        }
      } catch (Throwable t) {
        failure.compareAndSet(null, t);
      }
    }

    private static Thread start(String kind, Runnable work) throws ReflectiveOperationException {
      if (kind.equals("virtual")) {
        Method start = Thread.class.getMethod("startVirtualThread", Runnable.class);
        return (Thread) start.invoke(null, work);
      }
      Thread thread = new Thread(null, work, kind, kind.equals("small") ? SMALL : 0);
      thread.start();
      return thread;
    }
  }

  static final class Storm {
    private static final int ROUNDS = 150;
    private static final long ROWS = 6;
    private static final long DIM = 32;

    public static void main(String[] args) throws Exception {
      for (int round = 0; round < ROUNDS && !Threads.failed(); round++) {
        storm(args[0]);
      }
      Threads.report(args[0] + " threads");
    }

    private static void storm(String kind) throws Exception {
      Scope scope = Scope.open();
      Scope other = Scope.open();
      FloatPointer pointer = new FloatPointer(ROWS * DIM);
      Workspace shared = Workspace.in(other, Device.CPU);
      Tensor weight = scope.allocate(Device.CPU, DType.F32, 64, DIM).copyFrom(new float[64 * 32]);
      Tensor hidden = Tensor.of(pointer, DType.F32, Device.CPU, ROWS, DIM);
      hidden.copyFrom(new float[(int) (ROWS * DIM)]);
      Op first = head(hidden, weight, scope).build(scope, shared);
      Op second = head(weight.rows(0, ROWS), weight, scope).build(scope, shared);
      Tensor cosines = scope.allocate(Device.CPU, DType.F32, ROWS);
      Op third = Cosine.builder().a(hidden).b(hidden).out(cosines).build(other);
      List<Use> all = List.of(round
          -> first.run(),
          round
          -> second.run(),
          round
          -> third.run(),
          round
          -> third.run(), // by two at once
          round
          -> head(hidden, weight, scope).build(other, shared).run(),
          round
          -> scope.allocate(Device.CPU, DType.F32, 3).copyFrom(new float[3]),
          round
          -> weight.rows(0, ROWS).copyFrom(hidden, Stream.DEFAULT),
          round
          -> hidden.slice(1, 0, 3).toFloatArray(),
          round
          -> shared.bytes(),
          round
          -> Threads.close(round, 20, first),
          round
          -> Threads.close(round % 15 == 0 ? round : 0, 30, pointer), // twice
          round -> Threads.close(round, 40, scope), round -> Threads.close(round, 50, other));
      Threads.run(kind, 60, all);
      // No op runs any more, so all of it closes.
      first.close();
      second.close();
      third.close();
      scope.close();
      other.close();
      pointer.close();
    }

    private static ExitHead.Builder head(Tensor hidden, Tensor weight, Scope scope) {
      return ExitHead.builder().hidden(hidden).weight(weight).out(
          Statistics.allocate(scope, Device.CPU, ROWS, Statistic.ENTROPY));
    }
  }

  /** Events and streams, each of which gives way to another while it is used. */
  static final class QueueStorm {
    private static final int MOST_USES = 50_000; // of each thread
    /** In one go. On the emulator, which is slow, that is done until one of them was refused. */
    private static final int USES = Setup.emulated() && Setup.quick() ? 5_000 : MOST_USES;

    private static final Device DEVICE = Device.defaultDevice();
    private static final AtomicReference<Event> EVENT = new AtomicReference<>();
    private static final AtomicReference<Stream> STREAM = new AtomicReference<>();

    public static void main(String[] args) throws Exception {
      STREAM.set(Stream.create(DEVICE));
      try (Scope scope = Scope.open(); Event start = Event.create(DEVICE)) {
        start.record(Stream.DEFAULT);
        EVENT.set(recorded()); // none that `elapsed` may see is older than `start`
        Tensor row = scope.allocate(DType.F32, 1, 8).copyFrom(new float[8]);
        Tensor other = scope.allocate(DType.F32, 1, 8);
        Tensor out = scope.allocate(DType.F32, 1);
        Op op = Cosine.builder().a(row).b(row).out(out).build(scope);
        List<Use> all = List.of(round
            -> EVENT.get().record(Stream.DEFAULT),
            round
            -> EVENT.get().record(STREAM.get()),
            round
            -> STREAM.get().waitFor(EVENT.get()),
            round
            -> Stream.DEFAULT.waitFor(EVENT.get()),
            round
            -> EVENT.get().isReached(),
            round
            -> EVENT.get().synchronize(),
            round
            -> elapsed(start),
            round
            -> STREAM.get().synchronize(),
            round
            -> op.run(STREAM.get()),
            round
            -> other.copyFrom(row, STREAM.get()),
            round
            -> swapEvents(),
            round -> swapEvents(), round -> swapEvents(), round -> swapStreams());
        int left = MOST_USES / USES;
        do {
          Threads.run("queues", USES, all);
        } while (--left > 0 && Threads.refusals.get() == 0 && !Threads.failed());
      }
      EVENT.get().close();
      STREAM.get().close();
      Threads.report("events and streams");
    }

    private static Event recorded() {
      Event event = Event.create(DEVICE);
      event.record(Stream.DEFAULT);
      return event;
    }

    private static void swapEvents() {
      EVENT.getAndSet(recorded()).close();
    }

    private static void swapStreams() {
      STREAM.getAndSet(Stream.create(DEVICE)).close();
    }

    private static void elapsed(Event start) {
      float milliseconds = EVENT.get().millisecondsSince(start);
      if (!(milliseconds >= 0 && milliseconds < 600_000)) {
        throw new AssertionError(milliseconds + " ms");
      }
    }
  }

  /** Two threads save, one checks, and two close as soon as they see that a file is written. */
  static final class ImageStorm {
    private static final int ROUNDS = 20;
    private static final int TIMES = 60;
    private static final int DIM = 64;
    private static final int VOCABULARY = 2000;
    private static final long WAIT_NANOS = 20_000_000;
    private static final boolean WINDOWS = File.separatorChar == '\\';

    // Of packed rows, which nothing else holds.
    private static final AtomicLong held = new AtomicLong();
    private static final AtomicLong letGo = new AtomicLong();

    public static void main(String[] args) throws Exception {
      Path folder = Path.of(args[0]);
      try (Scope scope = Scope.open()) {
        Tensor head = scope.allocate(Device.CPU, DType.F32, VOCABULARY, DIM);
        head.copyFrom(values(VOCABULARY * DIM));
        Tensor states = scope.copyOf(values(2 * DIM * DIM), 2 * DIM, DIM);
        for (int round = 0; round < ROUNDS && !Threads.failed(); round++) {
          String turn = WINDOWS ? "" + round : ""; // those of the last turn are still mapped
          Path screens = folder.resolve("screen" + turn);
          Path rows = folder.resolve("packed" + turn);
          Screen screen = Screen.builder().weight(head).states(states).build();
          Packed packed = Packed.of(head);
          Threads.run("images", TIMES,
              List.of(time
                  -> save(screen::save, screens),
                  time
                  -> save(packed::save, rows),
                  time
                  -> screen.check(head, null),
                  time
                  -> closeWhileWritten(screens, time, screen, new AtomicLong(), new AtomicLong()),
                  time -> closeWhileWritten(rows, time, packed, held, letGo)));
          screen.close();
          packed.close();
          if (Files.exists(screens) && Files.exists(rows)) { // what is there is whole
            Screen.open(screens).close();
            Packed.open(rows).close();
          }
        }
      }
      System.out.println("held " + held + ", let go " + letGo);
      Threads.report("images");
    }

    /** In the last times it closes in any case. */
    private static void closeWhileWritten(
        Path file, int time, AutoCloseable what, AtomicLong held, AtomicLong letGo) {
      boolean written = isWritten(file);
      for (long end = System.nanoTime() + WAIT_NANOS; !written && System.nanoTime() < end;) {
        written = isWritten(file);
      }
      if (!written && time < TIMES - 5) {
        return;
      }
      try {
        Threads.close(time, 0, what);
        letGo.addAndGet(written ? 1 : 0);
      } catch (IllegalStateException e) {
        held.addAndGet(written ? 1 : 0);
        throw e;
      }
    }

    private static boolean isWritten(Path file) {
      String begin = file.getFileName() + ".";
      return file.getParent().toFile().list((in, name) -> name.startsWith(begin)).length > 0;
    }

    private static float[] values(int count) {
      float[] values = new float[count];
      for (int i = 0; i < count; i++) {
        values[i] = (i * 7919L % 101 - 50) / 50f;
      }
      return values;
    }

    private interface Save {
      void to(Path file) throws IOException;
    }

    private static void save(Save save, Path file) {
      try {
        save.to(file);
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }
  }
}
