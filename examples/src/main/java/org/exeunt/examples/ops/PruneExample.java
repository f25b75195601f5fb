// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.PruneApply;
import org.exeunt.PruneMask;
import org.exeunt.PruneSchedule;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * Prunes two layers step by step: first a quarter of all their weights, then half, then as many of
 * each row by what its inputs make of them (Wanda).
 */
public final class PruneExample {
  private PruneExample() {}

  // Prints
  //   25 % [0, 1, 1, 1] [1, 1, 0, 1]
  //   50 % [0, 1, 1, 1] [0, 1, 0, 0]
  //   weights [0.0, -4.0, 5.0, 6.0] [0.0, -7.0, 0.0, 0.0]
  //   Wanda [1, 0, 0, 1]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor first = scope.copyOf(new float[] {.5f, -4, 5, 6}, 2, 2);
      Tensor second = scope.copyOf(new float[] {2, -7, 1, 3}, 2, 2);
      Tensor[] masks = {scope.allocate(DType.U8, 2, 2), scope.allocate(DType.U8, 2, 2)};
      PruneSchedule schedule = PruneSchedule.gradual(.25, .5, 0, 100, 1);
      for (long step = 0; step <= 100; step += 100) {
        PruneMask.builder()
            .tensor(first, masks[0])
            .tensor(second, masks[1])
            .among(PruneMask.Among.GLOBAL)
            .ratio(schedule.ratio(step))
            .keepPruned(step > 0)
            .runOnce();
        System.out.printf(
            "%.0f %% %s %s%n", 100 * schedule.ratio(step), text(masks[0]), text(masks[1]));
      }
      PruneApply.builder().tensor(masks[0], first).tensor(masks[1], second).runOnce();
      System.out.println("weights " + Arrays.toString(first.toFloatArray()) + " "
          + Arrays.toString(second.toFloatArray()));

      Tensor norms = scope.copyOf(new float[] {20, 1}, 2); // as ColumnNorms finds them
      PruneMask.builder()
          .tensor(scope.copyOf(new float[] {1, 2, 1, 30}, 2, 2), masks[0], norms)
          .among(PruneMask.Among.ROW)
          .ratio(.5)
          .runOnce();
      System.out.println("Wanda " + text(masks[0]));
    }
  }

  private static String text(Tensor mask) {
    return Arrays.toString(mask.toIntArray());
  }
}
