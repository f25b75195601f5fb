// SPDX-License-Identifier: Apache-2.0
package com.github.tjake.jlama.tensor.operations;

import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.TensorCache;
import com.github.tjake.jlama.util.MachineSpec;
import org.exeunt.jlama.Products;

/**
 * What Jlama looks up by this name as its native operations: products are exeunt's, and all else
 * Jlama's own over Java's Vector API, as in the class of jlama-native whose place this one takes.
 * It has that place where exeunt-jlama comes before jlama-native on the class path, or without it.
 *
 * <p>A product runs on Jlama's threads, of which each has a part.
 */
public final class NativeSimdTensorOperations implements TensorOperations {
  private final TensorOperations jlama;

  /**
   * Called by Jlama, which goes on with its operations in Java where this throws.
   *
   * @throws UnsupportedOperationException if this Jlama, or this machine, is not one for exeunt;
   *     the reason was logged
   */
  public NativeSimdTensorOperations() {
    Products.open(NativeSimdTensorOperations.class);
    jlama = MachineSpec.VECTOR_TYPE == MachineSpec.Type.NONE
        ? new NaiveTensorOperations()
        : new PanamaTensorOperations(MachineSpec.VECTOR_TYPE);
  }

  @Override
  public String name() {
    return Products.name();
  }

  @Override
  public int parallelSplitSize() {
    return Products.parts();
  }

  @Override
  public void batchDotProduct(AbstractTensor result, AbstractTensor a, AbstractTensor b,
      int aColumn, int bColumn, int columns, int resultOffset, int bRow, int rows) {
    if (!Products.multiply(result, a, b, aColumn, bColumn, columns, resultOffset, bRow, rows)) {
      jlama.batchDotProduct(result, a, b, aColumn, bColumn, columns, resultOffset, bRow, rows);
    }
  }

  /**
   * Jlama would meet 4-bit weights with activations in 8 bits; exeunt takes them as they are. A
   * model that asks for 8 bits is told that there are none, by its own type, and goes on with that.
   */
  @Override
  public AbstractTensor quantize(AbstractTensor t, DType type, int offset, int length) {
    if (type != DType.I8) {
      return jlama.quantize(t, type, offset, length);
    }
    AbstractTensor copy = TensorCache.instance.get(t.dType(), t.shape());
    copy.getMemorySegment().copyFrom(t.getMemorySegment());
    return copy;
  }

  @Override
  public void accumulate(AbstractTensor a, AbstractTensor b, int offset, int length) {
    jlama.accumulate(a, b, offset, length);
  }

  @Override
  public void maccumulate(AbstractTensor a, AbstractTensor b, int offset, int length) {
    jlama.maccumulate(a, b, offset, length);
  }

  @Override
  public void saxpy(
      float alpha, AbstractTensor x, AbstractTensor y, int xOffset, int yOffset, int limit) {
    jlama.saxpy(alpha, x, y, xOffset, yOffset, limit);
  }

  @Override
  public void saxpy(AbstractTensor alpha, AbstractTensor x, AbstractTensor y, int xOffset,
      int yOffset, int limit, int alphaOffset, int xRow, int batch) {
    jlama.saxpy(alpha, x, y, xOffset, yOffset, limit, alphaOffset, xRow, batch);
  }

  @Override
  public void scale(float factor, AbstractTensor x, int offset, int length) {
    jlama.scale(factor, x, offset, length);
  }
}
