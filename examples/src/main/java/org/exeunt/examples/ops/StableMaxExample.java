// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Normalizer;
import org.exeunt.Scope;
import org.exeunt.StableMax;
import org.exeunt.Tensor;

/**
 * StableMax and softmax of the same logits: where softmax is exactly (1, 0, 0), StableMax still
 * tells the losers apart.
 */
public final class StableMaxExample {
  private StableMaxExample() {}

  // Prints
  //   SOFTMAX [1.0, 0.0, 0.0]
  //   STABLEMAX [0.9974813, 0.0000249, 0.0024937]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor logits = scope.copyOf(new float[] {399, -99, 0}, 1, 3);
      Tensor probabilities = scope.allocate(DType.F32, 1, 3);
      for (Normalizer normalizer : Normalizer.values()) {
        StableMax.forward().logits(logits).normalizer(normalizer).out(probabilities).runOnce();
        System.out.println(normalizer + " " + Arrays.toString(probabilities.toFloatArray()));
      }
    }
  }
}
