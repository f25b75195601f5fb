// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model;

import java.nio.ByteBuffer;
import java.util.stream.IntStream;
import org.exeunt.BlockFormat;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Embedding;
import org.exeunt.InputRounding;
import org.exeunt.Linear;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * A matrix of a model, [rows, columns].
 *
 * @param tensor its elements, or a U8 tensor [rows, bytes of a row] of blocks
 * @param blocks what these are; null: elements
 * @param columns elements of a row
 * @param inputs how rows are rounded that meet blocks
 */
public record Weight(Tensor tensor, BlockFormat blocks, long columns, InputRounding inputs) {
  private static final int TOUCHED = 1 << 16;

  private static volatile int touched; // so that no compiler leaves the reading out

  /** The same, whose inputs are rounded as an op does unasked. */
  public Weight(Tensor tensor, BlockFormat blocks, long columns) {
    this(tensor, blocks, columns, InputRounding.INT16);
  }

  /** A matrix of plain elements. */
  public static Weight of(Tensor tensor) {
    return new Weight(tensor, null, tensor.size(1));
  }

  public long rows() {
    return tensor.size(0);
  }

  /** Rows {@code from} to {@code to - 1}. */
  public Weight rows(long from, long to) {
    return new Weight(tensor.rows(from, to), blocks, columns, inputs);
  }

  /** This one with inputs rounded so, if it has blocks. */
  Weight meeting(InputRounding rounding) {
    return blocks == null ? this : new Weight(tensor, blocks, columns, rounding);
  }

  /** What a product with all rows reads. */
  public long bytes() {
    return tensor.byteSize();
  }

  /** This one and {@code next} as one matrix, if they lie so in memory; else null. */
  public Weight joined(Weight next) {
    long[] shape = {rows() + next.rows(), tensor.size(1)};
    return blocks == next.blocks && tensor.dtype() == next.tensor.dtype() && columns == next.columns
            && tensor.address() + tensor.byteSize() == next.tensor.address()
        ? new Weight(tensor.strided(shape, tensor.strides()), blocks, columns, inputs)
        : null;
  }

  /** Reads a byte of every few pages, which is how many a system maps at once. */
  void touch() {
    ByteBuffer bytes = tensor.isReadOnly() ? tensor.byteBuffer() : null; // else it was just written
    int sum = 0;
    for (long at = 0; bytes != null && at < bytes.capacity(); at += TOUCHED) {
      sum += bytes.get((int) at);
    }
    touched = sum;
  }

  /** The product of rows with this matrix. */
  public Linear.Builder product() {
    return Linear.builder().weight(tensor).weightBlocks(blocks).inputRounding(inputs);
  }

  /** Copies of all elements in {@code type}. */
  public Tensor unpacked(Scope scope, DType type) {
    int count = (int) rows();
    Tensor out = scope.allocate(Device.CPU, type, count, columns);
    try (Scope passing = Scope.open()) {
      Tensor ids = passing.allocate(Device.CPU, DType.I32, count);
      ids.copyFrom(IntStream.range(0, count).toArray());
      Embedding.builder().table(tensor).tableBlocks(blocks).ids(ids).out(out).runOnce();
    }
    return out;
  }

  /** All elements, row by row. */
  public float[] toFloatArray() {
    try (Scope passing = Scope.open()) {
      return unpacked(passing, DType.F32).toFloatArray();
    }
  }
}
