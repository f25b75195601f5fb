// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Gate;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** A learned linear gate: the probability that a hidden state may leave here. */
public final class GateExample {
  private GateExample() {}

  // Prints
  //   [0.5, 0.182426]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor features = scope.copyOf(new float[] {1, 2, -1, 0}, 2, 2);
      Tensor weight = scope.copyOf(new float[] {.5f, .25f}, 1, 2);
      Tensor bias = scope.copyOf(new float[] {-1}, 1);
      Tensor probability = scope.allocate(DType.F32, 2);
      Gate.builder().features(features).linear().output(weight, bias).prob(probability).runOnce();
      System.out.println(Arrays.toString(probability.toFloatArray()));
    }
  }
}
