// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * How little a layer changed each hidden state: CALM's saturation measure, FFN-SkipLLM's block
 * similarity.
 */
public final class CosineExample {
  private CosineExample() {}

  // Prints
  //   [0.96, 0.0]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor before = scope.copyOf(new float[] {3, 4, 1, 0}, 2, 2);
      Tensor after = scope.copyOf(new float[] {4, 3, 0, 2}, 2, 2);
      Tensor cosine = scope.allocate(DType.F32, 2);
      Cosine.compute(before, after, cosine);
      System.out.println(Arrays.toString(cosine.toFloatArray()));
    }
  }
}
