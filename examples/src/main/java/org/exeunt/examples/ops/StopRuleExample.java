// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.StopRule;
import org.exeunt.Tensor;

/** Three samples of an answer, of which the first that is complete ends the others. */
public final class StopRuleExample {
  private StopRuleExample() {}

  // Prints
  //   step 0: go on with [0, 1, 2]
  //   step 1: go on with [0, 1, 2]
  //   step 2: go on with [-1, -1, -1]
  //   sample 1 wins
  public static void main(String[] arguments) {
    int end = 2; // the end of the sequence
    int[][] drawn = {{17, 40, 17}, {8, 23, 31}, {44, end, 9}};
    try (Scope scope = Scope.open()) {
      Tensor token = scope.allocate(DType.I32, 3);
      Tensor active = scope.allocate(DType.I32, 3);
      Tensor winner = scope.allocate(DType.I32, 1);
      Tensor ends = scope.copyOf(new int[] {end}, 1);
      StopRule rule =
          StopRule.firstFinish(50, ends)
              .token(token)
              .state(StopRule.allocateState(scope, Device.defaultDevice(), 3))
              .activeList(active)
              .winner(winner)
              .build(scope);

      for (int step = 0; step < 3; step++) {
        token.copyFrom(drawn[step]);
        rule.run(step == 0);
        System.out.println("step " + step + ": go on with " + Arrays.toString(active.toIntArray()));
      }
      System.out.println("sample " + winner.toIntArray()[0] + " wins");
    }
  }
}
