// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Ffn;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** A feed-forward block for two rows, of which the second skips it. */
public final class FfnExample {
  private FfnExample() {}

  // Prints
  //   out [1.0, 0.7310586, 0.0, 1.0]
  //   cosine [0.8072798, NaN]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor hidden = scope.copyOf(new float[] {1, 0, 0, 1}, 2, 2);
      Tensor up = scope.copyOf(new float[] {1, 1}, 1, 2);
      Tensor down = scope.copyOf(new float[] {0, 1}, 2, 1);
      Tensor skip = scope.allocate(DType.U8, 2).copyFrom(new int[] {0, 1});
      Tensor cosine = scope.allocate(DType.F32, 2);
      Ffn.builder()
          .hidden(hidden)
          .up(up, null)
          .down(down, null)
          .activation(Ffn.Activation.SILU)
          .skip(skip)
          .out(hidden)
          .cosine(cosine)
          .runOnce();
      System.out.println("out " + Arrays.toString(hidden.toFloatArray()));
      System.out.println("cosine " + Arrays.toString(cosine.toFloatArray()));
    }
  }
}
