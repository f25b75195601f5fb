// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.Q4ByteBufferTensor;
import java.lang.foreign.MemorySegment;
import java.util.List;
import org.exeunt.BlockFormat;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * A weight of Jlama as exeunt's ops take it: in place, or as {@link Q4Weights}.
 *
 * @param tensor keeps Jlama's reachable
 * @param blocks null: elements
 */
record Weight(Tensor tensor, BlockFormat blocks) {
  /** A matrix; an exception says why it cannot be had. */
  @SuppressWarnings("rawtypes")
  static Weight of(String name, AbstractTensor weight) {
    int rows = weight.shape().first();
    int columns = weight.shape().last();
    if (weight.dType() == DType.Q4) {
      Q4Weights packed = Q4Weights.of((Q4ByteBufferTensor) weight);
      if (packed == null) {
        throw new UnsupportedOperationException(name + " has scales that f16 cannot hold");
      }
      LinearCall.Matrix matrix = packed.matrix(0, 0, rows, columns);
      return new Weight(Tensor.ofAddress(matrix.address(), packed, org.exeunt.DType.U8, Device.CPU,
                            rows, matrix.columns()),
          BlockFormat.Q4_0);
    }
    Element element = Element.of(weight.dType());
    if (element == null || weight.shape().isSparse()) {
      throw new UnsupportedOperationException(name + " is " + weight.dType()
          + (weight.shape().isSparse() ? ", a shard of it" : "")
          + ": exeunt takes whole weights of F32, F16, BF16 and Q4");
    }
    MemorySegment memory = Aligned.of(weight, element.bytes());
    if (memory == null) {
      throw new UnsupportedOperationException(name + " lies at an odd address");
    }
    return new Weight(Tensor.ofAddress(memory.address(), List.of(weight, memory),
                          org.exeunt.DType.valueOf(element.name()), Device.CPU, rows, columns),
        null);
  }

  /** Activations of Jlama in place. */
  @SuppressWarnings("rawtypes")
  static Tensor view(AbstractTensor tensor, long... shape) {
    return Tensor.ofAddress(tensor.getMemorySegment().address(), tensor,
        org.exeunt.DType.valueOf(tensor.dType().name()), Device.CPU, shape);
  }

  /** A vector in f32, as norms want it: a copy. */
  @SuppressWarnings("rawtypes")
  static Tensor vector(Scope scope, AbstractTensor values) {
    float[] copy = new float[values.shape().last()];
    for (int i = 0; i < copy.length; i++) {
      copy[i] = values.get(0, i);
    }
    return scope.copyOf(copy, copy.length);
  }
}
