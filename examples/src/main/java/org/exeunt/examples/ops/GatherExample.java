// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.Gather;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** Two of four tokens go on: their hidden states and positions, and their keys in place. */
public final class GatherExample {
  private GatherExample() {}

  // Prints
  //   hidden    [10.0, 11.0, 30.0, 31.0]
  //   head 0    [2.0, 4.0]
  //   head 1    [6.0, 8.0]
  //   positions [6, 8]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      Tensor hidden = scope.copyOf(new float[] {0, 1, 10, 11, 20, 21, 30, 31}, 4, 2);
      Tensor keys = scope.copyOf(new float[] {1, 2, 3, 4, 5, 6, 7, 8}, 2, 4, 1);
      Tensor position = scope.copyOf(new int[] {5, 6, 7, 8}, 4);
      Tensor list = scope.copyOf(new int[] {1, 3, -1}, 3);
      Tensor kept = scope.allocate(DType.F32, 3, 2);
      Gather.builder()
          .list(list)
          .tensor(hidden, kept)
          .tensor(keys, keys, 1)
          .positions(position, position)
          .runOnce();
      System.out.println("hidden    " + Arrays.toString(kept.rows(0, 2).toFloatArray()));
      for (int head = 0; head < 2; head++) {
        Tensor first = keys.row(head).rows(0, 2);
        System.out.println("head " + head + "    " + Arrays.toString(first.toFloatArray()));
      }
      System.out.println("positions " + Arrays.toString(position.rows(0, 2).toIntArray()));
    }
  }
}
