// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.DraftLookup;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/**
 * Two texts, of which the first quotes itself, are drafted three tokens each; a target has let two
 * through and found another, and the next draft goes on after them.
 */
public final class DraftLookupExample {
  private DraftLookupExample() {}

  // Prints
  //   drafted [13, 14, 15, -1, -1, -1], so many [3, 0], matched [2, 0]
  //   drafted [11, 12, 13, -1, -1, -1], so many [3, 0], matched [1, 0]
  //   texts of [11, 6] tokens
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor context = scope.allocate(DType.I32, 2, 16);
      context.intBuffer().put(new int[] {10, 11, 12, 13, 14, 15, 11, 12});
      context.intBuffer().position(16).put(new int[] {1, 2, 3, 4, 5, 6});
      Tensor length = scope.copyOf(new int[] {8, 6}, 2);
      Tensor found = scope.copyOf(new int[] {-1, -1, -1, -1, -1, -1, -1, -1}, 2, 4);
      Tensor drafted = scope.allocate(DType.I32, 2, 3);
      Tensor draftLength = scope.allocate(DType.I32, 2);
      Tensor matched = scope.allocate(DType.I32, 2);
      DraftLookup lookup =
          DraftLookup.builder()
              .context(context)
              .length(length)
              .append(found)
              .drafted(drafted)
              .draftLength(draftLength)
              .matched(matched)
              .ngram(1, 4)
              .build(scope);

      for (int round = 0; round < 2; round++) {
        lookup.run();
        System.out.println("drafted " + Arrays.toString(drafted.toIntArray()) + ", so many "
            + Arrays.toString(draftLength.toIntArray()) + ", matched "
            + Arrays.toString(matched.toIntArray()));
        found.intBuffer().put(0, 13).put(1, 14).put(2, 10); // what a Verify would write
      }
      System.out.println("texts of " + Arrays.toString(length.toIntArray()) + " tokens");
    }
  }
}
