// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Norm;
import org.exeunt.RowCompaction;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** Rows 0 and 2 stay: they are gathered, worked on, and put back where they were. */
public final class RowCompactionExample {
  private RowCompactionExample() {}

  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor rows = scope.copyOf(new float[] {3, 3, 5, 6, 4, 4}, 3, 2);
      Tensor active = scope.copyOf(new int[] {0, 2, -1}, 3);
      Tensor batch = scope.allocate(DType.F32, 3, 2);
      Tensor weight = scope.copyOf(new float[] {1, 2}, 2);
      RowCompaction.gather().input(rows).list(active).out(batch).runOnce();
      Tensor two = batch.rows(0, 2);
      System.out.println("together " + Arrays.toString(two.toFloatArray()));
      Norm.builder().input(two).rms(weight, 0).out(two).runOnce();
      RowCompaction.scatter().input(batch).list(active).out(rows).runOnce();
      System.out.println("back     " + Arrays.toString(rows.toFloatArray()));
    }
  }
}
