// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.gguf;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import org.exeunt.engine.model.io.ModelChangedException;
import org.exeunt.engine.model.io.ModelFormatException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

class GgufFileTest {
  private static final int UINT32 = 4;
  private static final int STRING = 8;
  private static final int ARRAY = 9;
  private static final int F32 = 0;
  private static final int Q8_0 = 8;

  @TempDir Path folder;

  /** Metadata of every shape, an F32 tensor of 2 x 3 and a Q8_0 row of 32. */
  private static GgufBuilder wellFormed() {
    GgufBuilder file =
        GgufBuilder.start(2, 5)
            .string("general.architecture")
            .int32(STRING)
            .string("llama")
            .string("count")
            .int32(UINT32)
            .int32(-1)
            .string("names")
            .int32(ARRAY)
            .int32(STRING)
            .int64(2)
            .string("a")
            .string("")
            .string("weights")
            .int32(ARRAY)
            .int32(6)
            .int64(1)
            .int32(Float.floatToIntBits(1.5f))
            .string("flag")
            .int32(7)
            .raw((byte) 1)
            .tensor("grid", F32, 0, 3, 2)
            .tensor("row", Q8_0, 32, 32)
            .pad(32);
    for (int i = 0; i < 6; i++) {
      file.int32(Float.floatToIntBits(i));
    }
    file.pad(32).raw((byte) 0, (byte) 0x38); // 0.5 as binary16
    for (int i = 0; i < 32; i++) {
      file.raw((byte) (i - 16));
    }
    return file;
  }

  @Test
  void readsMetadataAndTensors() throws IOException {
    try (GgufFile file = GgufFile.open(wellFormed().write(folder.resolve("ok.gguf")))) {
      assertEquals("llama", file.string("general.architecture"));
      assertEquals(0xffff_ffffL, file.metadata().get("count"));
      Strings names = file.strings("names");
      assertEquals(List.of("a", ""), List.of(names.get(0), names.get(1)));
      assertEquals(2, names.size());
      assertArrayEquals(new double[] {1.5}, (double[]) file.metadata().get("weights"));
      assertEquals(true, file.metadata().get("flag"));

      float[][] grid = new float[2][];
      file.readRows(file.tensor("grid", 2, 3), (i, row) -> grid[i] = row.clone());
      assertArrayEquals(new float[] {0, 1, 2}, grid[0]);
      assertArrayEquals(new float[] {3, 4, 5}, grid[1]);
      file.readRows(file.tensor("row", 1, 32), (i, row) -> {
        assertEquals(-8f, row[0]);
        assertEquals(7.5f, row[31]);
      });
    }
  }

  @Test
  void saysWhatIsMissingOrOfAnotherKind() throws IOException {
    try (GgufFile file = GgufFile.open(wellFormed().write(folder.resolve("ok.gguf")))) {
      assertProblem("has no metadata 'absent'", () -> file.string("absent"));
      assertProblem("'count' is a Long, not a String", () -> file.string("count"));
      assertProblem("'count' is 4294967295, outside 1 to 10", () -> file.integer("count", 1, 10));
      assertProblem("has no tensor 'absent'", () -> file.tensor("absent", 1, 1));
      assertProblem(
          "'grid' is 2 x 3, but the metadata asks for 3 x 2", () -> file.tensor("grid", 3, 2));
    }
  }

  private void assertProblem(String expected, Executable action) {
    String message = assertThrows(ModelFormatException.class, action).getMessage();
    assertTrue(message.contains(expected), message);
    assertTrue(message.contains(".gguf: "), message);
    assertFalse(message.strip().contains("\n"), message);
  }

  @Test
  void everyTruncationIsReported() throws IOException {
    byte[] whole = wellFormed().toBytes();
    Path path = folder.resolve("cut.gguf");
    for (int length = 0; length < whole.length; length++) {
      Files.write(path, Arrays.copyOf(whole, length));
      assertProblem("", () -> GgufFile.open(path).close());
    }
  }

  /** By another process, between the header and a tensor, and between two rows of one. */
  @Test
  void aFileThatIsCutWhileItIsReadIsReported() throws IOException {
    int columns = 1 << 16;
    int rows = 48; // 12 MB, which is more than is read at once
    Path path =
        GgufBuilder.start(1, 0)
            .tensor("big", F32, 0, columns, rows)
            .pad(32)
            .raw(new byte[4 * columns * rows])
            .write(folder.resolve("cut.gguf"));
    long size = Files.size(path);
    long half = size / 2;
    try (GgufFile file = GgufFile.open(path);
        RandomAccessFile other = new RandomAccessFile(path.toFile(), "rw")) {
      GgufTensor tensor = file.tensor("big", rows, columns);
      int[] read = new int[1];
      assertChange(
          " was cut from " + size + " to " + half, () -> file.readRows(tensor, (i, row) -> {
            read[0]++;
            if (i == 0) {
              setLength(other, half);
            }
          }));
      assertTrue(read[0] < rows, () -> read[0] + " rows");
      assertChange(" was cut from ", () -> file.readRows(tensor, (i, row) -> {}));
      setLength(other, 0);
      assertChange(" was cut from ", () -> file.readRows(tensor, (i, row) -> {}));
    }
  }

