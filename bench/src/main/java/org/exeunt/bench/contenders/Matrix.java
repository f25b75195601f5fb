// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.contenders;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Tensor;
import org.exeunt.cases.Facade;
import org.exeunt.jni.DLTensor;

/**
 * A row-major matrix as the peers want it. Its values are what the storage can hold, so a bf16
 * matrix and its f32 values mean the same numbers and every contender starts from them.
 */
public record Matrix(int rows, int cols, DType storage, float[] values) {
  /** A copy of a tensor, its first extent the rows; of a vector one row. Null: none. */
  public static Matrix of(DLTensor dl) {
    Tensor tensor = Facade.tensor(dl);
    if (tensor == null) {
      return null;
    }
    int elements = Math.toIntExact(tensor.elements());
    int rows = tensor.rank() > 1 ? Math.toIntExact(tensor.size(0)) : 1;
    return new Matrix(rows, elements / rows, tensor.dtype(), tensor.toFloatArray());
  }

  /** A column of 0, 1, 2 and so on. */
  public static Matrix ascending(int rows) {
    float[] values = new float[rows];
    for (int i = 0; i < rows; i++) {
      values[i] = i;
    }
    return new Matrix(rows, 1, DType.F32, values);
  }

  /** The same elements in rows of another length. */
  public Matrix reshaped(int width) {
    return new Matrix(values.length / width, width, storage, values);
  }

  /** The same numbers in f32. */
  public Matrix widened() {
    return new Matrix(rows, cols, DType.F32, values);
  }

  /** Some of the rows. */
  public Matrix rows(int from, int to) {
    return new Matrix(to - from, cols, storage, Arrays.copyOfRange(values, from * cols, to * cols));
  }

  /** Bytes of the stored matrix. */
  public long bytes() {
    return (long) values.length * storage.bytes();
  }

  /** Writes the stored elements, f32 or bf16, to memory in native byte order, from its start. */
  public void copyTo(ByteBuffer memory) {
    ByteBuffer target = memory.duplicate().order(ByteOrder.nativeOrder());
    if (storage == DType.F32) {
      target.asFloatBuffer().put(values);
    } else {
      for (int i = 0; i < values.length; i++) {
        target.putShort(2 * i, DType.floatToBf16(values[i]));
      }
    }
  }

  /** A bf16 matrix as pairs: element 2i in the low, element 2i+1 in the high half of int i. */
  public int[] packed() {
    if (storage != DType.BF16 || values.length % 2 != 0) {
      throw new IllegalStateException("only an even number of bf16 elements can be packed");
    }
    int[] pairs = new int[values.length / 2];
    for (int i = 0; i < pairs.length; i++) {
      int low = Float.floatToRawIntBits(values[2 * i]) >>> 16;
      pairs[i] = low | Float.floatToRawIntBits(values[2 * i + 1]) & 0xffff0000;
    }
    return pairs;
  }

  /** The bits of a bf16 matrix; null of any other. */
  public short[] halves() {
    if (storage != DType.BF16) {
      return null;
    }
    short[] bits = new short[values.length];
    for (int i = 0; i < bits.length; i++) {
      bits[i] = DType.floatToBf16(values[i]);
    }
    return bits;
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
