// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.TokenBias;

/** The token that ends the thinking becomes more probable, in the row that still thinks. */
public final class TokenBiasExample {
  private TokenBiasExample() {}

  // Prints
  //   [0.5, 2.0, -1.5]
  //   [0.5, 2.0, -3.0]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor logits = scope.copyOf(new float[] {.5f, 2, -3, .5f, 2, -3}, 2, 3);
      Tensor thinks = scope.allocate(DType.U8, 2).copyFrom(new int[] {1, 0});
      TokenBias.builder()
          .logits(logits)
          .ids(scope.copyOf(new int[] {2}, 1))
          .mask(thinks)
          .add(1.5f)
          .runOnce();

      float[] z = logits.toFloatArray();
      System.out.println(Arrays.toString(Arrays.copyOfRange(z, 0, 3)));
      System.out.println(Arrays.toString(Arrays.copyOfRange(z, 3, 6)));
    }
  }
}
