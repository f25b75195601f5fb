// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Norm;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** Two norms of the same rows. */
public final class NormExample {
  private NormExample() {}

  // Prints
  //   RMSNorm   [0.8485281, 1.1313708, 0.4472136, 1.3416408]
  //   LayerNorm [-1.0, 1.0, -1.0, 1.0]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor rows = scope.copyOf(new float[] {3, 4, 1, 3}, 2, 2);
      Tensor weight = scope.copyOf(new float[] {1, 1}, 2);
      Tensor out = scope.allocate(DType.F32, 2, 2);
      Norm.builder().input(rows).rms(weight, 0).out(out).runOnce();
      System.out.println("RMSNorm   " + Arrays.toString(out.toFloatArray()));
      Norm.builder().input(rows).layer(weight, null, 0).out(out).runOnce();
      System.out.println("LayerNorm " + Arrays.toString(out.toFloatArray()));
    }
  }
}
