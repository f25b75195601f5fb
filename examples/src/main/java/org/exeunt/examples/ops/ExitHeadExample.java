// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import org.exeunt.DType;
import org.exeunt.ExitHead;
import org.exeunt.Scope;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Tensor;

/**
 * Hidden state → RMSNorm → language-model head → next token and confidence, in one kernel that
 * writes no logits.
 */
public final class ExitHeadExample {
  private ExitHeadExample() {}

  // Prints
  //   token 0 with p 0.7413
  //   token 2 with p 0.8702
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor hidden = scope.allocate(DType.F32, 1, 4);
      Tensor norm = scope.copyOf(new float[] {1, 1, 1, 1}, 4);
      Tensor weight =
          scope.copyOf(DType.BF16, new float[] {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1}, 3, 4);
      Statistics out = Statistics.allocate(scope, 1, Statistic.ARGMAX, Statistic.P1);
      ExitHead head =
          ExitHead.builder()
              .hidden(hidden)
              .rmsNorm(norm, 1e-5f)
              .weight(weight)
              .out(out)
              .build(scope);

      float[][] states = {{5, 1, 0, 0}, {0, 1, 4, 4}};
      for (float[] state : states) { // an engine would let its layer write into `hidden`
        hidden.copyFrom(state);
        head.run();
        System.out.printf(
            "token %d with p %.4f%n", out.argmax().toIntArray()[0], out.p1().toFloatArray()[0]);
      }
    }
  }
}
