// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.HiredBudget;
import org.exeunt.Scope;
import org.exeunt.Select;
import org.exeunt.Selection;
import org.exeunt.Tensor;

/** HiRED: an image and two sub-images of four tokens each share six tokens, and choose them. */
public final class HiredBudgetExample {
  private HiredBudgetExample() {}

  // Prints
  //   budgets [3, 2, 1]
  //   partition 0 keeps [0, 2, 3, -1]
  //   partition 1 keeps [2, 3, -1, -1]
  //   partition 2 keeps [1, -1, -1, -1]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor early = scope.copyOf(new float[] {.4f, .1f, .3f, .2f}, 1, 4);
      Tensor budget = scope.allocate(DType.I32, 1, 3);
      HiredBudget.asInCode()
          .attention(early)
          .budget(budget)
          .rate(.5, .5)
          .patches(4, 1)
          .grid(2, 1)
          .remainder(HiredBudget.Remainder.LARGEST_REMAINDER)
          .runOnce();
      System.out.println("budgets " + Arrays.toString(budget.toIntArray()));

      // The late attention of each partition; the budgets are read where they are.
      Tensor late = scope.copyOf(new float[] {4, 1, 3, 2, 1, 2, 3, 4, 0, 9, 0, 0}, 3, 4);
      Tensor indices = scope.allocate(DType.I32, 3, 4);
      Select.builder().scores(late).select(Selection.top(budget.reshape(3), indices)).runOnce();
      for (int p = 0; p < 3; p++) {
        System.out.println(
            "partition " + p + " keeps " + Arrays.toString(indices.row(p).toIntArray()));
      }
    }
  }
}
