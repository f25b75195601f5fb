// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Linear;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** A projection with a bias, added to a residual stream in place. */
public final class LinearExample {
  private LinearExample() {}

  // Prints
  //   [11.5, 22.0, 33.0]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor input = scope.copyOf(new float[] {1, 2}, 1, 2);
      Tensor weight = scope.copyOf(DType.BF16, new float[] {1, 0, 0, 1, 1, 1}, 3, 2);
      Tensor bias = scope.copyOf(new float[] {.5f, 0, 0}, 3);
      Tensor stream = scope.copyOf(new float[] {10, 20, 30}, 1, 3);
      Linear.builder()
          .input(input)
          .weight(weight)
          .bias(bias)
          .residual(stream)
          .out(stream)
          .runOnce();
      System.out.println(Arrays.toString(stream.toFloatArray()));
    }
  }
}
