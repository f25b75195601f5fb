// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitRule;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * Three tokens of a batch pass four layers; each leaves after the first layer that is sure enough.
 */
public final class ExitRuleExample {
  private ExitRuleExample() {}

  // Prints
  //   after layer 0 go on with [0, 2, -1]
  //   after layer 1 go on with [0, 2, -1]
  //   after layer 2 go on with [2, -1, -1]
  //   after layer 3 go on with [-1, -1, -1]
  //   left after [2, 0, 3]
  public static void main(String[] arguments) {
    float[][] confidence = {{.2f, .95f, .1f}, {.5f, .4f, .3f}, {.92f, .1f, .5f}, {.9f, .9f, .6f}};
    try (Scope scope = Scope.open()) {
      Device device = Device.defaultDevice();
      Tensor score = scope.allocate(DType.F32, 3);
      Tensor active = scope.allocate(DType.I32, 3);
      Tensor exitLayer = scope.allocate(DType.I32, 3);
      ExitRule rule =
          ExitRule.builder()
              .threshold(ExitRule.Comparator.GE, .9f)
              .score(score)
              .state(ExitRule.allocateState(scope, device, 3))
              .activeList(active)
              .exitLayer(exitLayer)
              .build(scope);

      for (int layer = 0; layer < 4; layer++) {
        score.copyFrom(confidence[layer]);
        rule.run(layer, layer == 0, layer == 3);
        System.out.println(
            "after layer " + layer + " go on with " + Arrays.toString(active.toIntArray()));
      }
      System.out.println("left after " + Arrays.toString(exitLayer.toIntArray()));
    }
  }
}
