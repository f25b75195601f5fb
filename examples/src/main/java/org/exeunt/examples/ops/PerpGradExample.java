// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.PerpGrad;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** Takes the part along the weights out of a gradient, in place, before an optimiser sees it. */
public final class PerpGradExample {
  private PerpGradExample() {}

  // Prints
  //   gradient [-1.788854, 1.341641]
  //   along the weights 0
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor weight = scope.copyOf(new float[] {3, 4}, 2);
      Tensor gradient = scope.copyOf(new float[] {1, 2}, 2);
      PerpGrad.compute(weight, gradient, gradient);

      float[] result = gradient.toFloatArray();
      System.out.println("gradient " + Arrays.toString(result));
      System.out.println("along the weights " + Math.round(3 * result[0] + 4 * result[1]));
    }
  }
}
