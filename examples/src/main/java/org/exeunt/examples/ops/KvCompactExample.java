// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.DType;
import org.exeunt.KvCache;
import org.exeunt.Scope;
import org.exeunt.Tensor;

/** Each head of a paged cache keeps slots of its own; pages that are not needed come back. */
public final class KvCompactExample {
  private KvCompactExample() {}

  // Prints
  //   page 2  [10.0, 21.0, 40.0, 11.0]
  //   lengths [2, 1]
  //   freed   [0, 1, -1]
  public static void main(String[] arguments) {
    try (Scope scope = Scope.open()) {
      // Three pages of two slots; five slots are in use. Slot t of head h holds 10 t + h.
      Tensor pages = scope.copyOf(new int[] {2, 0, 1}, 1, 3);
      Tensor k =
          scope.copyOf(new float[] {20, 21, 30, 31, 40, 41, 50, 51, 0, 1, 10, 11}, 3, 2, 2, 1);
      Tensor v = scope.copyOf(new float[12], 3, 2, 2, 1);
      Tensor kept = scope.copyOf(new int[] {1, 4, 2, -1}, 2, 2);
      Tensor counts = scope.copyOf(new int[] {2, 1}, 2);
      Tensor length = scope.copyOf(new int[] {5}, 1);
      Tensor lengths = scope.allocate(DType.I32, 2);
      Tensor freed = scope.allocate(DType.I32, 3);
      KvCache.ofPages(k, v, pages)
          .compact()
          .perHead(true)
          .padded(kept, counts)
          .length(length)
          .newLength(lengths)
          .freed(freed, scope.allocate(DType.I32, 1))
          .runOnce();
      System.out.println("page 2  " + Arrays.toString(k.row(2).reshape(4).toFloatArray()));
      System.out.println("lengths " + Arrays.toString(lengths.toIntArray()));
      System.out.println("freed   " + Arrays.toString(freed.toIntArray()));
    }
  }
}
