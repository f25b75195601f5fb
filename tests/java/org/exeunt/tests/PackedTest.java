// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;
import org.exeunt.BlockFormat;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Linear;
import org.exeunt.Packed;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Packed rows through the facade; what they hold the native tests judge. */
class PackedTest {
  private static final int ROWS = 9;
  private static final int COLUMNS = 576;

  @TempDir Path folder;
  private final Scope scope = Scope.open();
  private final Random random = new Random(7);
  private final Tensor weight = weight();

  @AfterEach
  void close() throws InterruptedException {
    scope.close();
    Setup.remove(folder);
  }

  /** Q8_0 with scales of 1. */
  private Tensor weight() {
    int bytes = (int) BlockFormat.Q8_0.rowBytes(COLUMNS);
    int[] values = new int[ROWS * bytes];
    for (int i = 0; i < values.length; i++) {
      int at = i % bytes % 34;
      values[i] = at == 0 ? 0 : at == 1 ? 0x3c : random.nextInt(256);
    }
    return scope.allocate(DType.U8, ROWS, bytes).copyFrom(values);
  }

  private float[] product(Tensor input, Tensor rows, BlockFormat format) {
    Tensor out = scope.allocate(Device.CPU, DType.F32, 3, ROWS);
    Linear.builder().input(input).weight(rows).weightBlocks(format).out(out).runOnce();
    return out.toFloatArray();
  }

  @Test
  void givesTheSameBits() throws IOException {
    float[] values = new float[3 * COLUMNS];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    Tensor input = scope.copyOf(values, 3, COLUMNS);
    float[] expected = product(input, weight, BlockFormat.Q8_0);
    Path file = folder.resolve("rows.packed");
    try (Packed made = Packed.of(weight, BlockFormat.Q8_0)) {
      assertEquals(COLUMNS, made.columns());
      assertTrue(made.format() == BlockFormat.Q8_0 || made.format() == BlockFormat.PACKED_Q8_0);
      made.save(file);
      try (Packed mapped = Packed.open(file)) {
        for (Packed packed : new Packed[] {made, mapped}) {
          assertEquals(ROWS, packed.rows().shape()[0]);
          assertArrayEquals(expected, product(input, packed.rows(), packed.format()));
        }
      }
    }
  }

  /** Integers, so that every order of sums gives the same. */
  @Test
  void packsRowsWithoutBlocks() throws IOException {
    int rows = 70;
    Tensor input = scope.copyOf(integers(3 * COLUMNS), 3, COLUMNS);
    for (DType type : new DType[] {DType.F32, DType.F16, DType.BF16}) {
      Path file = folder.resolve(type + ".packed");
      Tensor dense = scope.copyOf(type, integers(rows * COLUMNS), rows, COLUMNS);
      Tensor out = scope.allocate(Device.CPU, DType.F32, 3, rows);
      Linear.builder().input(input).weight(dense).out(out).runOnce();
      float[] expected = out.toFloatArray();
      try (Packed made = Packed.of(dense)) {
        assertEquals("PACKED_" + type, made.format().name());
        assertEquals(COLUMNS, made.columns());
        made.save(file);
        try (Packed mapped = Packed.open(file)) {
          for (Packed packed : new Packed[] {made, mapped}) {
            Linear.builder()
                .input(input)
                .weight(packed.rows())
                .weightBlocks(packed.format())
                .out(out)
                .runOnce();
            assertArrayEquals(expected, out.toFloatArray());
          }
        }
      }
    }
    assertThrows(IllegalArgumentException.class, () -> Packed.of(weight));
  }

  private float[] integers(int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = random.nextInt(9) - 4;
    }
    return values;
  }

  @Test
  void refusesWhatIsNone() throws IOException {
    assertThrows(IllegalArgumentException.class, () -> Packed.of(weight, BlockFormat.Q4_K));
    assertThrows(IllegalArgumentException.class, () -> Packed.of(weight, BlockFormat.PACKED_Q8_0));
    Path file = folder.resolve("rows.packed");
    Packed made = Packed.of(weight, BlockFormat.Q8_0);
    made.save(file);
    made.close();
    made.close();
    assertThrows(IllegalStateException.class, made::rows);
    assertThrows(IllegalStateException.class, () -> made.save(file));
    byte[] bytes = Files.readAllBytes(file);
    bytes[bytes.length - 1] ^= 1;
    Files.write(file, bytes);
    assertTrue(assertThrows(IllegalArgumentException.class, () -> Packed.open(file))
            .getMessage()
            .contains("checksum"));
  }
}
