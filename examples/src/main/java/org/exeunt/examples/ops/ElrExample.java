// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Elr;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * Early-learning regularisation of two samples, one with a wrong label: what that pulls the network
 * to fades from epoch to epoch, as the sample's target remembers what the network said before.
 */
public final class ElrExample {
  private ElrExample() {}

  // Prints
  //   epoch 0: gradient [0.365084, -0.402644, 0.03756]
  //   epoch 1: gradient [0.301892, -0.357866, 0.055974]
  //   epoch 2: gradient [0.23569, -0.310956, 0.075265]
  //   epoch 3: gradient [0.17055, -0.264797, 0.094247]
  //   target [0.6412, 0.086777, 0.031923]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor targets = scope.copyOf(new float[6], 2, 3); // of all samples, 0 before the first epoch
      Tensor gradient = scope.allocate(DType.F32, 2, 3);
      Elr elr =
          Elr.builder()
              .logits(scope.copyOf(new float[] {2, 0, -1, 2, 0, -1}, 2, 3))
              .labels(scope.copyOf(new int[] {0, 1}, 2)) // the second should be 0, too
              .index(scope.copyOf(new int[] {0, 1}, 2)) // which samples this batch has
              .targets(targets)
              .grad(gradient)
              .build(scope);
      for (int epoch = 0; epoch < 4; epoch++) {
        elr.run();
        System.out.println(
            "epoch " + epoch + ": gradient " + Arrays.toString(gradient.row(1).toFloatArray()));
      }
      System.out.println("target " + Arrays.toString(targets.row(1).toFloatArray()));
    }
  }
}
