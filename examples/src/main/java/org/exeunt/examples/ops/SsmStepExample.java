// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Scope;
import org.exeunt.SsmStep;
import org.exeunt.Tensor;
import org.exeunt.examples.exits.MambaExit;

/** A step of a Mamba block by itself, then a block that says which rows may leave (DYNAMAX). */
public final class SsmStepExample {
  private SsmStepExample() {}

  // Prints
  //   h [0.735462], gated y [0.522578]
  //   first token  [0.442636, 0.375324]
  //   row 1 is off [0.405705, 0.377541]
  //   third token  [0.383917, 0.3852]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor h = scope.copyOf(new float[] {.4f}, 1, 1, 1);
      Tensor y = scope.allocate(DType.F32, 1, 1);
      SsmStep.scan()
          .x(of(scope, 1, 1, 2))
          .state(h)
          .weight(of(scope, 1, 1, -1)) // A = -exp(A_log)
          .dt(of(scope, 1, 1, .5f))
          .b(of(scope, 1, 1, .3f))
          .c(of(scope, 1, 1, .7f))
          .skip(scope.copyOf(new float[] {.1f}, 1))
          .z(of(scope, 1, 1, 1))
          .out(y)
          .runOnce();
      System.out.println("h " + Arrays.toString(h.toFloatArray()) + ", gated y "
          + Arrays.toString(y.toFloatArray()));

      MambaExit.Weights weights = new MambaExit.Weights(of(scope, 4, 2, 1, 0, 0, 1, 1, 1, 0, .5f),
          of(scope, 2, 2, .5f, 1, 1, .5f), scope.copyOf(new float[] {0, .25f}, 2),
          of(scope, 3, 2, 1, 0, .5f, .5f, 0, 1), of(scope, 2, 1, .5f, 1),
          scope.copyOf(new float[] {0, -1}, 2), of(scope, 2, 1, -1, -2),
          scope.copyOf(new float[] {1, .5f}, 2), of(scope, 1, 2, .25f, .5f),
          scope.copyOf(new float[] {-.5f}, 1));
      Tensor hidden = of(scope, 2, 2, 1, .5f, .5f, -1);
      Tensor sequence = scope.copyOf(new int[] {0, 1}, 2);
      Tensor active = scope.allocate(DType.U8, 2).copyFrom(new int[] {1, 1});
      Tensor probability = scope.allocate(DType.F32, 2);
      MambaExit exit = new MambaExit(scope, weights, hidden, sequence, active, 2, probability);
      exit.run();
      System.out.println("first token  " + Arrays.toString(probability.toFloatArray()));
      hidden.copyFrom(new float[] {-.5f, 1, 1, 1});
      active.copyFrom(new int[] {1, 0});
      exit.run();
      System.out.println("row 1 is off " + Arrays.toString(probability.toFloatArray()));
      hidden.copyFrom(new float[] {1, -.5f, .25f, .5f});
      active.copyFrom(new int[] {1, 1});
      exit.run();
      System.out.println("third token  " + Arrays.toString(probability.toFloatArray()));
    }
  }

  private static Tensor of(Scope scope, int rows, int columns, float... values) {
    return scope.copyOf(values, rows, columns);
  }
}
