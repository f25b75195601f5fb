// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.reference;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.stream.IntStream;

/**
 * A row-major matrix. Its values are what the storage can hold, so a bf16 matrix and its f32
 * values mean the same numbers and every contender starts from them.
 */
public final class Matrix {
  private static final int CHUNK = 1 << 16;

  private final int rows;
  private final int cols;
  private final Storage storage;
  private final float[] values;

  private Matrix(int rows, int cols, Storage storage) {
    this.rows = rows;
    this.cols = cols;
    this.storage = storage;
    this.values = new float[Math.multiplyExact(rows, cols)];
  }

  /** The fill {@code normal} of the case tables. */
  public static Matrix normal(
      int rows, int cols, Storage storage, float scale, int seed, int stream) {
    Words words = new Words(seed, stream);
    return new Matrix(rows, cols, storage).fill(i -> words.bell(i) * scale);
  }

  /** The fill {@code unit} of the case tables, in f32. */
  public static Matrix unit(int rows, int cols, int seed, int stream) {
    Words words = new Words(seed, stream);
    return new Matrix(rows, cols, Storage.F32).fill(words::unit);
  }

  /** The fill {@code ties} of the case tables. */
  public static Matrix ties(int rows, int cols, Storage storage, int seed, int stream) {
    Words words = new Words(seed, stream);
    return new Matrix(rows, cols, storage).fill(i -> (words.word(i) >>> 32) % 5 - 2);
  }

  /** Nothing but zeros. */
  public static Matrix zeros(int rows, int cols, Storage storage) {
    return new Matrix(rows, cols, storage);
  }

  /** A column of 0, 1, 2 and so on. */
  public static Matrix ascending(int rows) {
    return of(rows, 1, Storage.F32, i -> i);
  }

  /** The relation {@code near} of the case tables: {@code a} as stored, plus a little noise. */
  public static Matrix near(Matrix a, int seed, int stream) {
    Words words = new Words(seed, stream);
    return new Matrix(a.rows, a.cols, a.storage).fill(i -> a.values[i] + words.bell(i) / 64);
  }

  /** Any other numbers, given by their index. */
  static Matrix of(int rows, int cols, Storage storage, IntToFloat value) {
    return new Matrix(rows, cols, storage).fill(value);
  }

  /** A number for each index. */
  interface IntToFloat {
    float at(int index);
  }

  private Matrix fill(IntToFloat value) {
    int chunks = (values.length + CHUNK - 1) / CHUNK;
    IntStream.range(0, chunks).parallel().forEach(chunk -> {
      int end = Math.min(values.length, (chunk + 1) * CHUNK);
      for (int i = chunk * CHUNK; i < end; i++) {
        values[i] = storage.stored(value.at(i));
      }
    });
    return this;
  }

  public int rows() {
    return rows;
  }

  public int cols() {
    return cols;
  }

  public Storage storage() {
    return storage;
  }

  /** The elements as f32; not a copy. */
  public float[] values() {
    return values;
  }

  /** Bytes of the stored matrix. */
  public long bytes() {
    return (long) values.length * storage.bytes();
  }

  /** Writes the stored elements to memory in native byte order, from its start. */
  public void copyTo(ByteBuffer memory) {
    ByteBuffer target = memory.duplicate().order(ByteOrder.nativeOrder());
    if (storage == Storage.F32) {
      target.asFloatBuffer().put(values);
    } else {
      for (int i = 0; i < values.length; i++) {
        target.putShort(2 * i, storage.bits(values[i]));
      }
    }
  }

  /** The elements of a 16-bit matrix. */
  public short[] halves() {
    short[] halves = new short[values.length];
    for (int i = 0; i < halves.length; i++) {
      halves[i] = storage.bits(values[i]);
    }
    return halves;
  }

  /** The same numbers in f32. */
  public Matrix widened() {
    return of(rows, cols, Storage.F32, i -> values[i]);
  }

  /** One row. */
  public Matrix row(int row) {
    return of(1, cols, storage, i -> values[row * cols + i]);
  }

  /** Some of the columns. */
  public Matrix columns(int from, int to) {
    int width = to - from;
    return of(rows, width, storage, i -> values[i / width * cols + from + i % width]);
  }

  /** A bf16 matrix as pairs: element 2i in the low, element 2i+1 in the high half of int i. */
  public int[] packed() {
    if (storage != Storage.BF16 || values.length % 2 != 0) {
      throw new IllegalStateException("only an even number of bf16 elements can be packed");
    }
    int[] pairs = new int[values.length / 2];
    for (int i = 0; i < pairs.length; i++) {
      int low = Float.floatToRawIntBits(values[2 * i]) >>> 16;
      pairs[i] = low | Float.floatToRawIntBits(values[2 * i + 1]) & 0xffff0000;
    }
    return pairs;
  }

  /** The values of the transposed matrix, row-major. */
  public float[] transposed() {
    float[] result = new float[values.length];
    int tile = 64;
    int tiles = (rows + tile - 1) / tile;
    IntStream.range(0, tiles).parallel().forEach(t -> {
      int end = Math.min(rows, (t + 1) * tile);
      for (int c = 0; c < cols; c++) {
        for (int r = t * tile; r < end; r++) {
          result[c * rows + r] = values[r * cols + c];
        }
      }
    });
    return result;
  }
}
