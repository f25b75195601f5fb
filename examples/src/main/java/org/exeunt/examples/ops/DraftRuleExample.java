// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.DraftRule;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * Two sequences draft tokens until one is improbable, and a verification tells DEL which of three
 * layers should draft next.
 */
public final class DraftRuleExample {
  private DraftRuleExample() {}

  // Prints
  //   go on with [0, 1]
  //   go on with [0, -1]
  //   go on with [-1, -1]
  //   drafts of [3, 2]
  //   next, layers [8, 8] draft [2, 2] tokens
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Device device = Device.defaultDevice();
      Tensor score = scope.allocate(DType.F32, 2);
      Tensor active = scope.allocate(DType.I32, 2);
      Tensor length = scope.allocate(DType.I32, 2);
      DraftRule step =
          DraftRule.step()
              .confidence(.5f, 0, 18)
              .score(score)
              .state(DraftRule.allocateState(scope, device, 2))
              .activeList(active)
              .length(length)
              .build(scope);
      float[][] probability = {{.9f, .8f}, {.7f, .4f}, {.3f, .9f}};
      for (int token = 0; token < 3; token++) {
        score.copyFrom(probability[token]);
        step.run(token == 0);
        System.out.println("go on with " + Arrays.toString(active.toIntArray()));
      }
      System.out.println("drafts of " + Arrays.toString(length.toIntArray()));

      // After layers 4, 8 and 16 of 32: what each would have said of ten columns. In both sequences
      // they agree with the final layer in 5, 7 and 9 of them.
      int[] agreed = {5, 7, 9};
      Tensor shadowToken = scope.allocate(DType.I32, 2, 3, 10);
      int[] shadows = new int[60];
      for (int i = 0; i < 60; i++) {
        shadows[i] = i % 10 < agreed[i / 10 % 3] ? 1 : 0;
      }
      float[] certain = new float[60];
      Arrays.fill(certain, .5f);
      int[] ones = new int[20];
      Arrays.fill(ones, 1);
      Tensor candidate = scope.copyOf(new int[] {4, 8, 16}, 3);
      Tensor statistics = scope.allocate(DType.F32, 2, 3, 4);
      Tensor plan = DraftRule.allocatePlan(scope, device, 2);
      DraftRule.reset()
          .statistics(statistics)
          .plan(plan)
          .candidate(candidate)
          .modelLayers(32)
          .runOnce();
      DraftRule.update()
          .statistics(statistics)
          .plan(plan)
          .candidate(candidate)
          .modelLayers(32)
          .del(DraftRule.Form.CODE, 0, 18)
          .omega(.95f)
          .shadows(shadowToken.copyFrom(shadows), scope.copyOf(certain, 2, 3, 10))
          .finalToken(scope.copyOf(ones, 2, 10))
          .context(scope.copyOf(new int[] {10, 10}, 2))
          .runOnce();
      int[] words = plan.toIntArray();
      System.out.printf(
          "next, layers [%d, %d] draft [%d, %d] tokens%n", words[1], words[5], words[2], words[6]);
    }
  }
}
