// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.CrossEntropy;
import org.exeunt.DType;
import org.exeunt.Normalizer;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** The StableMax cross-entropy of two rows and its gradient, in one pass over the logits. */
public final class CrossEntropyExample {
  private CrossEntropyExample() {}

  // Prints
  //   mean loss 2.5217125
  //   gradient of row 1 [0.1, 0.1, 0.1, 0.1, -0.4]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor logits = scope.copyOf(new float[] {-3, -1, 0, 1, 3, 0, 0, 0, 0, 0}, 2, 5);
      Tensor labels = scope.copyOf(new int[] {0, 4}, 2);
      Tensor loss = scope.allocate(DType.F32, 1);
      Tensor gradient = scope.allocate(DType.F32, 2, 5);
      CrossEntropy crossEntropy =
          CrossEntropy.builder()
              .logits(logits)
              .labels(labels)
              .normalizer(Normalizer.STABLEMAX)
              .loss(loss)
              .grad(gradient)
              .build(scope);
      crossEntropy.run(); // once for each batch: fill logits and labels again, and run

      System.out.println("mean loss " + loss.toFloatArray()[0]);
      System.out.println("gradient of row 1 " + Arrays.toString(gradient.row(1).toFloatArray()));
    }
  }
}
