// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.BFloat16BufferTensor;
import com.github.tjake.jlama.tensor.FloatBufferTensor;
import com.github.tjake.jlama.tensor.Q4ByteBufferTensor;
import com.github.tjake.jlama.tensor.operations.NativeSimdTensorOperations;
import com.github.tjake.jlama.tensor.operations.TensorOperations;
import com.github.tjake.jlama.tensor.operations.TensorOperationsProvider;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.exeunt.Backend;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Jlama's products, looked up as Jlama does, against sums in double precision. */
@SuppressWarnings("rawtypes")
class ProductsTest {
  private static final int COLUMNS = 96;
  private static final float UNTOUCHED = 12345;

  private final TensorOperations operations = TensorOperationsProvider.get();
  private final Random random = new Random(7);

  @Test
  void jlamaLooksUpTheseOperations() {
    assertEquals(Products.name(), operations.name());
    assertTrue(operations.parallelSplitSize() > 1, "1 would be a part for each row");
  }

  @ParameterizedTest
  @CsvSource({"F32,F32,F32", "F32,BF16,F32", "BF16,BF16,F32", "BF16,BF16,BF16", "F32,Q4,F32",
      "BF16,Q4,F32", "BF16,F32,F32"})
  void everyPairOfTypes(DType a, DType b, DType result) {
    for (int rows : new int[] {1, 3, 70}) {
      check(tensor(a, rows, COLUMNS), tensor(b, 41, COLUMNS), make(result, rows, 41), 0, 0, COLUMNS,
          0, 0, 41);
    }
  }

  @ParameterizedTest
  @CsvSource({"F32", "BF16", "Q4"})
  void partsOfRowsAndColumns(DType b) {
    AbstractTensor weight = tensor(b, 41, COLUMNS);
    check(tensor(DType.F32, 2, COLUMNS), weight, make(DType.F32, 2, 41), 32, 32, 64, 0, 17, 9);
    check(tensor(DType.F32, 2, COLUMNS), weight, make(DType.F32, 2, 41), 0, 64, 32, 0, 40, 1);
  }

  /** As Jlama's attention asks: a head's part of the query, and of the keys of a page. */
  @Test
  void queriesMeetPagesOfKeys() {
    AbstractTensor query = tensor(DType.F32, 4, COLUMNS).slice(2);
    AbstractTensor keys = tensor(DType.F32, 3, 20, COLUMNS).slice(1);
    check(query, keys, make(DType.F32, 1, 60), 32, 64, 32, 20, 0, 13);
  }

  @Test
  void manyThreadsAtOnce() {
    AbstractTensor weight = tensor(DType.Q4, 41, COLUMNS);
    List<AbstractTensor> inputs = new ArrayList<>();
    IntStream.range(0, 64).forEach(i -> inputs.add(tensor(DType.F32, 1 + i % 5, COLUMNS)));
    inputs.parallelStream().forEach(input -> {
      check(input, weight, make(DType.F32, input.shape().first(), 41), 0, 0, COLUMNS, 0, 0, 41);
    });
  }

  @Test
  void scalesThatF16CannotHoldAreLeftToJlama() {
    FloatBufferTensor values = (FloatBufferTensor) tensor(DType.F32, 4, 512);
    values.set(1e9f, 2, 5);
    AbstractTensor weight = new Q4ByteBufferTensor(values);
    AbstractTensor input = tensor(DType.F32, 1, 512);
    AbstractTensor out = make(DType.F32, 1, 4);
    long left = Products.left();
    operations.batchDotProduct(out, input, weight, 0, 0, 512, 0, 0, 4);
    assertEquals(left + 1, Products.left());
    assertEquals(exact(input, weight, 0, 0, 0, 2, 512), out.get(0, 2), 1e4);
  }

  @Test
  void activationsAreNotRoundedToEightBits() {
    AbstractTensor values = tensor(DType.F32, 3, COLUMNS);
    AbstractTensor copy = operations.quantize(values, DType.I8, 0, COLUMNS);
    assertEquals(DType.F32, copy.dType());
    for (int i = 0; i < COLUMNS; i++) {
      assertEquals(values.get(2, i), copy.get(2, i));
    }
    assertNotEquals(values.getMemorySegment().address(), copy.getMemorySegment().address());
    assertEquals(DType.BF16, operations.quantize(values, DType.BF16, 0, COLUMNS).dType());
  }

  @Test
  void anotherJlamaIsRefusedInASentence() {
    interface Newer extends TensorOperations {
      void matrixOfTheFuture();
    }
    assertEquals("", JlamaVersion.misfit(TensorOperations.class, operations.getClass()));
    assertEquals("this Jlama (0.8.4) asks its operations for [matrixOfTheFuture], "
            + "exeunt-jlama was made for 0.8.4",
        JlamaVersion.misfit(Newer.class, operations.getClass()));
    assertEquals("this Jlama (0.8.4) has no void Model.of(), exeunt-jlama was made for 0.8.4",
        JlamaVersion.another(new NoSuchMethodError("void Model.of()")));
  }

