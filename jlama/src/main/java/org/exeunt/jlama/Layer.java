// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import java.util.List;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.Tensor;

/** The weights of one decoder layer. */
record Layer(Tensor attentionNorm, Weight query, Weight key, Weight value, Weight output,
    Tensor feedForwardNorm, Weight gate, Weight up, Weight down) {
  /** One op takes keys and values of all layers, one the three weights of a feed-forward block. */
  void requireLike(Layer first) {
    List<DType> types = types();
    if (!types.equals(first.types()) || types.stream().distinct().count() > 1) {
      throw new UnsupportedOperationException(
          "its weights are a mix of types, " + first.types() + " and " + types);
    }
  }

  /** U8 of blocks. */
  private List<DType> types() {
    return Stream.of(key, value, gate, up, down).map(weight -> weight.tensor().dtype()).toList();
  }
}
