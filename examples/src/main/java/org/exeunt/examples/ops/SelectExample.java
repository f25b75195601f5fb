// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.Scope;
import org.exeunt.Select;
import org.exeunt.Selection;
import org.exeunt.Tensor;

/**
 * The two best tokens of a prompt's first four, without the first, and its end whatever it scores.
 */
public final class SelectExample {
  private SelectExample() {}

  // Prints
  //   4 tokens stay: [2, 3, 4, 5, -1]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor scores = scope.copyOf(new float[] {9, 1, 5, 7, 0, 3}, 1, 6);
      Tensor limit = scope.copyOf(new int[] {4}, 1);
      Selection selection =
          Selection.allocate(scope, 1, 5)
              .withK(2)
              .withDrop(scope.copyOf(new int[] {0, 1}, 1, 2))
              .withKeep(scope.copyOf(new int[] {4, 6}, 1, 2));
      Select.builder().scores(scores).limit(limit).select(selection).runOnce();
      System.out.println(selection.count().toIntArray()[0]
          + " tokens stay: " + Arrays.toString(selection.indices().toIntArray()));
    }
  }
}