  /** What Jlama picks where exeunt cannot run, and what the log says. */
  static final class Lookup {
    public static void main(String[] arguments) {
      System.out.println("picked " + TensorOperationsProvider.get().name());
      try {
        System.out.println("no reason: " + new NativeSimdTensorOperations().name());
      } catch (UnsupportedOperationException e) {
        System.out.println("reason " + e.getMessage());
      }
    }
  }

  @ParameterizedTest
  @CsvSource({"nonsense, nothing, -Dexeunt.isa=nonsense",
      "'', exeunt-jni-[^:]*linux, is exeunt-jni with classifier linux-x86_64 on the path?",
      "'', /exeunt-[0-9], the class path has no org/exeunt/Backend"})
  void jlamaGoesOnWhereExeuntCannotRun(String isa, String without, String reason)
      throws IOException {
    Pattern left = Pattern.compile(without);
    String path =
        Arrays.stream(System.getProperty("java.class.path").split(":"))
            .filter(part -> !left.matcher(part).find())
            .collect(Collectors.joining(":"));
    Process process =
        new ProcessBuilder(System.getProperty("java.home") + "/bin/java", "--add-modules",
            "jdk.incubator.vector", "-Dexeunt.isa=" + isa, "-cp", path, Lookup.class.getName())
            .redirectErrorStream(true)
            .start();
    String output = new String(process.getInputStream().readAllBytes());
    assertTrue(Peers.line(output, "picked ").startsWith("Panama Vector Operations"), output);
    String sentence = Peers.line(output, "reason ");
    assertTrue(sentence.startsWith("Jlama goes on without exeunt: "), sentence);
    assertTrue(sentence.contains(reason), sentence);
  }

  private void check(AbstractTensor a, AbstractTensor b, AbstractTensor result, int aColumn,
      int bColumn, int columns, int offset, int row, int rows) {
    for (int i = 0; i < result.shape().first(); i++) {
      for (int j = 0; j < result.shape().last(); j++) {
        result.set(UNTOUCHED, i, j);
      }
    }
    float untouched = result.get(0, 0);
    long taken = Products.taken();
    operations.batchDotProduct(result, a, b, aColumn, bColumn, columns, offset, row, rows);
    assertTrue(Products.taken() > taken, "left to Jlama: " + a.dType() + " x " + b.dType());
    assertTrue(Backend.lastPath().contains("linear"), Backend.lastPath());
    for (int i = 0; i < result.shape().first(); i++) {
      for (int j = 0; j < result.shape().last(); j++) {
        int weightRow = j - offset;
        if (weightRow < row || weightRow >= row + rows) {
          assertEquals(untouched, result.get(i, j), "beyond the result");
          continue;
        }
        double expected = exact(a, b, i, aColumn, bColumn, weightRow, columns);
        double bound = (result.dType() == DType.BF16 ? 0x1p-8 : 0) * Math.abs(expected)
            + (b.dType() == DType.Q4 ? 0x1p-10 : 1e-5)
                * size(a, b, i, aColumn, bColumn, weightRow, columns);
        assertEquals(expected, result.get(i, j), bound, "row " + i + ", column " + j);
      }
    }
  }

  private static double exact(
      AbstractTensor a, AbstractTensor b, int i, int aColumn, int bColumn, int row, int columns) {
    double sum = 0;
    for (int k = 0; k < columns; k++) {
      sum += (double) a.get(i, aColumn + k) * b.get(row, bColumn + k);
    }
    return sum;
  }

  private static double size(
      AbstractTensor a, AbstractTensor b, int i, int aColumn, int bColumn, int row, int columns) {
    double sum = 0;
    for (int k = 0; k < columns; k++) {
      sum += Math.abs((double) a.get(i, aColumn + k) * b.get(row, bColumn + k));
    }
    return sum;
  }

  private AbstractTensor tensor(DType type, int... shape) {
    FloatBufferTensor values = new FloatBufferTensor(shape);
    int[] cursor = new int[shape.length];
    do {
      values.set((float) random.nextGaussian(), cursor);
    } while (values.iterate(cursor));
    return switch (type) {
      case F32 -> values;
      case BF16 -> new BFloat16BufferTensor(values);
      case Q4 -> new Q4ByteBufferTensor(values);
      default -> throw new IllegalArgumentException(type.name());
    };
  }

  private static AbstractTensor make(DType type, int rows, int columns) {
    return type == DType.BF16
        ? new BFloat16BufferTensor(rows, columns)
        : new FloatBufferTensor(rows, columns);
  }
}
