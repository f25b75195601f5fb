// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.Device;
import org.exeunt.Rope;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** A head of two elements at positions 0 and 1: the first pair turns by one radian a position. */
public final class RopeExample {
  private RopeExample() {}

  // Prints
  //   [1.0, 0.0, 0.5403023, 0.8414710]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor table = Rope.table(scope, Device.defaultDevice(), 2, 2, 10000);
      Tensor heads = scope.copyOf(new float[] {1, 0, 1, 0}, 2, 1, 2);
      Tensor position = scope.copyOf(new int[] {0, 1}, 2);
      Rope.builder()
          .input(heads)
          .position(position)
          .table(table, Rope.Style.HALF)
          .out(heads)
          .runOnce();
      System.out.println(Arrays.toString(heads.toFloatArray()));
    }
  }
}
