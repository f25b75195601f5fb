// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.concurrent.atomic.AtomicReference;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

/** Views with gaps: what lies in a gap belongs to somebody else. */
@ExtendWith(ForcedPath.class)
class StridedCopyTest {
  private static final DType[] DTYPES = {DType.U8, DType.F16, DType.I32, DType.F64};

  @TempDir Path folder;

  /** Every element where its strides say, and nothing else, for layouts with runs and without. */
  @Test
  @Tag("kernels")
  void elementsLieWhereTheirStridesSay() {
    long[][][] layouts = {// extents, strides
        {{7}, {1}}, {{7}, {3}}, {{1}, {5}}, {{0, 3}, {3, 1}}, {{4, 3}, {5, 1}}, {{4, 3}, {1, 4}},
        {{4, 3}, {2, 9}}, {{2, 3, 4}, {12, 4, 1}}, {{2, 3, 4}, {40, 4, 1}},
        {{2, 3, 4}, {40, 12, 1}}, {{3, 1, 4}, {4, 99, 1}}, {{3, 1, 4}, {9, -7, 2}},
        {{2, 2, 2, 2}, {31, 8, 2, 1}}, {{}, {}}};
    for (DType dtype : DTYPES) {
      for (long[][] layout : layouts) {
        check(dtype, layout[0], layout[1]);
      }
    }
  }

  private static void check(DType dtype, long[] extents, long[] steps) {
    try (Scope scope = Scope.open()) {
      int[] expected = new int[128];
      Arrays.fill(expected, 77);
      Tensor memory = scope.allocate(dtype, expected.length).copyFrom(expected);
      Tensor view = memory.strided(extents, steps);
      float[] values = new float[(int) view.elements()];
      for (int i = 0; i < values.length; i++) {
        values[i] = i + 1;
        expected[place(i, extents, steps)] = i + 1;
      }
      view.copyFrom(values);
      String where = dtype + " " + Arrays.toString(extents) + " " + Arrays.toString(steps);
      assertArrayEquals(values, view.toFloatArray(), where);
      double[] all = memory.toDoubleArray();
      for (int i = 0; i < all.length; i++) {
        assertEquals(expected[i], all[i], where + ": element " + i);
      }
    }
  }

  private static int place(int index, long[] extents, long[] steps) {
    long at = 0;
    long rest = index;
    for (int i = extents.length - 1; i >= 0; i--) {
      at += rest % extents[i] * steps[i];
      rest /= extents[i];
    }
    return (int) at;
  }

  /** Two threads, each with a column of its own: no finished write is lost. */
  @Test
  @Tag("kernels")
  void columnsOfOneMatrixFilledByTwoThreads() throws InterruptedException {
    int rows = 300;
    int rounds = Setup.cuda() ? 100 : 4000;
    AtomicReference<Throwable> failure = new AtomicReference<>();
    try (Scope scope = Scope.open()) {
      Tensor matrix = scope.allocate(DType.F32, rows, 2).copyFrom(new float[2 * rows]);
      Thread[] threads = new Thread[2];
      for (int c = 0; c < threads.length; c++) {
        Tensor column = matrix.slice(1, c, c + 1);
        int sign = c == 0 ? 1 : -1;
        threads[c] = new Thread(() -> fill(column, sign, rounds, failure));
        threads[c].start();
      }
      for (Thread thread : threads) {
        thread.join();
      }
    }
    assertEquals(null, failure.get());
  }

  private static void fill(
      Tensor column, int sign, int rounds, AtomicReference<Throwable> failure) {
    try {
      float[] values = new float[(int) column.elements()];
      for (int round = 1; round <= rounds && failure.get() == null; round++) {
        Arrays.fill(values, sign * round);
        column.copyFrom(values);
        assertArrayEquals(values, column.toFloatArray(), "round " + round);
      }
    } catch (Throwable t) {
      failure.compareAndSet(null, t);
    }
  }

  /** Not even the same bytes are written to a page that only gaps lie in. */
  @Test
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "says nothing of pages that were written")
  void gapsAreNotWritten() throws IOException {
    Path smaps = Path.of("/proc/self/smaps");
    Assumptions.assumeTrue(Files.isReadable(smaps), smaps + " is not there");
    int step = 64 << 10;
    int rows = 512;
    Path file = folder.resolve("sparse");
    try (FileChannel channel = FileChannel.open(
             file, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      // A private mapping gets a page of its own for each that is written.
      MappedByteBuffer mapped = channel.map(FileChannel.MapMode.PRIVATE, 0, (long) rows * step);
      Tensor memory = Tensor.of(mapped, DType.F32, rows, step / Float.BYTES);
      float[] values = new float[3 * rows];
      Arrays.fill(values, 1);
      memory.slice(1, 5, 8).copyFrom(values);
      long written = writtenKib(smaps, file);
      assertTrue(written >= 4 * rows, written + " KiB written: this test sees nothing");
      assertTrue(written < (long) rows * step >> 12, written + " KiB written of " + rows + " rows");
      memory.reshape(rows * (step / Float.BYTES)).slice(0, 0, 9).toFloatArray();
    }
  }

  private static long writtenKib(Path smaps, Path file) throws IOException {
    boolean inside = false;
    long written = 0;
    for (String line : Files.readAllLines(smaps)) {
      if (line.matches("[0-9a-f]+-[0-9a-f]+ .*")) {
        inside = line.endsWith(file.getFileName().toString());
      } else if (inside && line.matches("Anonymous:.*")) {
        written += Long.parseLong(line.replaceAll("\\D+", ""));
      }
    }
    return written;
  }

  /** The stride of an extent of 1 says nothing. */
  @Test
  @Tag("kernels")
  void strideOfAnExtentOfOneDoesNotMatter() {
    try (Scope scope = Scope.open()) {
      Tensor six = scope.copyOf(new float[] {1, 2, 3, 4, 5, 6}, 6);
      for (long odd : new long[] {0, 1, 17, -4, Long.MAX_VALUE, Long.MIN_VALUE}) {
        Tensor inner = six.strided(new long[] {6, 1}, new long[] {1, odd});
        Tensor outer = six.strided(new long[] {1, 2, 1, 3}, new long[] {odd, 3, odd, 1});
        for (Tensor view : new Tensor[] {inner, outer}) {
          assertTrue(view.isCompact(), Arrays.toString(view.strides()));
          assertArrayEquals(six.toFloatArray(), view.toFloatArray());
          assertArrayEquals(six.toFloatArray(), view.reshape(6).toFloatArray());
          view.copyFrom(new float[] {1, 2, 3, 4, 5, 6});
        }
        assertTrue(!six.strided(new long[] {2, 1, 2}, new long[] {3, odd, 1}).isCompact());
      }
      assertEquals(3, six.strided(new long[] {1, 3}, new long[] {9, 2}).elements());
      assertTrue(!six.strided(new long[] {1, 3}, new long[] {9, 2}).isCompact());
    }
  }
}