  private static void assertChange(String expected, Executable action) {
    String message = assertThrows(ModelChangedException.class, action).getMessage();
    assertTrue(message.contains(expected), message);
    assertFalse(message.strip().contains("\n"), message);
  }

  private static void setLength(RandomAccessFile file, long length) {
    try {
      file.setLength(length);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  static Stream<Arguments> hostileFiles() {
    long huge = Long.MAX_VALUE;
    return Stream.of(
        Arguments.of("not a GGUF file", new GgufBuilder().raw("PK\3\4 a zip file, not a model")),
        Arguments.of("big-endian",
            new GgufBuilder()
                .raw("GGUF")
                .raw((byte) 0, (byte) 0, (byte) 0, (byte) 3)
                .int64(0)
                .int64(0)),
        Arguments.of("version is 1;", new GgufBuilder().raw("GGUF").int32(1).int64(0).int64(0)),
        Arguments.of("version is 4294967295", new GgufBuilder().raw("GGUF").int32(-1)),
        Arguments.of("the tensor count is " + huge, GgufBuilder.start(huge, 0)),
        Arguments.of("the tensor count is 18446744073709551615", GgufBuilder.start(-1, 0)),
        Arguments.of("the metadata count is 1,", GgufBuilder.start(0, 1)),
        Arguments.of("the length of metadata key 0 is " + huge,
            GgufBuilder.start(0, 1).int64(huge).raw("some bytes that follow")),
        Arguments.of("the length of metadata 'k' is 4294967296",
            GgufBuilder.start(0, 1).string("k").int32(STRING).int64(1L << 32)),
        Arguments.of("the type of metadata 'k' is 13",
            GgufBuilder.start(0, 1).string("k").int32(13).int64(0)),
        Arguments.of("the length of metadata 'k' is 1152921504606846976",
            GgufBuilder.start(0, 1).string("k").int32(ARRAY).int32(10).int64(1L << 60)),
        Arguments.of("the element type of metadata 'k' is 99",
            GgufBuilder.start(0, 1).string("k").int32(ARRAY).int32(99).int64(1)),
        Arguments.of("array of arrays",
            GgufBuilder.start(0, 1).string("k").int32(ARRAY).int32(ARRAY).int64(1)),
        Arguments.of("metadata 'k' occurs twice",
            GgufBuilder.start(0, 2)
                .string("k")
                .int32(UINT32)
                .int32(1)
                .string("k")
                .int32(UINT32)
                .int32(1)),
        Arguments.of("'general.alignment' is 24, not a power of two",
            GgufBuilder.start(0, 1).string("general.alignment").int32(UINT32).int32(24)),
        Arguments.of("'general.alignment' is 0,",
            GgufBuilder.start(0, 1).string("general.alignment").int32(UINT32).int32(0)),
        Arguments.of("'general.alignment' is a String, not a Long",
            GgufBuilder.start(0, 1).string("general.alignment").int32(STRING).string("wide")),
        Arguments.of("has 4294967295 dimensions",
            GgufBuilder.start(1, 0).string("t").int32(-1).int64(1).int32(F32).int64(0)),
        Arguments.of("has 0 dimensions",
            GgufBuilder.start(1, 0).string("t").int32(0).int64(1).int32(F32).int64(0)),
        Arguments.of("has dimensions [0]; each must be positive",
            GgufBuilder.start(1, 0).tensor("t", F32, 0, 0)),
        Arguments.of("has dimensions [-4]", GgufBuilder.start(1, 0).tensor("t", F32, 0, -4)),
        Arguments.of(
            "product overflows", GgufBuilder.start(1, 0).tensor("t", F32, 0, 1L << 32, 1L << 32)),
        Arguments.of("product overflows", GgufBuilder.start(1, 0).tensor("t", F32, 0, 1L << 62)),
        Arguments.of("rows of 33 elements, not a multiple of the 32",
            GgufBuilder.start(1, 0).tensor("t", Q8_0, 0, 33)),
        Arguments.of("has type 4294967295", GgufBuilder.start(1, 0).tensor("t", -1, 0, 32)),
        Arguments.of("has type 10;", GgufBuilder.start(1, 0).tensor("t", 10, 0, 256)),
        Arguments.of("rows of 288 elements, not a multiple of the 256 in a block of Q4_K",
            GgufBuilder.start(1, 0).tensor("t", 12, 0, 288)),
        Arguments.of("has offset 5, not a multiple of the alignment 32",
            GgufBuilder.start(1, 0).tensor("t", F32, 5, 1).pad(32).int64(0)),
        Arguments.of("needs 8 bytes at offset 32, but the data section holds 32",
            GgufBuilder.start(1, 0).tensor("t", F32, 32, 2).pad(32).int64(0).pad(32)),
        Arguments.of("at offset 18446744073709551584",
            GgufBuilder.start(1, 0).tensor("t", F32, -32, 2).pad(32).int64(0).pad(32)),
        Arguments.of("at offset 9223372036854775776",
            GgufBuilder.start(1, 0).tensor("t", F32, huge - 31, 2).pad(32).int64(0).pad(32)),
        Arguments.of("tensor 's' begins at byte 128 of the file, inside tensor 't', which has 132",
            GgufBuilder.start(2, 0)
                .tensor("t", F32, 0, 33)
                .tensor("s", F32, 32, 1)
                .pad(32)
                .raw(new byte[160])),
        Arguments.of("tensor 't' occurs twice",
            GgufBuilder.start(2, 0)
                .tensor("t", F32, 0, 1)
                .tensor("t", F32, 0, 1)
                .pad(32)
                .int64(0)));
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("hostileFiles")
  void hostileFilesAreReported(String expected, GgufBuilder file) throws IOException {
    Path path = file.write(folder.resolve("hostile.gguf"));
    assertProblem(expected, () -> GgufFile.open(path).close());
  }

  @Test
  void whatIsNoFileIsReported() {
    String message =
        assertThrows(ModelFormatException.class, () -> GgufFile.open(folder)).getMessage();
    assertTrue(message.contains("is a directory"), message);
    message = assertThrows(ModelFormatException.class, () -> GgufFile.open(Path.of("/dev/null")))
                  .getMessage();
    assertTrue(message.contains("is not a regular file"), message);
  }

  /** A name that is no name may hold all of the file, and what a terminal would obey. */
  @Test
  void messagesAreShortAndPrintable() throws IOException {
    String name = "a\u001b[2J\n"
        + "x".repeat(60_000);
    Path path = GgufBuilder.start(1, 0).tensor(name, 99, 0, 1).write(folder.resolve("n.gguf"));
    String message =
        assertThrows(ModelFormatException.class, () -> GgufFile.open(path)).getMessage();
    assertTrue(message.contains("tensor 'a\ufffd[2J\ufffdxxx"), message);
    assertTrue(message.contains("has type 99; this reader knows F32"), message);
    assertTrue(message.length() < 1000, message.length() + " characters");
  }

  @Test
  void aHugeSparseFileOfZerosCostsNoMemory() throws IOException {
    Path path = folder.resolve("sparse.gguf");
    // One array of as many empty strings as are claimed: each is 8 zero bytes that are really
    // there.
    GgufBuilder.start(0, 1).string("k").int32(ARRAY).int32(STRING).int64(1L << 29).write(path);
    try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
      file.setLength(5L << 30);
    }
    assertProblem("the length of metadata 'k' is 536870912", () -> GgufFile.open(path).close());
  }

  @Test
  void randomDamageNeverDoesAnythingButSaySo() throws IOException {
    byte[] whole = wellFormed().toBytes();
    Path path = folder.resolve("damaged.gguf");
    Random random = new Random(7);
    int survived = 0;
    for (int round = 0; round < 1000; round++) {
      byte[] damaged = whole.clone();
      for (int i = random.nextInt(4); i >= 0; i--) {
        damaged[random.nextInt(damaged.length)] = (byte) random.nextInt();
      }
      Files.write(path, damaged);
      try (GgufFile file = GgufFile.open(path)) {
        for (GgufTensor tensor : file.tensors().values()) {
          file.readRows(tensor, (i, row) -> {});
        }
        survived++;
      } catch (ModelFormatException e) {
        assertTrue(e.getMessage().endsWith("."), e.getMessage());
      }
    }
    // Damage to names and values goes unnoticed, so some files must open, or the test tests
    // nothing.
    assertTrue(survived > 50 && survived < 950, survived + " of 1000 damaged files opened");
  }

  @Test
  void dimensionsKeepTheFilesOrder() throws IOException {
    try (GgufFile file = GgufFile.open(wellFormed().write(folder.resolve("ok.gguf")))) {
      assertEquals(List.of(3L, 2L), file.tensors().get("grid").dimensions());
    }
  }
}
