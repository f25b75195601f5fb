// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.HiddenStack;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** Two of three rows leave and wait, tagged with their positions, for a deep pass together. */
public final class HiddenStackExample {
  private HiddenStackExample() {}

  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor stack = scope.allocate(DType.F32, 8, 2);
      Tensor stackTags = scope.allocate(DType.I32, 8, 1);
      Tensor count = scope.copyOf(new int[] {0}, 1);
      Tensor rows = scope.copyOf(new float[] {1, 2, 3, 4, 5, 6}, 3, 2);
      Tensor positions = scope.copyOf(new int[] {7, 8, 9}, 3, 1);
      Tensor leaves = scope.allocate(DType.U8, 3).copyFrom(new int[] {1, 0, 1});
      HiddenStack.push().stack(stack).count(count).rows(rows).tags(stackTags, positions)
          .mask(leaves).runOnce();

      HiddenStack.gather().stack(stack).count(count).rows(rows).tags(stackTags, positions)
          .runOnce();
      System.out.println("rows " + Arrays.toString(rows.rows(0, 2).toFloatArray()));
      System.out.println("positions " + Arrays.toString(positions.toIntArray()));
    }
  }
}
