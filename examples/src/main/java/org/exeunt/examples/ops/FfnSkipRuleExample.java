// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.FfnSkipRule;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** A token's blocks change little from layer 1 on, so the cold ones after it are skipped. */
public final class FfnSkipRuleExample {
  private FfnSkipRuleExample() {}

  // Prints
  //   layer 0 runs
  //   layer 1 runs
  //   layer 2 skips
  //   layer 3 skips
  //   layer 4 runs
  public static void main(String[] arguments) {
    float[] cosines = {.99f, .95f, Float.NaN, Float.NaN, .5f}; // a skipped block measures nothing
    try (Scope scope = Scope.open()) {
      Tensor cosine = scope.allocate(DType.F32, 1);
      Tensor skip = scope.allocate(DType.U8, 1);
      FfnSkipRule rule =
          FfnSkipRule.builder()
              .cosine(cosine)
              .state(FfnSkipRule.allocateState(scope, Device.defaultDevice(), 1))
              .skip(skip)
              .modelLayers(5)
              .coldLayers(1, 4)
              .warmUp(0)
              .threshold(.9f)
              .build(scope);

      rule.run(-1, 0);
      for (int layer = 0; layer < 5; layer++) {
        boolean skips = skip.toIntArray()[0] == 1;
        System.out.println("layer " + layer + (skips ? " skips" : " runs"));
        if (layer < 4) {
          cosine.copyFrom(new float[] {cosines[layer]});
          rule.run(layer, 0);
        }
      }
    }
  }
}
