// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.AttentionScores;
import org.exeunt.DType;
import org.exeunt.KvCache;
import org.exeunt.Scope;
import org.exeunt.Selection;
import org.exeunt.Tensor;

/** PromptDistill: the two tokens that the last one attends to most, and the last one itself. */
public final class AttentionScoresExample {
  private AttentionScoresExample() {}

  // Prints
  //   scores [0.2, 1.2, 1.2, 1.0, 0.6, 0.6, -0.4, -Infinity]
  //   kept   [1, 2, 7]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      // One head of one element; the prompt has eight tokens.
      Tensor keys = scope.copyOf(new float[] {1, 0, 0, 5, 0, 0, -2, 3}, 1, 8, 1);
      Tensor last = scope.copyOf(new float[] {1}, 1, 1, 1);
      Tensor scores = scope.allocate(DType.F32, 1, 1, 8);
      Selection selection =
          Selection.allocate(scope, 1, 3).withK(2).withKeep(scope.copyOf(new int[] {7, 8}, 1, 2));
      AttentionScores.promptDistill()
          .query(last)
          .keys(KvCache.ofHeadMajor(keys, null))
          .visible(scope.copyOf(new int[] {8}, 1))
          .limit(scope.copyOf(new int[] {7}, 1))
          .scores(scores)
          .select(selection)
          .runOnce();
      System.out.println("scores " + Arrays.toString(scores.toFloatArray()));
      System.out.println("kept   " + Arrays.toString(selection.indices().toIntArray()));
    }
  }
}
