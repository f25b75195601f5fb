// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.MappedFile;
import org.exeunt.RowStats;
import org.exeunt.Scope;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Tensor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/** Files that are cut while they are mapped; the header's promises the native tests judge. */
class MappedFileTest {
  private static final int PAGE = 65536; // or smaller
  private static final int PAGES = 8;
  private static final int KEPT = 3;

  @TempDir Path folder;
  private Path file;

  @BeforeEach
  void write() throws IOException {
    file = folder.resolve("ones");
    byte[] bytes = new byte[PAGES * PAGE];
    for (int i = 0; i < bytes.length; i += Float.BYTES) {
      bytes[i + 2] = (byte) 0x80; // 1, little-endian
      bytes[i + 3] = 0x3f;
    }
    Files.write(file, bytes);
  }

  @AfterEach
  void unmap() throws InterruptedException {
    Setup.remove(folder);
  }

  private MappedFile map(long offset, long bytes) throws IOException {
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
      return MappedFile.of(channel, offset, bytes);
    }
  }

  private void cut() throws IOException {
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
      channel.truncate((long) KEPT * PAGE);
    }
  }

  @Test
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "does not cut a file that is mapped")
  void opsAndBuffersReadZerosWhereItWasCut() throws IOException {
    MappedFile mapped = map(0, (long) PAGES * PAGE);
    Tensor rows = mapped.tensor().reinterpret(DType.F32, 0, PAGES, PAGE / Float.BYTES);
    assertTrue(rows.isReadOnly() && mapped.isWhole());
    cut();
    assertTrue(mapped.isWhole());
    try (Scope scope = Scope.open()) {
      Statistics out = Statistics.allocate(scope, Device.CPU, PAGES, Statistic.MAX_LOGIT);
      RowStats.builder().logits(rows).out(out).runOnce();
      float[] most = out.maxLogit().toFloatArray();
      for (int row = 0; row < PAGES; row++) {
        assertEquals(row < KEPT ? 1 : 0, most[row], "row " + row);
      }
    }
    assertFalse(mapped.isWhole());
    assertEquals(0, rows.row(PAGES - 1).floatBuffer().get(0));
    assertEquals(1, rows.row(0).floatBuffer().get(0));
    // And where Java's own code is the first to read it.
    write();
    MappedFile other = map(PAGE / 2 + 4, (long) (PAGES - 1) * PAGE);
    cut();
    ByteBuffer bytes = other.tensor().byteBuffer();
    assertEquals(0x3f, bytes.get(3));
    assertEquals(0, bytes.get(bytes.capacity() - 1));
    assertFalse(other.isWhole());
  }

  /** What is not guarded remains the JVM's, which makes an error of it. */
  @Test
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "does not cut a file that is mapped")
  void othersAreLeftToTheJvm() throws IOException {
    MappedFile guarded = map(0, PAGE);
    Path other = folder.resolve("other");
    Files.write(other, new byte[PAGES * PAGE]);
    ByteBuffer bytes;
    try (FileChannel channel =
             FileChannel.open(other, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      bytes = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size());
      channel.truncate(0);
    }
    assertThrows(InternalError.class, () -> {
      int sum = 0;
      for (int i = 0; i < 100_000; i++) {
        sum += bytes.get(i);
      }
      throw new AssertionError("a page that is not there was read: " + sum);
    });
    assertTrue(guarded.isWhole());
  }

  @Test
  void comeAndGo() throws IOException, InterruptedException {
    for (int turn = 0; turn < 100; turn++) {
      MappedFile mapped = map(turn % 5 * PAGE, PAGE);
      assertEquals(0x3f, mapped.tensor().byteBuffer().get(3));
      if (turn % 20 == 0) {
        System.gc();
        Thread.sleep(10);
      }
    }
    MappedFile last = map(0, (long) PAGES * PAGE);
    Tensor part = last.tensor().reinterpret(DType.U8, 100, 50);
    last = null;
    for (int turn = 0; turn < 3; turn++) {
      System.gc();
      Thread.sleep(10);
      assertNotNull(map(0, PAGE));
      assertEquals(0x3f, part.byteBuffer().get(3));
    }
  }

  @Test
  void refusesWhatIsNotThere() throws IOException {
    long size = Files.size(file);
    for (long[] wrong : new long[][] {{-1, 5}, {0, 0}, {0, -1}, {0, size + 1}, {size, 1},
             {Long.MAX_VALUE, 1}, {1, size}, {0, 1L << 31}, {0, Long.MAX_VALUE}}) {
      String message = assertThrows(IllegalArgumentException.class,
          () -> map(wrong[0], wrong[1]), () -> Arrays.toString(wrong))
                           .getMessage();
      assertTrue(message.contains("bytes is " + wrong[1] + " and offset " + wrong[0]), message);
    }
    assertEquals("channel is null",
        assertThrows(IllegalArgumentException.class, () -> MappedFile.of(null, 0, 1)).getMessage());
  }
}
