// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.ColumnNorms;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** How large the inputs of a layer are, each over all tokens of two batches: what Wanda asks. */
public final class ColumnNormsExample {
  private ColumnNormsExample() {}

  // Prints
  //   [12.0, 3.0]
  //   [20.0, 5.0]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor first = scope.copyOf(new float[] {12, 3}, 1, 2);
      Tensor second = scope.copyOf(new float[] {-16, 4, 99, 99}, 2, 2);
      Tensor active = scope.allocate(DType.U8, 2).copyFrom(new int[] {1, 0}); // one is padding
      Tensor sums = scope.allocate(DType.F32, 2);
      Tensor norms = scope.allocate(DType.F32, 2);

      ColumnNorms.builder().x(first).sums(sums).norms(norms).runOnce();
      System.out.println(Arrays.toString(norms.toFloatArray()));
      ColumnNorms.builder()
          .x(second)
          .active(active)
          .sums(sums)
          .accumulate(true)
          .norms(norms)
          .runOnce();
      System.out.println(Arrays.toString(norms.toFloatArray()));
    }
  }
}
