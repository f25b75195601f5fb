// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitRule;
import org.exeunt.Linear;
import org.exeunt.RowCompaction;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * Row 1 is sure enough and leaves. The others are gathered, worked on, and put back where they
 * were; which they are never leaves the device.
 */
public final class RowCompactionExample {
  private RowCompactionExample() {}

  // Prints
  //   list     [0, 2, -1]
  //   together [3.0, 3.0, 4.0, 4.0, 0.0, 0.0]
  //   back     [3.0, 6.0, 5.0, 6.0, 4.0, 8.0]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor rows = scope.copyOf(new float[] {3, 3, 5, 6, 4, 4}, 3, 2);
      Tensor active = scope.allocate(DType.I32, 3);
      ExitRule.builder()
          .threshold(ExitRule.Comparator.GE, .9f)
          .score(scope.copyOf(new float[] {.2f, .95f, .1f}, 3))
          .state(ExitRule.allocateState(scope, Device.defaultDevice(), 3))
          .activeList(active)
          .build(scope)
          .run(0, true, false);

      Tensor batch = scope.copyOf(new float[6], 3, 2); // room for all: how many stay is not known
      Tensor worked = scope.allocate(DType.F32, 3, 2);
      RowCompaction.gather().input(rows).list(active).out(batch).runOnce();
      Tensor weight = scope.copyOf(new float[] {0, 1, 2, 0}, 2, 2);
      Linear.builder().input(batch).weight(weight).out(worked).runOnce();
      RowCompaction.scatter().input(worked).list(active).out(rows).runOnce();

      System.out.println("list     " + Arrays.toString(active.toIntArray()));
      System.out.println("together " + Arrays.toString(batch.toFloatArray()));
      System.out.println("back     " + Arrays.toString(rows.toFloatArray()));
    }
  }
}
